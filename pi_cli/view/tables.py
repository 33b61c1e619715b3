"""Tables of pods, and tables that fit every terminal."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pi_cli import units
from pi_cli.view import terminal

if TYPE_CHECKING:  # `pi pods` needs no asyncssh
    from pi_cli.models.drift import Checked
    from pi_cli.pods.machine import Machine
    from pi_cli.pods.reports import Disk

STATUS_STYLES = {"ok": "green", "changed": "yellow", "unreachable": "red", "unknown": "red"}
FOLDED = {  # columns that may be wrapped, and their minimum width
    "MODELS": 12, "SSH": 16, "URL": 24, "MODEL": 12, "STATUS": 12, "REQUESTS": 8,
}  # fmt: skip


def show_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows of plain cells; `*` marks the active pod."""
    _show([{name: Text(cell, style="green" if cell == "*" else "") for name, cell in row.items()} for row in rows])


def show_checked(pods: "Sequence[Checked]", active: str | None) -> None:
    """Print the present state of pods; for a pod that did not answer, print its entry in `pods.json`."""
    rows = []
    for checked in pods:
        machine, pod = checked.machine, checked.pod
        row = {
            "": _mark(checked.name, active),
            "POD": Text(checked.name),
            "STATUS": Text(checked.status, style=STATUS_STYLES[checked.status]),
            "GPUS": Text("CPU" if pod.is_cpu else units.gpus(machine.gpus if machine else pod.gpus)),
            "IN USE": Text(_in_use(machine) if machine else "-"),
            "MODELS": Text(", ".join((model.name for model in machine.running) if machine else pod.models) or "-"),
            "FREE": Text(_free(machine.place or machine.home) if machine else "-"),
            "STORAGE": Text(_volume(machine.storage) if machine and machine.storage else "-"),
            "VLLM": Text((machine.vllm if machine else pod.vllm) or "-"),
        }
        rows.append(row)
    _show(rows)


def _show(rows: Sequence[Mapping[str, Text]]) -> None:
    console = terminal.out()
    console.print(laid_out(rows, console.width))


def laid_out(
    rows: Sequence[Mapping[str, Text]], width: int, *, title: str = "POD", spare: Collection[str] = ()
) -> RenderableType:
    """Draw a table, if necessary without the `spare` columns.

    On terminals that are too narrow for that, draw a few lines for every row, below its `title`.
    """
    for columns in (list(rows[0]), [name for name in rows[0] if name not in spare]):
        if _least_width(rows, columns) <= width:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
            for name in columns:
                table.add_column(name, overflow="fold", no_wrap=name not in FOLDED)
            for row in rows:
                table.add_row(*(row[name] for name in columns))
            return table
    return Group(*(part for row in rows for part in _as_card(row, title)))


def _least_width(rows: Sequence[Mapping[str, Text]], columns: Sequence[str]) -> int:
    """Return the width of these columns in cells when the ones that may be wrapped are as narrow as possible."""
    widths = [(name, max([len(name), *(row[name].cell_len for row in rows)])) for name in columns]
    return sum(min(size, FOLDED.get(name, size)) for name, size in widths) + 2 * (len(columns) - 1)


def _as_card(row: Mapping[str, Text], title: str) -> list[RenderableType]:
    mark = row.get("", Text(""))
    head = Text.assemble(mark if mark.plain else " ", " ", row[title], overflow="fold")
    return [head, _card({name: value for name, value in row.items() if name != title})]


def _card(row: Mapping[str, Text]) -> Table:
    """Draw a row as lines of a name and a value, without empty values."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=len("  STORAGE"))
    table.add_column(overflow="fold")
    for name, value in row.items():
        if name and value.plain != "-":
            table.add_row(Text(f"  {name}", style="bold"), value)
    return table


def _mark(name: str, active: str | None) -> Text:
    return Text("*", style="green") if name == active else Text("")


def _in_use(machine: "Machine") -> str:
    """Format the used memory of every GPU, in GB of the board's size: `73/80, 0/80 GB`."""
    shares = []
    for gpu in machine.gpus:
        used, total = machine.used.get(gpu.id, (0, 0))
        board = int(gpu.memory.removesuffix("GB")) if gpu.memory.removesuffix("GB").isdecimal() else 0
        shares.append(f"{round(board * used / total)}/{board}" if total and board else "?")
    if not shares:
        return "-"
    is_alike = len(shares) > 1 and len(set(shares)) == 1
    return f"{len(shares)}x {shares[0]} GB" if is_alike else f"{', '.join(shares)} GB"


def _free(disk: "Disk") -> str:
    return units.size(disk.free) if disk.free is not None else "?"


def _volume(disk: "Disk") -> str:
    """Format the free space of a volume; shared pools do not report it, and an unmounted one has none."""
    if disk.trouble:
        return f"{disk.path}: {disk.trouble}"
    return f"{disk.path} {_free(disk)} free" if disk.free is not None else f"{disk.path}, of unknown size"
