"""The list of pods, one line each: as they are recorded, and as they are."""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.errors import BadUsage
from pi_cli.safe import safe_line
from pi_cli.store import costs
from pi_cli.store.records import Pod
from pi_cli.view import columns, tables
from pi_cli.view.columns import SPARE, Cell, Column

if TYPE_CHECKING:  # `pi pods` needs no asyncssh
    from pi_cli.models.drift import Checked
    from pi_cli.pods.machine import Machine
    from pi_cli.pods.reports import Disk

STATUS_STYLES = {"ok": "green", "changed": "yellow", "unreachable": "red", "unknown": "red"}
MARK, POD, GPUS = Column(""), Column("POD"), Column("GPUS", 1)
MODELS = Column("MODELS", 3, least=12)
RECORDED = (
    MARK,
    POD,
    GPUS,
    MODELS,
    Column("STORAGE", SPARE + 1),
    Column("VLLM", SPARE),
    Column("SSH", 2, least=16, is_uniform=True),
)
LINK = Column("LINK", 4)
CHECKED = (
    MARK,
    POD,
    Column("STATUS"),
    GPUS,
    Column("IN USE", 2),
    MODELS,
    Column("FREE", 4),
    Column("STORAGE", SPARE + 1),
    Column("VLLM", SPARE),
)


def show_pods(
    pods: Mapping[str, Pod], active: str | None, *, is_wide: bool = False, linked: Collection[str] = ()
) -> None:
    """Print the pods, with `*` before the active one. A column shows which are linked, if any is."""
    rows = [
        {
            "": _mark(name, active),
            "POD": Cell(name),
            "GPUS": Cell("CPU" if pod.is_cpu else units.gpus(pod.gpus)),
            "MODELS": _models(pod.models),
            "STORAGE": Cell(" ".join(filter(None, [pod.storage.path, pod.storage.size])) if pod.storage else "-"),
            "VLLM": Cell(pod.vllm or "-"),
            "SSH": Cell(safe_line(pod.ssh)),
            "LINK": Cell("linked" if name in linked else "-"),
        }
        for name, pod in pods.items()
    ]
    shown = (*RECORDED, LINK) if linked else RECORDED
    whole = columns.laid_out(shown, rows, columns.UNLIMITED)
    if not is_wide and whole.width > tables.width_of_stdout():
        for row, pod in zip(rows, pods.values(), strict=True):
            row["SSH"] = Cell(safe_line(pod.ssh), short=address(pod.ssh))
    tables.show(shown, rows, is_wide=is_wide)


def show_costs(pods: Mapping[str, Pod]) -> None:
    """Print what each pod with a price costs, on stderr: the table is data."""
    lines = costs.lines(pods)
    if lines:
        sys.stderr.write("".join(f"{safe_line(line)}\n" for line in lines))


def show_checked(pods: "Sequence[Checked]", active: str | None, *, is_wide: bool = False) -> None:
    """Print the present state of pods; for a pod that did not answer, print its entry in `pods.json`."""
    rows = []
    for checked in pods:
        machine, pod = checked.machine, checked.pod
        row = {
            "": _mark(checked.name, active),
            "POD": Cell(checked.name),
            "STATUS": Cell(checked.status, STATUS_STYLES[checked.status]),
            "GPUS": Cell("CPU" if pod.is_cpu else units.gpus(machine.gpus if machine else pod.gpus)),
            "IN USE": _in_use(machine) if machine else Cell("-"),
            "MODELS": _models((model.name for model in machine.running) if machine else pod.models),
            "FREE": Cell(_free(machine.place or machine.home) if machine else "-"),
            "STORAGE": Cell(_volume(machine.storage) if machine and machine.storage else "-"),
            "VLLM": Cell((machine.vllm if machine else pod.vllm) or "-"),
        }
        rows.append(row)
    tables.show(CHECKED, rows, is_wide=is_wide)


def _mark(name: str, active: str | None) -> Cell:
    return Cell("*", "green") if name == active else Cell("")


def _models(names: Iterable[str]) -> Cell:
    """Name the models of a pod; in short, the first and the number of the others."""
    first, *others = [*names] or ["-"]
    return Cell(", ".join([first, *others]), short=f"{first} +{len(others)}" if others else "")


def address(ssh: str) -> str:
    """Shorten an ssh command to `user@host:port`; one that pi cannot read has no short form.

    >>> address("ssh -p 40022 -i ~/.ssh/runpod root@1.2.3.4"), address("ssh -J jump lab"), address("ssh -Z")
    ('root@1.2.3.4:40022', 'lab', '')
    """
    from pi_cli.ssh import ssh_command

    try:
        command = ssh_command.parse(ssh)
    except BadUsage:
        return ""
    host = f"[{command.host}]" if ":" in command.host and command.port else command.host
    user, port = f"{command.user}@" if command.user else "", f":{command.port}" if command.port else ""
    return safe_line(f"{user}{host}{port}")


def _in_use(machine: "Machine") -> Cell:
    """Format the used memory of every GPU, and in short of all of them: `72/80, 0/80 GiB`, `72/159 GiB`."""
    used = [machine.used.get(gpu.id) for gpu in machine.gpus]
    if not used:
        return Cell("-")
    shares = [units.share(each) if each else "?" for each in used]
    known = [each for each in used if each]
    if not known:
        return Cell("?")
    if len(set(shares)) == 1 and len(shares) > 1:
        return Cell(f"{len(shares)}x {shares[0]} GiB")
    in_all = units.share((sum(each[0] for each in known), sum(each[1] for each in known)))
    return Cell(f"{', '.join(shares)} GiB", short=f"{in_all} GiB" if len(shares) > 1 and all(used) else "")


def _free(disk: "Disk") -> str:
    return units.size(disk.free) if disk.free is not None else "?"


def _volume(disk: "Disk") -> str:
    """Format the free space of a volume; shared pools do not report it, and an unmounted one has none."""
    if disk.trouble:
        return f"{disk.path}: {disk.trouble}"
    return f"{disk.path} {_free(disk)} free" if disk.free is not None else f"{disk.path}, of unknown size"
