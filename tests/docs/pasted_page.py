"""Write docs/pasted.md from what pi makes of pasted texts: `python -m tests.docs.pasted_page > docs/pasted.md`."""

import sys
from pathlib import Path

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.ssh.ssh_command import parse
from tests.ssh.pasted_strings import PASTED

HEAD = """\
<!-- Written by `make docs` from what pi makes of each text. Change the code, or tests/ssh/pasted_strings.py. -->

# What can be pasted as an ssh command

`pi pods setup NAME "…"` takes the ssh command of a machine as users copy it: from a provider's page, a terminal, a file
or an API. A text from which pi cannot read one is refused with what to paste instead. Passwords are never used, stored
or shown: pi logs in with keys, and `***` is in their place.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(section(title, texts) for title, texts in PASTED.items())])


def section(title: str, texts: list[str]) -> str:
    rows = [f"| {code(text)} | {outcome(text)} |" for text in texts]
    return "\n".join([f"## {title}", "", "| pasted | what pi makes of it |", "|---|---|", *rows, ""])


def outcome(text: str) -> str:
    """Return the command that pi reads, with what it leaves out, or why it refuses the text, and its hint."""
    try:
        command = parse(text)
    except BadUsage as error:
        return cell(f"refused: {error.message.partition(': ')[2]}<br>{error.hint}")
    arguments = [word.replace(str(Path.home()), "~") for word in command.arguments()]
    left_out = "".join(f"<br>left out {code(option)}: {why}" for option, why in command.ignored.items())
    return f"{code(hints.command('ssh', *arguments).replace(chr(39) + '~', chr(39) + '~'))}{cell(left_out)}"


def code(text: str) -> str:
    """Return a text as code in a table's cell; a line break is shown as `⏎`."""
    text = text.replace("\n", " ⏎ ").replace("|", "\\|")
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(page())
