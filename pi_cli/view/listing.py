"""The models on the pods now: a table, also a live one for pods that are still being asked or are watched."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from pi_cli import units
from pi_cli.events import Event, Note
from pi_cli.hints import command, fill
from pi_cli.safe import safe_line
from pi_cli.store import state
from pi_cli.view import columns, live, questions, tables, terminal
from pi_cli.view.columns import SPARE, Cell, Column

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pi_cli.models.model_status import Listed

    Spelling = Callable[[str, str], str]

STATUS_STYLES = {
    "ready": "green", "starting": "yellow", "unhealthy": "red", "orphaned": "red", "dead": "red", "unreachable": "red",
    "unknown": "red",
}  # fmt: skip
COLUMNS = (
    Column("NAME"),
    Column("STATUS"),
    Column("MODEL", 1, least=12, is_uniform=True),
    Column("GPU", 3),
    Column("GPU MEM", SPARE + 1),
    Column("PORT", SPARE + 3),
    Column("PID", SPARE + 4),
    Column("UP", 4),
    Column("REQUESTS", SPARE),
    Column("URL", 2),  # whole or not at all: what is left of an address leads elsewhere
)


def show(models: "Sequence[Listed]", *, is_wide: bool = False) -> None:
    """Print the table, and below it what the table has no room for, and how to stop orphaned models."""
    console = terminal.out()
    groups = _Drawn(models, columns.UNLIMITED if is_wide else console.width, console.encoding)
    for text in groups.all_lines():
        console.print(text, soft_wrap=True)
    if groups.lacks_url:
        terminal.note("this terminal is too narrow for the URLs; see them with `pi list --wide`")
    for listed in models:
        if listed.status == "orphaned":
            used = f"{units.gpu_memory(listed.memory[0])} of GPU memory" if listed.memory else "GPU memory"
            remedy = fill("stop it with `pi stop {name} --pod {pod}`", name=listed.name, pod=listed.pod)
            terminal.note(f"`{listed.name}` has lost its server or its record, but still uses {used}; {remedy}")


class Board:
    """The answers of the pods so far, as a table that is redrawn when they change."""

    def __init__(self, pods: Iterable[str], console: "Console", *, is_wide: bool = False) -> None:
        self._models: dict[str, Sequence[Listed] | None] = dict.fromkeys(pods)
        self._started_at = time.monotonic()
        self._console = console
        self._is_wide = is_wide

    def see(self, pod: str, models: "Sequence[Listed]") -> None:
        """Set the models of a pod that has answered."""
        self._models[pod] = models

    def report(self, event: Event) -> None:
        if isinstance(event, Note):
            terminal.note(f"{event.pod}: {event.text}", self._console)

    def draw(self, height: int | None) -> "RenderableType":
        """Draw the first models that fit the height, and below them how many do not, and which pods did not answer."""
        known = [
            model for models in self._models.values() for model in sorted(models or (), key=lambda listed: listed.name)
        ]
        waiting = [pod for pod, models in self._models.items() if models is None]
        footer: list[Text] = []
        if waiting:
            seconds = int(time.monotonic() - self._started_at)
            line = f"asking {', '.join(waiting)} ({seconds}s)"
            footer.append(Text(columns.cut(line, self._console.width, self._ellipsis), style="dim"))
        elif not known:
            footer.append(Text(f"no models on {', '.join(self._models)}", style="dim"))
        if not known:
            return live.joined(footer)
        width = columns.UNLIMITED if self._is_wide else self._console.width
        drawn = _Drawn(known, width, self._console.encoding)
        room = None if height is None else height - len(footer)
        return live.joined([*live.fitting([drawn.head], drawn.groups, room, "models", self._ellipsis), *footer])

    @property
    def _ellipsis(self) -> str:
        return tables.ellipsis(self._console.encoding)


@contextmanager
def live_board(pods: Iterable[str], *, stays: bool, is_wide: bool = False) -> Iterator[Board]:
    """Draw a board while the block runs; if it `stays`, on stdout for good, else on stderr until the end."""
    console = terminal.out() if stays else terminal.err()
    board = Board(pods, console, is_wide=is_wide)
    with questions.drawing(lambda: live.view(console, board.draw, refresh_per_second=4, stays=stays)):
        yield board


class _Drawn:
    """Models drawn for a width: the line of names, and for each model its row and the lines below it."""

    def __init__(self, models: "Sequence[Listed]", width: int, encoding: str) -> None:
        pod_rank = 0 if len({listed.pod for listed in models}) > 1 else SPARE + 2
        names = (Column("POD", pod_rank), *COLUMNS)
        spelled = _spelling()
        table = columns.laid_out(
            names, [_row(listed, spelled) for listed in models], width, ellipsis=tables.ellipsis(encoding)
        )
        self.head = Text.assemble(*table.head)
        self.groups = [
            [Text.assemble(*line), *_below(listed, table.widths["STATUS"], width)]
            for listed, line in zip(models, table.lines, strict=True)
        ]
        self.lacks_url = "URL" not in table.widths and any(_url(listed, spelled) != "-" for listed in models)

    def all_lines(self) -> list[Text]:
        return [self.head, *(line for group in self.groups for line in group)]


def _row(listed: "Listed", spelled: "Spelling") -> dict[str, Cell]:
    model = listed.model
    name, gpu = safe_line(model.model) or "-", model.gpu or "-"
    running, waiting = listed.requests or (None, None)
    return {
        "POD": Cell(listed.pod),
        "NAME": Cell(listed.name),
        "STATUS": Cell(_status(listed), STATUS_STYLES.get(listed.status, ""), listed.status),
        "MODEL": Cell(name, short=name.rstrip("/").rpartition("/")[2] or name),
        "GPU": Cell(gpu, short=columns.ids(gpu)),
        "GPU MEM": Cell(f"{units.share(listed.memory)} GiB" if listed.memory else "-"),
        "PORT": Cell(str(model.port or "-")),
        "PID": Cell(str(model.pid or "-")),
        "UP": Cell("-" if listed.status in ("starting", "dead") else units.age(listed.age)),
        "REQUESTS": Cell(_requests(listed.requests), short=f"{running} +{waiting}" if waiting else ""),
        "URL": Cell(_url(listed, spelled)),
    }


def _status(listed: "Listed") -> str:
    """Format a model's status: `starting (loading weights 3/8, 1m40s)`, `dead (the pod was rebooted)`."""
    detail = _detail(listed)
    return f"{listed.status} ({detail})" if detail else listed.status


def _detail(listed: "Listed") -> str:
    """Return the phase of a model that is starting, or the cause of death of a dead one."""
    details = []
    if listed.status == "starting" and listed.phase:
        details.append(safe_line(listed.phase))
        if listed.progress:
            done, total = listed.progress
            details[0] += f" {units.size(done)} of {units.size(total)}"
        if listed.age is not None:
            details.append(units.age(listed.age))
    if listed.status == "dead" and listed.cause:
        details.append(safe_line(listed.cause))
    return ", ".join(details)


def _below(listed: "Listed", status_width: int, width: int) -> list[Text]:
    """Return the lines below a model's row: the details of its status, if the column has no room for them."""
    if columns.width_of(_status(listed)) <= status_width:
        return []
    import textwrap

    lines = textwrap.wrap(_detail(listed), max(width - len(columns.GAP), 1))
    return [Text(f"{columns.GAP}{line}", style="dim") for line in lines]


def _requests(requests: tuple[int, int] | None) -> str:
    """Format the number of running requests, and of waiting ones if there are any: `3`, `256 +12 waiting`."""
    if requests is None:
        return "-"
    running, waiting = requests
    return f"{running} +{waiting} waiting" if waiting else f"{running}"


def _url(listed: "Listed", spelled: "Spelling") -> str:
    """Return how other programs reach a model: its public URL, or the command that forwards a port, or `-`."""
    if listed.status not in ("ready", "unhealthy", "unchecked"):
        return "-"
    return listed.url or command("pi", "forward", spelled(listed.pod, listed.name))


def _spelling() -> "Spelling":
    """Return what says how to type a model: with its pod, unless that is the active one."""
    current = state.load()
    return current.spelled if current.active else lambda _, name: name
