"""Where pi begins, as `pi` and as `python -m pi_cli`."""

from typing import NoReturn

from pi_cli import interrupts


def run() -> NoReturn:
    """Run pi. Loading it takes a moment, in which Ctrl+C ends it as quietly as later."""
    interrupts.leave_at_once()
    from pi_cli.commands.main import main

    main()


if __name__ == "__main__":
    run()
