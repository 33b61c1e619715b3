"""What is answered without Typer: plain lines of the commands that run often, and completion of models.

(`python -c pass` takes 11 ms, importing Typer 40.) All else goes through Typer, with the same result.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

COMMANDS_OF_A_MODEL = ("stop", "logs", "prompt", "run", "env", "forward", "check")  # their first argument is a model
COMMANDS_OF_THE_CATALOGUE = ("start", "models")  # their first argument is a model of the catalogue
SHELLS = ("complete_bash", "complete_zsh", "complete_fish")


def answer(arguments: Sequence[str], prepare: Callable[[], None]) -> bool:
    """Handle a command line, if it is one of these; return whether it was. `prepare` is called before a command."""
    if "_PI_COMPLETE" in os.environ:
        return _complete(os.environ)
    from pi_cli.commands import quick_words

    call = quick_words.read(arguments)
    if call is None:
        return False
    prepare()
    call.run()
    return True


def _complete(environ: Mapping[str, str]) -> bool:
    """Complete `pi COMMAND NAM…` with running models or those of the catalogue, for bash, zsh and fish."""
    shell = environ["_PI_COMPLETE"]
    if shell not in SHELLS or environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return False
    line = environ.get("COMP_WORDS" if shell == "complete_bash" else "_TYPER_COMPLETE_ARGS", "")
    words = line.split()
    if shell == "complete_bash":
        if environ.get("COMP_CWORD") != "2":
            return False
    elif line.endswith(" "):
        words.append("")
    incomplete = words[2] if len(words) == 3 else ""
    if not 2 <= len(words) <= 3 or words[1] not in COMMANDS_OF_A_MODEL + COMMANDS_OF_THE_CATALOGUE:
        return False
    from pi_cli.commands.names import complete_catalogue, complete_model

    complete = complete_model if words[1] in COMMANDS_OF_A_MODEL else complete_catalogue
    names = complete(incomplete)
    if not names:
        return False
    lines = [_line(name if isinstance(name, tuple) else (name, ""), shell) for name in names]
    choices = "\n".join(lines)
    sys.stdout.write(f"_arguments '*: :(({choices}))'\n" if shell == "complete_zsh" else f"{choices}\n")
    return True


def _line(candidate: tuple[str, str], shell: str) -> str:
    """Write a candidate as Typer's classes for the shells do."""
    value, description = candidate
    if not description or shell == "complete_bash":
        return f'"{value}"' if shell == "complete_zsh" else value
    if shell == "complete_fish":
        return f"{value}\t{description}"
    for sign, escaped in (('"', '""'), ("'", "''"), ("$", "\\$"), ("`", "\\`"), (":", "\\\\:")):
        description = description.replace(sign, escaped)
    return f'"{value}":"{description}"'
