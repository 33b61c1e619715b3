"""pi's messages, help, pages and names of tests are in plain technical English, without the phrases of the stop list.

The rule and its reasons are in docs/style.md.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands.app import app

ROOT = Path(__file__).parents[2]
PI: Any = get_command(app)

STOP_LIST = {
    r"(?<![Tt]here )\b(?:is|was|are|were) no (?!longer\b|more than\b)": "is not a …, or has no …",
    r"\b(?:some|no|any)body(?:'s)?\b|\bwhoever\b|\bwhomever\b": "the pod, the server, another client, the user",
    r"(?:^|[.:;] )[Ww]ho (?!is\b|are\b)\w": "a noun as the subject: the user who …, a client that …",
    r"\b(?:he|him|his)\b": "the noun, or they",
    r"\bsuch as `pi\b": "for example `pi …`",
    r"\bas it is\b": "unchanged",
    r"\bin between\b": "between them; for a connection: intercepted",
    r"\bso long(?! as\b)|\bso long as it\b|\bso many (?:GPUs|tokens|bytes)\b": "the duration or the number",
    r"\bno matter who\b|\bit is up to\b|\bcomes? to\b|\bmeanwhile\b|\blest\b|\bfor ever\b|\banew\b": "plain words",
    r"\blets? go\b|\bletting go\b|\bsee[ns]? off\b|\bhang(?:s|ing)? up on\b": "close, disconnect, release",
    r"\btak(?:e|es|en|ing) back\b|\btakes? .{1,20} back\b": "undo, roll back, cancel",
    r"\b(?:is|are|was|be|been) told\b|\btells? (?:of|apart|how|what|whether|that|the time)\b": "report, show, know",
    r"\b(?:can|could|cannot) be told\b|\bthat is to be seen\b": "is unknown",
    r"\bgo(?:es|ing)? on\b": "continue, keep running",
    r"\bmade again\b|\bis begun\b|\bwas begun\b": "reconnect, restart, start",
    r"\bends? the (?:watching|looking)\b": "stop following",
    r"\bmend(?:s|ed|ing)?\b": "repair, fix",
    r"\bof no use\b|\bno use\b": "does not work, cannot be used",
    r"\bwithout a word\b|\blast words?\b|\bin (?:its|their) own words\b": "without output; the last lines; quoted",
    r"\bof (?:yours|ours|theirs|one's own)\b": "your, our, their",
    r"\bfalls? silent\b|\bstands? for something\b|\bha(?:s|ve) come\b(?! back)": "stall, exist, arrive",
}
PATTERNS = {"KnownCause", "re.compile", "re.search", "re.fullmatch", "re.match", "re.sub", "re.findall"}
QUOTED = ("demo/engine", "demo/stubs", "demo/bin")  # other programs' own words
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"),  # that one is the help
]


def texts() -> Iterator[tuple[str, str]]:
    """Yield (room or page, text) for all that a user or a contributor reads."""
    yield from (("commands", text) for text in help_texts(PI))
    for path in sorted((ROOT / "pi_cli").rglob("*.py")):
        name = path.relative_to(ROOT / "pi_cli").as_posix()
        if not name.startswith(QUOTED):
            yield from ((name.partition("/")[0].removesuffix(".py"), text) for text in messages(path))
    for path in sorted((ROOT / "remote").rglob("*.py")):
        yield from (("remote", text) for text in messages(path))
    for path in sorted((ROOT / "remote").rglob("*.sh")):
        yield from (("remote/setup", text) for text in shell_messages(path))
    for page in PAGES:
        yield from ((str(page.relative_to(ROOT)), text) for text in paragraphs(page))


def help_texts(command: Any) -> Iterator[str]:
    """Yield the help of a command, of its parameters, and of its subcommands."""
    yield " ".join((command.help or "").split())
    yield from (parameter.help for parameter in command.params if getattr(parameter, "help", None))
    if isinstance(command, TyperGroup):
        for name in command.commands:
            yield from help_texts(command.get_command(Context(command), name))


def messages(path: Path) -> Iterator[str]:
    """Yield the texts in a module that people may read: all of several words, but for docstrings and patterns."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in ast.walk(node)} - {id(node)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in PATTERNS:
            silent |= {id(part) for argument in node.args[:1] for part in ast.walk(argument)}
    for node in ast.walk(tree):
        if id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            yield node.value


def shell_messages(path: Path) -> Iterator[str]:
    """Yield the texts in double quotes behind `say`, `warn`, `skip`, `fail` and their like, and the titles of steps."""
    text = re.sub(r'" \\\n\s+"', " ", path.read_text(encoding="utf-8"))
    yield from re.findall(r'\b(?:say|warn|skip|fail|give_up|echo|step \w+ \d+) "((?:[^"\\]|\\.)*)"', text)


def paragraphs(page: Path) -> Iterator[str]:
    """Yield the paragraphs and table cells of a page, without code; of docs/style.md not the phrases it warns of."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?=- )", text):
        if paragraph.startswith("    "):
            continue
        for line in paragraph.splitlines() if paragraph.startswith("|") else [" ".join(paragraph.split())]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield from cells[1:] if page.name == "style.md" and line.startswith("|") else cells


def test_messages_help_and_pages_are_in_plain_english() -> None:
    places = list(texts())
    assert {"commands", "remote/setup", "README.md"} < {place for place, _ in places}
    assert [
        f"{place}: {match[0].strip(' .:;')!r} in {text!r}: write {better}"
        for place, text in places
        for phrase, better in STOP_LIST.items()
        if (match := re.search(phrase, text))
    ] == []


def test_messages_and_help_do_not_name_files_that_only_the_repository_has() -> None:
    """An installed pi has its pages as `pi help PAGE`."""
    shown = [(place, text) for place, text in texts() if not place.endswith(".md")]
    assert any("`pi help ssh`" in text for _, text in shown)
    assert [(place, text) for place, text in shown if re.search(r"\bdocs/[\w-]+\.md|\bREADME\.md", text)] == []


def test_names_of_tests_are_in_plain_english() -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    claims = [
        name.replace("_", " ") for source in sources for name in re.findall(r"^def test_(\w+)", source, re.MULTILINE)
    ]
    assert len(claims) > 1000
    assert [
        f"{match[0]!r} in {claim!r}: write {better}"
        for claim in claims
        for phrase, better in STOP_LIST.items()
        if (match := re.search(phrase, claim))
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "`x` is no number of tokens", "somebody took the port", "close it; who waits is disconnected",
        "such as `pi list`", "it goes on loading", "the link is made again", "taking back the start",
    ],
)  # fmt: skip
def test_the_stop_list_finds(text: str) -> None:
    assert [phrase for phrase in STOP_LIST if re.search(phrase, text)]


@pytest.mark.parametrize(
    "text", ["There is no pod `dc1`", "it is no longer there", "as long as it runs", "the user who started it"]
)
def test_the_stop_list_does_not_find(text: str) -> None:
    assert not [phrase for phrase in STOP_LIST if re.search(phrase, text)]
