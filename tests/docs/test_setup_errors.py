"""docs/errors.md has every reason for which the setup scripts fail, in their words."""

import re
from pathlib import Path

from tests.every import every

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
HEADER = "\n| reason | what to do |\n|---|---|\n"


def scripts() -> str:
    """Return the text of the setup scripts with each message on one line, and `…` for what is filled in."""
    files = [ROOT / "pi_cli" / "pods" / "shell.py", *sorted((ROOT / "remote").rglob("*.sh"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    text = re.sub(r'" \\\n\s+"', " ", text).replace("\\`", "`").replace('\\"', '"')
    return re.sub(r"\$\{[^{}]*\}|\$\([^()]*(?:\([^()]*\)[^()]*)*\)|\$\w+", "…", text)


SCRIPTS = scripts()
ROWS = PAGE.split("\n## Setting up a pod", 1)[1].split(HEADER, 1)[1].split("\n\n", 1)[0].splitlines()
REASONS = [row.split(" | ", 1)[0].removeprefix("| ") for row in ROWS]
MESSAGES = sorted(set(re.findall(r'\bfail "([^"]*[a-z ]{4}[^"]*)"', SCRIPTS)))


def literals(message: str) -> list[str]:
    """Return the parts of a message between what is filled in."""
    return [part for each in re.split(r"…|\{.*?\}", message) if len(part := each.strip(' ,:()`"')) > 3]


@every(REASONS)
def test_every_reason_in_the_page_is_one_that_the_scripts_give(reason: str) -> None:
    assert [part for part in literals(reason) if part not in SCRIPTS] == []


@every(MESSAGES)
def test_every_reason_that_the_scripts_give_is_in_the_page(message: str) -> None:
    assert any(literals(message.partition(": ")[0])[0] in reason for reason in REASONS)


def test_the_messages_are_found() -> None:
    assert len(MESSAGES) > 30
    assert "not Debian or Ubuntu: apt-get is missing" in MESSAGES
