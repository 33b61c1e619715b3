"""The answers of a batch, in the order of its requests: on stdout, or in a file that another run completes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from pi_cli.chat.batch import Answer
from pi_cli.chat.batch_items import Item
from pi_cli.errors import BadUsage, PiError


class Results(Protocol):
    """Where answers go; `done` has those of an earlier run, by the number of the line."""

    done: dict[int, dict[str, Any]]

    def add(self, answer: Answer) -> None:
        """Take an answer, in any order."""


def line_of(answer: Answer, request: str) -> dict[str, Any]:
    """Return an answer as an object: without what is not known, and of an error only that."""
    fields = {"line": answer.number, "id": answer.id, "request": request}
    if answer.error is not None:
        return {key: value for key, value in fields.items() if value is not None} | {"error": answer.error}
    fields |= {"answer": answer.text, "reasoning": answer.thinking or None, "finish": answer.finish}
    fields |= {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
    return {key: value for key, value in fields.items() if value is not None} | {"seconds": round(answer.seconds, 3)}


def digest(model: str, item: Item) -> str:
    """Return what identifies a request, so that an answer is not taken for one that has changed."""
    data = [model, item.messages, item.system, asdict(item.sampling)]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(slots=True)
class InOrder:
    """Writes each answer to a stream once all before it are there."""

    out: TextIO
    items: Sequence[Item]
    digests: dict[int, str]
    done: dict[int, dict[str, Any]] = field(default_factory=dict)
    _next: int = 0

    def add(self, answer: Answer) -> None:
        self.done[answer.number] = line_of(answer, self.digests[answer.number])
        while self._next < len(self.items) and (line := self.done.get(self.items[self._next].number)) is not None:
            self.out.write(_text(line))
            self._next += 1
        self.out.flush()


@dataclass(slots=True)
class InFile:
    """Appends each answer to `FILE.partial`; `finish` sorts them into the file, and deletes that."""

    path: Path
    items: Sequence[Item]
    digests: dict[int, str]
    journal: TextIO
    done: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        line = self.done[answer.number] = line_of(answer, self.digests[answer.number])
        self.journal.write(_text(line))
        self.journal.flush()

    def finish(self) -> None:
        """Replace the file. Lines that were not asked for are not in it."""
        partial = partial_of(self.path)
        sorted_file = partial.with_name(partial.name + ".new")
        with sorted_file.open("w", encoding="utf-8") as file:
            file.writelines(_text(self.done[item.number]) for item in self.items)
        sorted_file.replace(self.path)
        partial.unlink()


@contextmanager
def kept(path: Path, items: Sequence[Item], digests: dict[int, str]) -> Iterator[InFile]:
    """Open the results in a file, with the answers that it and its `.partial` have already; errors are asked again.

    Raises `BadUsage` if the file is something else, or cannot be written.
    """
    wanted = {item.number: digests[item.number] for item in items}
    done: dict[int, dict[str, Any]] = {}
    try:
        for file in (path, partial_of(path)):
            if file.exists():
                done |= {line["line"]: line for line in _lines(file) if wanted.get(line["line"]) == line["request"]}
        answered = {number: line for number, line in done.items() if "error" not in line}
        with partial_of(path).open("a+", encoding="utf-8") as journal:
            _end_line(journal)
            yield InFile(path, items, digests, journal, answered)
    except OSError as error:
        raise PiError(
            f"cannot write `{path}`: {error.strerror or error}", hint="give another file to `--out`"
        ) from error


def _end_line(journal: TextIO) -> None:
    """Begin a line of its own after one that a killed run has left."""
    if journal.tell():
        journal.seek(journal.tell() - 1)
        if journal.read(1) != "\n":
            journal.write("\n")


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the answers in a file; the last line of a run that was killed may be incomplete."""
    *whole, last = file.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, text in enumerate([*whole, last], start=1):
        try:
            match json.loads(text):
                case {"line": int(), "request": str()} as line:
                    yield line
                    continue
        except (ValueError, RecursionError):
            pass
        if text.strip() and not (number > len(whole) or file.suffix == ".partial"):
            raise BadUsage(
                f"`{file}` exists, and line {number} in it is not an answer of a batch",
                hint="give another file to `--out`",
            )


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=True) + "\n"
