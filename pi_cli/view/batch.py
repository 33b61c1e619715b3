"""The progress of a batch on a terminal, and one line about it at the end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.view import terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(slots=True)
class BatchProgress:
    """Counts answers and their tokens; `total` requests, of which an earlier run has answered some."""

    total: int
    answered: int
    failed: int = 0
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    _before: int = 0
    _bar: "tuple[Progress, TaskID] | None" = None

    def add(self, tokens: int | None, *, failed: bool) -> None:
        """Count one more answer."""
        self.failed += failed
        self.answered += not failed
        self.tokens += tokens or 0
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=self.answered + self.failed, rate=self._rate())

    def summary(self) -> str:
        """Return the line at the end: `500 answers, 3 failed · 123456 tokens in 1 min 32 s · 1342 tok/s`."""
        count = f"{self.answered} {'answer' if self.answered == 1 else 'answers'}"
        if self._before:
            count += f", {self._before} of an earlier run"
        if self.failed:
            count += f", {self.failed} failed"
        took = units.duration(time.monotonic() - self.began)
        return " · ".join([count, f"{self.tokens} tokens in {took}", *([self._rate()] if self.tokens else [])])

    def _rate(self) -> str:
        return f"{self.tokens / max(time.monotonic() - self.began, 1e-3):.0f} tok/s"


@contextmanager
def following(total: int, *, answered: int) -> Iterator[BatchProgress]:
    """Show a bar on a terminal while the block runs, and the line about the whole when it ends, however it ends."""
    counts = BatchProgress(total, answered, _before=answered)
    try:
        if sys.stderr.isatty() and terminal.err().is_interactive:
            with _bar(counts):
                yield counts
        else:
            yield counts
    finally:
        terminal.aside(counts.summary())


@contextmanager
def _bar(counts: BatchProgress) -> Iterator[None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=terminal.err(), transient=True) as progress:
        task = progress.add_task("", total=counts.total, completed=counts.answered, rate="")
        counts._bar = progress, task
        try:
            yield
        finally:
            counts._bar = None
