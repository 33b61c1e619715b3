"""Make `python -m pi_cli` the same as `pi`."""

from pi_cli.commands.main import main

main()
