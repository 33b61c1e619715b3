"""Commands for `nvidia-smi`, and parsers for their output."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pi_cli.store.records import Gpu

GPU_QUERY = [
    "nvidia-smi",
    "--query-gpu=index,name,memory.total,memory.used,uuid,mig.mode.current,driver_version",
    "--format=csv,noheader,nounits",
]
UUIDS = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
HOLDERS = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory,process_name", "--format=csv,noheader,nounits"]
GPU_LIST = ["nvidia-smi", "-L"]  # the only command that lists MIG slices and their UUIDs

# Board sizes in GB as vendors print them. `memory.total` is less: by up to 1/16 (ECC), and by what the driver reserves.
BOARD_SIZES = (8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 120, 141, 144, 180, 192, 288)

BROKEN = re.compile(r"\berr(or|!)|\blost\b|requires reset|unable to determine", re.IGNORECASE)
LISTED_GPU = re.compile(r"GPU (\d+): ")
LISTED_SLICE = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+:\s+\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The output of `nvidia-smi`: usable GPUs, (used, total) MiB by GPU id, and its messages about broken GPUs."""

    gpus: list[Gpu] = field(default_factory=list)
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    driver: str | None = None


class Holder(NamedTuple):
    """A process that holds `used` MiB of a GPU."""

    gpu: int
    pid: int
    used: int
    program: str


class _GpuRow(NamedTuple):
    number: int
    name: str
    total: str
    used: str
    uuid: str
    mig: str
    driver: str


def read(output: str, listed: str = "") -> GpuReading:
    r"""Parse the output of `GPU_QUERY` and `GPU_LIST`; memory is in GB as vendors count it (81559 MiB → `80GB`).

    Every MIG slice counts as a GPU. If there are slices, ids are numbered consecutively and every GPU has a `uuid`,
    since CUDA has no numbers for slices.

    >>> read("0, NVIDIA L4, 23034, 1, GPU-5d, [N/A], 580.95.05\n").gpus
    [Gpu(id=0, name='NVIDIA L4', memory='24GB', extra={})]
    >>> read(
    ...     "0, NVIDIA H200, 143771, 1, GPU-5d, Enabled, 580.95.05\n",
    ...     "GPU 0: NVIDIA H200 (UUID: GPU-5d)\n  MIG 3g.71gb     Device  0: (UUID: MIG-c6)\n",
    ... ).gpus
    [Gpu(id=0, name='NVIDIA H200 MIG 3g.71gb', memory='71GB', extra={'uuid': 'MIG-c6'})]
    """
    rows = list(_rows(output))
    reading = GpuReading(driver=next((row.driver for row in rows if row.driver[:1].isdecimal()), None))
    reading.broken.extend(line.strip() for line in output.splitlines() if not _row(line) and BROKEN.search(line))
    has_slices = any(row.mig == "Enabled" for row in rows)
    slices = list(_slices(listed))
    for row in rows:
        if trouble := next((value for value in row[1:5] if BROKEN.search(value)), None):
            reading.broken.append(f"GPU {row.number}: {trouble}")
        elif row.mig == "Enabled":
            for profile, uuid in [(profile, uuid) for index, profile, uuid in slices if index == row.number]:
                name = f"{row.name} MIG {profile}"
                reading.gpus.append(Gpu(len(reading.gpus), name, _slice_size(profile), {"uuid": uuid}))
        else:
            id = len(reading.gpus) if has_slices else row.number
            extra = {"uuid": row.uuid} if has_slices else {}
            reading.gpus.append(Gpu(id, row.name, _board_size(row.total), extra))
            if row.used.isdecimal() and row.total.isdecimal():
                reading.used[id] = int(row.used), int(row.total)
    return reading


def lists_none(output: str) -> bool:
    """Return whether nvidia-smi says that there are no GPUs, which it does with an exit code of its own."""
    return "No devices were found" in output


def read_holders(uuids: str, holders: str) -> list[Holder]:
    r"""Parse the output of `UUIDS` and `HOLDERS`; skip processes whose memory is unknown.

    >>> read_holders("0, GPU-5d\n1, GPU-7f\n", "GPU-7f, 4711, 73403, python3\nGPU-5d, 4712, [N/A], other\n")
    [Holder(gpu=1, pid=4711, used=73403, program='python3')]
    """
    rows = [line.partition(",") for line in uuids.splitlines()]
    gpus = {uuid.strip(): int(index) for index, _, uuid in rows if index.strip().isdecimal()}
    fields = [[field.strip() for field in line.split(",", 3)] for line in holders.splitlines()]
    return [
        Holder(gpus[uuid], int(pid), int(used), program)
        for uuid, pid, used, program in (row for row in fields if len(row) == 4)
        if uuid in gpus and pid.isdecimal() and used.isdecimal()
    ]


def _rows(output: str) -> Iterator[_GpuRow]:
    for line in output.splitlines():
        if row := _row(line):
            yield row


def _row(line: str) -> _GpuRow | None:
    """Parse a line of the table; a name with commas is everything between the other fields."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < len(_GpuRow._fields) or not fields[0].isdecimal():
        return None
    return _GpuRow(int(fields[0]), ", ".join(fields[1:-5]), *fields[-5:])


def _slices(listed: str) -> Iterator[tuple[int, str, str]]:
    """Yield (GPU index, profile, UUID) of every MIG slice."""
    index = -1
    for line in listed.splitlines():
        if gpu := LISTED_GPU.match(line):
            index = int(gpu[1])
        elif mig := LISTED_SLICE.match(line):
            yield index, mig[1], mig[2]


def _slice_size(profile: str) -> str:
    """Return the memory in the name of a MIG profile, e.g. `3g.40gb`, `1g.10gb+me` or `1c.3g.40gb`."""
    size = re.search(r"\.(\d+)gb", profile)
    return f"{size[1]}GB" if size else "unknown"


def _board_size(mebibytes: str) -> str:
    """Return the size of the board that reports this much memory; of an unknown board, the rounded figure.

    `[N/A]` (unified memory) becomes `unknown`.
    """
    if not mebibytes.isdecimal():
        return "unknown"
    gibibytes = int(mebibytes) / 1024
    board = next((size for size in BOARD_SIZES if size >= gibibytes - 0.1), 0)
    return f"{board if board <= gibibytes * 1.075 and board else round(gibibytes)}GB"
