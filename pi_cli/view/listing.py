"""The models on the pods now: a table, also a live one for pods that are still being asked or are watched."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.events import Event, Note
from pi_cli.hints import command, fill
from pi_cli.models import lease_words
from pi_cli.safe import safe_line
from pi_cli.store import state
from pi_cli.store.port_verdicts import FRESH
from pi_cli.view import columns, lines, tables, terminal
from pi_cli.view.columns import SPARE, Cell, Column

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from pi_cli.models.model_status import Listed

    Spelling = Callable[[str, str], str]

STATUS_STYLES = {
    "ready": "green", "starting": "yellow", "stalled": "red", "unhealthy": "red", "degraded": "red", "orphaned": "red",
    "dead": "red",
    "unreachable": "red", "unknown": "red",
}  # fmt: skip
LEASE = Column("LEASE")
COLUMNS = (
    Column("NAME"),
    Column("STATUS"),
    LEASE,
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
    width = columns.UNLIMITED if is_wide else tables.width_of_stdout()
    groups = _Drawn(models, width, sys.stdout.encoding)
    lines.write(sys.stdout, groups.all_lines())
    if groups.lacks_url:
        terminal.note("this terminal is too narrow for the URLs; see them with `pi list --wide`")
    for listed in models:
        if listed.parts and listed.hint:
            terminal.note(f"`{listed.name}` on `{listed.where}` is {listed.status}: {listed.cause}; {listed.hint}")
        elif listed.status == "orphaned":
            used = f"{units.gpu_memory(listed.memory[0])} of GPU memory" if listed.memory else "GPU memory"
            remedy = fill("stop it with `pi stop {name} --pod {pod}`", name=listed.name, pod=listed.pod)
            terminal.note(f"`{listed.name}` has lost its server or its record, but still uses {used}; {remedy}")


class Board:
    """The answers of the pods so far, as a table that is redrawn when they change."""

    def __init__(self, pods: Iterable[str], make_console: "Callable[[], Console]", *, is_wide: bool = False) -> None:
        self._models: dict[str, Sequence[Listed] | None] = dict.fromkeys(pods)
        self._started_at = time.monotonic()
        self._make_console = make_console
        self._is_wide = is_wide

    @cached_property
    def console(self) -> "Console":
        """The console that it is drawn on; made when it is needed, since that loads rich."""
        return self._make_console()

    def see(self, pod: str, models: "Sequence[Listed]") -> None:
        """Set the models of a pod that has answered."""
        self._models[pod] = models

    def report(self, event: Event) -> None:
        if isinstance(event, Note):
            terminal.note(f"{event.pod}: {event.text}", self.console)

    def draw(self, height: int | None) -> "RenderableType":
        """Draw the first models that fit the height, and below them how many do not, and which pods did not answer."""
        known = [
            model for models in self._models.values() for model in sorted(models or (), key=lambda listed: listed.name)
        ]
        known = _joined(known, [pod for pod, models in self._models.items() if models is not None], self._models)
        waiting = [pod for pod, models in self._models.items() if models is None]
        from rich.text import Text

        from pi_cli.view import live

        footer: list[Text] = []
        if waiting:
            seconds = int(time.monotonic() - self._started_at)
            line = f"asking {', '.join(waiting)} ({seconds}s)"
            footer.append(Text(columns.cut(line, self._width, self._ellipsis), style="dim"))
        elif not known:
            footer.append(Text(f"no models on {', '.join(self._models)}", style="dim"))
        if not known:
            return live.joined(footer)
        width = columns.UNLIMITED if self._is_wide else self._width
        drawn = _Drawn(known, width, self.console.encoding)
        room = None if height is None else height - len(footer)
        head, *groups = [[Text.assemble(*line) for line in group] for group in ([drawn.head], *drawn.groups)]
        return live.joined([*live.fitting(head, groups, room, "models", self._ellipsis), *footer])

    @property
    def _width(self) -> int:
        return max(self.console.width - len("^C") - 1, 1)  # terminals echo `^C`

    @property
    def _ellipsis(self) -> str:
        return tables.ellipsis(self.console.encoding)


@contextmanager
def live_board(pods: Iterable[str], *, stays: bool, is_wide: bool = False) -> Iterator[Board]:
    """Draw a board while the block runs; if it `stays`, on stdout for good, else on stderr until the end."""
    from pi_cli.view import late, questions

    board = Board(pods, terminal.out if stays else terminal.err, is_wide=is_wide)

    def view() -> "Live":
        from pi_cli.view import live

        return live.view(board.console, board.draw, refresh_per_second=4, stays=stays)

    with questions.drawing(view if stays else lambda: late.LateView(view)):
        yield board


def _joined(models: "Sequence[Listed]", answered: "Sequence[str]", pods: "Iterable[str]") -> "list[Listed]":
    """Return one row for all parts of a model over several pods, once all pods have answered."""
    if not any(listed.model.role for listed in models) or set(pods) - set(answered):
        return list(models)
    from pi_cli.models import parts

    return parts.joined(models, answered, list(pods))


class _Drawn:
    """Models drawn for a width: the line of names, and for each model its row and the lines below it."""

    def __init__(self, models: "Sequence[Listed]", width: int, encoding: str | None) -> None:
        pods = {part.pod for listed in models for part in listed.parts or (listed,)}
        pod_rank = 0 if len(pods) > 1 else SPARE + 2
        has_lease = any(listed.lease for listed in models)
        names = (Column("POD", pod_rank), *(column for column in COLUMNS if has_lease or column is not LEASE))
        spelled = _spelling()
        table = columns.laid_out(
            names, [_row(listed, spelled) for listed in models], width, ellipsis=tables.ellipsis(encoding)
        )
        self.head = table.head
        self.groups = [
            [line, *_below(listed, table.widths["STATUS"], width)]
            for listed, line in zip(models, table.lines, strict=True)
        ]
        self.lacks_url = "URL" not in table.widths and any(_url(listed, spelled) != "-" for listed in models)

    def all_lines(self) -> list[lines.Line]:
        return [self.head, *(line for group in self.groups for line in group)]


def _row(listed: "Listed", spelled: "Spelling") -> dict[str, Cell]:
    model = listed.model
    name, gpu = safe_line(model.model) or "-", listed.gpu or "-"
    running, waiting = listed.requests or (None, None)
    return {
        "POD": Cell(listed.where),
        "NAME": Cell(listed.name),
        "STATUS": Cell(_status(listed), STATUS_STYLES.get(listed.status, ""), listed.status),
        "LEASE": Cell(lease_words.left(listed.lease) if listed.lease else "-"),
        "MODEL": Cell(name, short=name.rstrip("/").rpartition("/")[2] or name),
        "GPU": Cell(gpu, short="+".join(map(columns.ids, gpu.split("+")))),
        "GPU MEM": Cell(f"{units.share(listed.memory)} GiB" if listed.memory else "-"),
        "PORT": Cell(str(model.port or "-")),
        "PID": Cell(str(model.pid or "-")),
        "UP": Cell("-" if listed.status in ("starting", "dead", "ended") else units.age(listed.age)),
        "REQUESTS": Cell(_requests(listed.requests), short=f"{running} +{waiting}" if waiting else ""),
        "URL": Cell(_dated(_url(listed, spelled), listed.asked_ago), short=_url(listed, spelled)),
    }


def _status(listed: "Listed") -> str:
    """Format a model's status: `starting (loading weights 3/8, 1m40s)`, `dead (the pod was rebooted)`."""
    detail = _detail(listed)
    return f"{listed.status} ({detail})" if detail else listed.status


def _detail(listed: "Listed") -> str:
    """Return the phase of a model that is starting, or the cause of death of a dead one."""
    details = []
    if listed.status == "starting" and listed.phase:
        details += safe_line(listed.phase).split(", ")
        if listed.progress:
            done, total = listed.progress
            details[0] += f" {units.size(done)} of {units.size(total)}"
        if listed.age is not None:
            details.append(units.age(listed.age))
    if listed.status in ("dead", "degraded", "orphaned") and listed.cause:
        details.append(safe_line(listed.cause))
    return ", ".join(details)


def _below(listed: "Listed", status_width: int, width: int) -> list[lines.Line]:
    """Return the lines below a model's row: the details of its status, if the column has no room for them."""
    if columns.width_of(_status(listed)) <= status_width:
        return []
    import textwrap

    wrapped = textwrap.wrap(_detail(listed), max(width - len(columns.GAP), 1))
    return [[(f"{columns.GAP}{line}", "dim")] for line in wrapped]


def _requests(requests: tuple[int, int] | None) -> str:
    """Format the number of running requests, and of waiting ones if there are any: `3`, `256 +12 waiting`."""
    if requests is None:
        return "-"
    running, waiting = requests
    return f"{running} +{waiting} waiting" if waiting else f"{running}"


def _url(listed: "Listed", spelled: "Spelling") -> str:
    """Return how other programs reach a model: its public URL, or the command that forwards a port, or `-`."""
    if listed.status not in ("ready", "stalled", "unhealthy", "unchecked") or listed.model.role == "node":
        return "-"
    return listed.url or command("pi", "forward", spelled(listed.pod, listed.name))


def _dated(url: str, asked_ago: float | None) -> str:
    """Return a public URL, and when the model has answered there if that was long ago."""
    is_old = url.startswith("http") and asked_ago is not None and asked_ago > FRESH
    return f"{url} (checked {units.rough_age(asked_ago)} ago)" if is_old and asked_ago else url


def _spelling() -> "Spelling":
    """Return what says how to type a model: with its pod, unless that is the active one."""
    current = state.load()
    return current.spelled if current.active else lambda _, name: name
