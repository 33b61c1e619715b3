"""What pi prints for the quick start of README.md, word for word, on a terminal of 80 columns and an embedded pod."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.terminal import at_a_terminal
from tests.view.screen import Screen

README = Path(__file__).parents[2] / "README.md"
MACHINE = "1x RTX 4090 24GB"
COLUMNS = 80
TOKEN, PLACEHOLDER = "hf_0123456789", "hf_…"
ADDRESS = "ssh root@1.2.3.4"  # the two words of the quick start that a reader replaces

PROGRESS = re.compile(r"^.{0,40}\b\d+:\d\d  .*\n", re.MULTILINE)  # how many lines there are depends on the machine
DURATION = r"(?:\d+[dhm] ?)*\d[\d.]* ?m?s\b"
PHASES = re.compile(rf"[:,(] ?[A-Za-z' ]+ {DURATION}\)?")  # `: starting vLLM 1s, loading weights 2s`: which took long
# Which columns a list has room for depends on how many digits a PID and a port have.
LIST = re.compile(r"^ *(?:POD +)?NAME +STATUS .*\n.*\n", re.MULTILINE)
NUMBERS = re.compile(rf"{DURATION}|\d[\d.,:]*")


@dataclass(frozen=True)
class Step:
    """A line of the quick start, and what is on the terminal when it has ended."""

    line: str
    code: int
    screen: Screen


def quick_start() -> list[str]:
    """Return the lines of the quick start."""
    section = README.read_text(encoding="utf-8").partition("## Quick start\n")[2].partition("\n## ")[0]
    [block, *_] = re.findall(r"(?:^    (?:export|pi) .*\n)+", section, re.MULTILINE)
    return [line.removeprefix("    ") for line in block.splitlines()]


def walk(pod: EmbeddedPod, environ: Mapping[str, str]) -> Iterator[Step]:
    """Run the quick start, one line after the other."""
    variables = dict(environ)
    for line in quick_start():
        words = [
            each.replace(ADDRESS, pod.ssh).replace(PLACEHOLDER, TOKEN) for each in shlex.split(line, comments=True)
        ]
        if words[0] == "export":
            variables |= dict(word.split("=", 1) for word in words[1:])
            continue
        with at_a_terminal(*words[1:], columns=COLUMNS, environ=variables) as terminal:
            code = terminal.process.wait(60)
        screen = Screen(COLUMNS)
        screen.raw = terminal.raw
        yield Step(line, code, screen)


@contextmanager
def machine() -> Iterator[EmbeddedPod]:
    """A machine with a card of 24 GB, as slow as that of `pi demo`: each phase is seen."""
    with EmbeddedPod(MACHINE) as pod:
        yield pod


def transcript(steps: list[Step]) -> str:
    """Return what README shows: each line of the quick start after the setup, and below it what pi prints."""
    shown = [each for each in steps if each.line.split()[1] not in ("key", "pods")]
    rows = [row for each in shown for row in (f"$ {each.line}", *each.screen.rows)]
    return "".join(f"    {row}".rstrip() + "\n" for row in rows)


def normal(text: str) -> str:
    """Return a text without what differs from one run to the next: times, ports, numbers and the room they take."""
    text = LIST.sub("(the list)\n", PROGRESS.sub("", text))
    return " ".join(NUMBERS.sub("0", PHASES.sub("", text)).split())
