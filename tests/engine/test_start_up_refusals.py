"""docs/vllm-refusals.md against the source of the vLLM that is installed: no refusal of a configuration is missing."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.engine.conftest import Engine

PAGE = Path(__file__).parents[2] / "docs" / "vllm-refusals.md"
QUESTION = Path(__file__).with_name("refusals.py")


def chapters() -> dict[str, list[list[str]]]:
    """Return the rows of the tables by the chapter of the page."""
    found: dict[str, list[list[str]]] = {}
    for chapter in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        rows = [line.strip("|").split("|") for line in chapter.splitlines() if line.startswith("| `")]
        found[chapter.partition("\n")[0]] = [[cell.strip() for cell in row] for row in rows]
    return found


def quoted() -> set[tuple[str, str]]:
    """Return the files and messages of the first two tables."""
    rows = [row for chapter in ("Checked", "Left to vLLM") for row in chapters()[chapter]]
    assert all(len(row) == 3 and row[2] for row in rows), "each message has an answer"
    return {(row[1].strip("`"), row[0].strip("`")) for row in rows}


def counted() -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the files and functions of the last two tables, and how many refusals are in each."""
    for chapter in ("Only with your own options", "Not about a configuration"):
        for row in chapters()[chapter]:
            for function, count in re.findall(r"`([^`]+)` (\d+)", row[1]):
                yield (row[0].strip("`"), function), int(count)


def as_on_the_page(message: str) -> str:
    return message.replace("`", "'").replace("|", "/")


def test_every_refusal_of_the_installed_vllm_is_on_the_page(engine: Engine) -> None:
    assert engine.setup.code == 0, engine.setup.err
    command = "VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -"
    done = engine.pod.run(command, input=QUESTION.read_text(encoding="utf-8"), timeout=120)
    [answer] = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    refusals = [(file, function, as_on_the_page(message)) for file, function, message in json.loads(answer[7:])]
    messages, functions = quoted(), Counter[tuple[str, str]]()
    for place, count in counted():
        functions[place] += count
    assert messages - {(file, message) for file, _, message in refusals} == set()
    others = Counter((file, function) for file, function, message in refusals if (file, message) not in messages)
    differing = {place for place in others | functions if others[place] != functions[place]}
    assert differing == set()
