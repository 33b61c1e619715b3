"""What a comment, a docstring or a page says about another file is still so."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("pi_cli", "remote", "tests", "docs")
SOURCES = sorted(path for room in OURS[:3] for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".sh"))
PAGES = [path for path in ROOT.glob("*.md") if path.name != "models.md"]  # that one cites files of other projects
PAGES += [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]
FULL = re.compile(rf"(?<![\w/.-])((?:{'|'.join(OURS)})/[\w./-]*\w)")
BARE = re.compile(r"`([\w-]+\.(?:py|sh|toml))`")
TWICE = re.compile(r"^(\w+) = (\S+)  # .*\b((?:pi_cli|remote)/[\w/]+\.py)", re.MULTILINE)
NAMES = {path.name for path in [*SOURCES, ROOT / "pyproject.toml"]} | {"pi.toml", "config.toml"}  # these are the user's


def prose(path: Path) -> Iterator[str]:
    """Yield the comments and docstrings of a source file, or the lines of any other."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from (line for line in text.splitlines() if path.suffix != ".sh" or "#" in line)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def missing(path: Path) -> list[str]:
    """Return the files that a source file or a page names and that do not exist."""
    lines = list(prose(path))
    full = [name for text in lines for name in FULL.findall(text) if "NAME" not in name and not (ROOT / name).exists()]
    return full + [name for text in lines for name in BARE.findall(text) if name not in NAMES]


@pytest.mark.parametrize("room", OURS[:3])
def test_every_file_named_in_a_comment_exists(room: str) -> None:
    wrong = {str(path.relative_to(ROOT)): missing(path) for path in SOURCES if path.is_relative_to(ROOT / room)}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_every_file_named_in_a_page_exists() -> None:
    assert {page.name: missing(page) for page in PAGES if missing(page)} == {}


def test_a_constant_that_a_comment_says_is_written_twice_has_one_value() -> None:
    twice = [(path, *match) for path in SOURCES for match in TWICE.findall(path.read_text(encoding="utf-8"))]
    for path, name, value, other in twice:
        assert f"\n{name} = {value}" in (ROOT / other).read_text(encoding="utf-8"), (
            f"{path}: {name} is not as in {other}"
        )
