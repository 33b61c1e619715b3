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
}  # fmt: skip
MIB = 1024**2


def show(models: "Sequence[Listed]") -> None:
    """Print the table, and below it how to stop engines without a server."""
    console = terminal.out()
    console.print(_table(models, console.width))
    for each in models:
        if each.status == "orphaned":
            used = f"{units.size(each.memory[0] * MIB)} of GPU memory" if each.memory else "GPU memory"
            remedy = fill("stop it with `pi stop {name} --pod {pod}`", name=each.name, pod=each.pod)
            terminal.note(f"the server of `{each.name}` is dead, but its engine still uses {used}; {remedy}")


class Board:
    """The answers of the pods so far, as a table that is redrawn when they change."""

    def __init__(self, pods: Iterable[str], console: "Console") -> None:
        self._models: dict[str, Sequence[Listed] | None] = dict.fromkeys(pods)
        self._began = time.monotonic()
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
            seconds = int(time.monotonic() - self._began)
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
    return tables.laid_out([_row(each) for each in models], width, title="NAME", spare=("PORT", "PID"))


def _row(each: "Listed") -> dict[str, Text]:
    model = each.model
    return {
        "POD": Text(each.pod),
        "NAME": Text(each.name),
        "STATUS": Text(_status(each), style=STATUS_STYLES.get(each.status, "")),
        "MODEL": Text(safe(model.model) or "-"),
        "GPU": Text(model.gpu or "-"),
        "GPU MEM": Text(_memory(each.memory)),
        "PORT": Text(str(model.port or "-")),
        "PID": Text(str(model.pid or "-")),
        "UP": Text("-" if each.status in ("starting", "dead") else units.age(each.age)),
        "REQUESTS": Text(_requests(each.requests)),
        "URL": Text(_url(each)),
    }


def _status(each: "Listed") -> str:
    """Format a model's status: `starting (loading weights 3/8, 1m40s)`, `dead (the pod was rebooted)`."""
    details = []
    if each.status == "starting" and each.phase:
        details.append(each.phase)
        if each.progress:
            done, total = each.progress
            details[0] += f" {units.size(done)} of {units.size(total)}"
        if each.age is not None:
            details.append(units.age(each.age))
    if each.status == "dead" and each.cause:
        details.append(safe(each.cause))
    return f"{each.status} ({', '.join(details)})" if details else each.status


def _memory(memory: tuple[int, int] | None) -> str:
    return f"{memory[0] / 1024:.0f}/{memory[1] / 1024:.0f} GiB" if memory else "-"


def _requests(requests: tuple[int, int] | None) -> str:
    """Format the number of running requests, and of waiting ones if there are any: `3`, `256 +12 waiting`."""
    if requests is None:
        return "-"
    running, waiting = requests
    return f"{running} +{waiting} waiting" if waiting else f"{running}"


def _url(each: "Listed") -> str:
    if each.status == "dead":
        return "-"
    return command("pi", "forward", each.name) if each.url is None or each.answers_here is False else each.url
