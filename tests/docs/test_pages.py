"""The pages name only what exists: files, make targets, commands and their options."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands import other_words
from pi_cli.commands.app import app
from pi_cli.store import pages
from tests.conftest import Pi
from tests.every import every

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / ".github").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PI: Any = get_command(app)
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def texts() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")


def links() -> Iterator[tuple[str, str]]:
    for page, text in texts():
        yield from ((page, link) for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link)


def commands() -> Iterator[str]:
    """Yield every command line of pi, in a block or between backticks."""
    for _, text in texts():
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        fenced = "".join(inside for language, inside in fences if not language)
        found = re.findall(r"^    (?:\$ )?(pi(?: [^\n\\]+)?)", text, re.MULTILINE)
        found += re.findall(r"^(pi(?: [^\n\\]+)?)", fenced, re.MULTILINE)
        found += re.findall(r"(?<!`)`(pi(?: [^`\n]+)?)`", text)
        for command in found:
            yield re.sub(r"\$\(pi [^)]*\)", "NAME", command)
            yield from re.findall(r"\$\((pi [^)]*)\)", command)


def unknown(words: list[str]) -> str | None:
    """Return the first word that is not a command of pi or one of its options."""
    command = PI
    options = {"-h", "--help"}
    while words and words[0] not in ("--", "--vllm", "|"):
        word = words.pop(0)
        if word == "ssh" and command.name == "setup":
            return None  # what follows is the ssh command
        options |= {name for each in command.params for name in [*each.opts, *each.secondary_opts]}
        if isinstance(command, TyperGroup) and words and f"{word} {words[0]}" in command.commands:
            word = f"{word} {words.pop(0)}"
        if isinstance(command, TyperGroup) and re.fullmatch(r"[a-z ]+", word):
            if word not in command.commands:
                return word
            command = command.get_command(Context(command), word)
        elif command.name == "ssh" and not word.startswith("-"):
            return None  # the rest is a command for the pod
        elif word.startswith("-") and word != "-" and word not in options:
            return word
    return None


@every(lambda: sorted(set(links())))
def test_every_link_leads_to_a_file(page: str, link: str) -> None:
    assert (ROOT / page).parent.joinpath(link).exists()


@every(lambda: sorted(set(commands())))
def test_every_command_shown_is_one_that_pi_has(line: str) -> None:
    words = shlex.split(line.replace("…", ""), comments=True)[1:]
    assert unknown(other_words.without_aliases(words)) is None


STARTS = sorted({line for line in commands() if re.match(r"pi start [\w.-]+/[\w.-]+ ", line) and "=" not in line})


@pytest.mark.parametrize("line", STARTS)
def test_every_start_shown_has_a_plan_on_large_hardware(line: str, environment: Path, pi: Pi) -> None:
    pod = {"ssh": "ssh root@1.2.3.4", "gpus": [{"id": id, "name": "NVIDIA H200", "memory": "141GB"} for id in range(8)]}
    cpu = {"ssh": "ssh root@5.6.7.8", "vllm": "0.32.0+cpu"}
    (environment / ".pi").mkdir()
    (environment / ".pi/pods.json").write_text(
        json.dumps({"pods": {"dc1": pod, "dc2": pod, "try": cpu}, "active": "dc1"})
    )
    words = shlex.split(line, comments=True)[2:]
    shown = pi("start", "--dry-run", *(word for word in words if word != "--dry-run"))
    assert shown.code == 0, shown.err


def test_every_make_target_named_exists() -> None:
    named = {name for _, text in texts() for name in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)}
    assert "quick" in named
    assert named <= TARGETS


def test_every_python_example_can_be_parsed() -> None:
    block = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    examples = [code for _, text in texts() for code in block.findall(text)]
    assert len(examples) > 5
    for code in examples:
        ast.parse(code)


def test_the_contributing_page_names_what_ci_runs() -> None:
    [targets] = re.findall(
        r"^for target in (.*); do$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert all(f"`make {target}`" in CONTRIBUTING for target in targets.split())


def test_every_target_is_in_the_help_of_make() -> None:
    assert set(re.findall(r'@echo "make ([a-z-]+)', MAKEFILE)) == TARGETS - {"help"}


@every(sorted(set(re.findall(r"\btests/[\w./-]*\w", MAKEFILE))))
def test_every_path_in_the_makefile_exists(path: str) -> None:
    assert (ROOT / path).exists()


NOT_SHIPPED = {"architecture.md", "style.md"}  # for contributors


def test_pi_help_has_every_page_for_users_and_the_index_lists_them() -> None:
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - NOT_SHIPPED == {
        Path(file).name for file in pages.PAGES.values() if file.startswith("docs/")
    }
    rows = re.findall(r"^\| \[([\w-]+)\]\(([^)]+)\) \|", (ROOT / "docs/README.md").read_text("utf-8"), re.MULTILINE)
    assert {name: (ROOT / "docs" / file).resolve() for name, file in rows} == {
        name: ROOT / file for name, file in pages.PAGES.items() if name != "pages"
    }


def test_ratios_in_the_readme_are_those_of_the_page_of_performance() -> None:
    rows = (ROOT / "docs/performance.md").read_text(encoding="utf-8").splitlines()
    for figure, named in (("13", r"first token in (\S+) of"), ("7", r"of 8 models takes (\S+) of")):
        [row] = [row for row in rows if row.startswith(f"| {figure} |") and "ms |" in row]
        [ratio] = re.findall(named, README)
        assert f"| {ratio} (" in row
