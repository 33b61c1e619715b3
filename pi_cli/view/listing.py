"""The models on the pods now: a table, also a live one for pods that are still being asked or are watched."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from pi_cli import units
from pi_cli.events import Event, Note
from pi_cli.hints import command, fill
from pi_cli.safe import safe
from pi_cli.view import questions, tables, terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pi_cli.models.model_status import Listed

STATUS_STYLES = {
    "ready": "green", "starting": "yellow", "unhealthy": "red", "orphaned": "red", "dead": "red", "unreachable": "red",
    "unknown": "red",
}  # fmt: skip
MIB = 1024**2


def show(models: "Sequence[Listed]") -> None:
    """Print the table, and below it how to stop orphaned models."""
    console = terminal.out()
    console.print(_table(models, console.width))
    for listed in models:
        if listed.status == "orphaned":
            used = f"{units.size(listed.memory[0] * MIB)} of GPU memory" if listed.memory else "GPU memory"
            remedy = fill("stop it with `pi stop {name} --pod {pod}`", name=listed.name, pod=listed.pod)
            terminal.note(f"`{listed.name}` has lost its server or its record, but still uses {used}; {remedy}")


class Board:
    """The answers of the pods so far, as a table that is redrawn when they change."""

    def __init__(self, pods: Iterable[str], console: "Console") -> None:
        self._models: dict[str, Sequence[Listed] | None] = dict.fromkeys(pods)
        self._started_at = time.monotonic()
        self._console = console

    def see(self, pod: str, models: "Sequence[Listed]") -> None:
        """Set the models of a pod that has answered."""
        self._models[pod] = models

    def report(self, event: Event) -> None:
        if isinstance(event, Note):
            terminal.note(f"{event.pod}: {event.text}", self._console)

    def draw(self) -> "RenderableType":
        from rich.console import Group

        known = [model for models in self._models.values() for model in models or ()]
        waiting = [pod for pod, models in self._models.items() if models is None]
        parts: list[RenderableType] = [_table(known, self._console.width)] if known else []
        if waiting:
            seconds = int(time.monotonic() - self._started_at)
            parts.append(Text(f"asking {', '.join(waiting)} ({seconds}s)", style="dim"))
        elif not known:
            parts.append(Text(f"no models on {', '.join(self._models)}", style="dim"))
        return Group(*parts)


@contextmanager
def live(pods: Iterable[str], *, stays: bool) -> Iterator[Board]:
    """Draw a board while the block runs; if it `stays`, on stdout for good, else on stderr until the end."""
    from rich.live import Live

    console = terminal.out() if stays else terminal.err()
    board = Board(pods, console)
    with questions.drawing(
        lambda: Live(console=console, get_renderable=board.draw, refresh_per_second=4, transient=not stays)
    ):
        yield board


def _table(models: "Sequence[Listed]", width: int) -> "RenderableType":
    return tables.laid_out([_row(listed) for listed in models], width, title="NAME", spare=("PORT", "PID"))


def _row(listed: "Listed") -> dict[str, Text]:
    model = listed.model
    return {
        "POD": Text(listed.pod),
        "NAME": Text(listed.name),
        "STATUS": Text(_status(listed), style=STATUS_STYLES.get(listed.status, "")),
        "MODEL": Text(safe(model.model) or "-"),
        "GPU": Text(model.gpu or "-"),
        "GPU MEM": Text(_memory(listed.memory)),
        "PORT": Text(str(model.port or "-")),
        "PID": Text(str(model.pid or "-")),
        "UP": Text("-" if listed.status in ("starting", "dead") else units.age(listed.age)),
        "REQUESTS": Text(_requests(listed.requests)),
        "URL": Text(_url(listed)),
    }


def _status(listed: "Listed") -> str:
    """Format a model's status: `starting (loading weights 3/8, 1m40s)`, `dead (the pod was rebooted)`."""
    details = []
    if listed.status == "starting" and listed.phase:
        details.append(listed.phase)
        if listed.progress:
            done, total = listed.progress
            details[0] += f" {units.size(done)} of {units.size(total)}"
        if listed.age is not None:
            details.append(units.age(listed.age))
    if listed.status == "dead" and listed.cause:
        details.append(safe(listed.cause))
    return f"{listed.status} ({', '.join(details)})" if details else listed.status


def _memory(memory: tuple[int, int] | None) -> str:
    return f"{memory[0] / 1024:.0f}/{memory[1] / 1024:.0f} GiB" if memory else "-"


def _requests(requests: tuple[int, int] | None) -> str:
    """Format the number of running requests, and of waiting ones if there are any: `3`, `256 +12 waiting`."""
    if requests is None:
        return "-"
    running, waiting = requests
    return f"{running} +{waiting} waiting" if waiting else f"{running}"


def _url(listed: "Listed") -> str:
    """Return how other programs reach a model: its public URL, or the command that forwards a port, or `-`."""
    if listed.status not in ("ready", "unhealthy", "unchecked"):
        return "-"
    return listed.url or command("pi", "forward", listed.name)
