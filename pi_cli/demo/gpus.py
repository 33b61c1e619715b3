"""The simulated GPUs of an embedded pod, and the memory that processes have allocated on them.

Stored in files under `$HOME/.demo`, because the stub `nvidia-smi` and the stub engines are separate programs:
`gpus.json` lists the cards, `allocations/PID.json` the memory of a process on each, `work/PID.json` its requests.
"""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# The name in provider dashboards, the name in `nvidia-smi`, MiB, compute capability. The first match is used.
CARDS = (
    ("H100 80GB", "NVIDIA H100 80GB HBM3", 81559, "9.0"),
    ("H100 94GB", "NVIDIA H100 NVL", 95830, "9.0"),
    ("H200 141GB", "NVIDIA H200", 143771, "9.0"),
    ("H20 96GB", "NVIDIA H20", 97871, "9.0"),
    ("A100 80GB", "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
    ("A100 40GB", "NVIDIA A100-SXM4-40GB", 40960, "8.0"),
    ("A40 48GB", "NVIDIA A40", 46068, "8.6"),
    ("A10G 24GB", "NVIDIA A10G", 23028, "8.6"),
    ("A6000 48GB", "NVIDIA RTX A6000", 49140, "8.6"),
    ("RTX 3090 24GB", "NVIDIA GeForce RTX 3090", 24576, "8.6"),
    ("L40S 48GB", "NVIDIA L40S", 46068, "8.9"),
    ("L4 24GB", "NVIDIA L4", 23034, "8.9"),
    ("RTX 4090 24GB", "NVIDIA GeForce RTX 4090", 24564, "8.9"),
    ("B200 192GB", "NVIDIA B200", 183359, "10.0"),
    ("RTX 5090 32GB", "NVIDIA GeForce RTX 5090", 32607, "12.0"),
    ("RTX PRO 6000 96GB", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "12.0"),
    ("T4 16GB", "Tesla T4", 15360, "7.5"),
)
DRIVER = "580.95.05"
CUDA = "13.0"


class Gpu(NamedTuple):
    """One simulated card; memory in MiB."""

    id: int
    name: str
    memory: int
    compute_cap: str

    @property
    def uuid(self) -> str:
        return f"GPU-{self.id:08x}-de30-de30-de30-{self.memory:012x}"


class Allocation(NamedTuple):
    """The MiB that one process has allocated on one card."""

    pid: int
    gpu: int
    memory: int


def parse(text: str) -> list[Gpu]:
    """Parse a list of GPUs as users write it; the empty string and `none` mean no GPU.

    >>> [gpu.name for gpu in parse("2x H100 80GB, 1x L4")]
    ['NVIDIA H100 80GB HBM3', 'NVIDIA H100 80GB HBM3', 'NVIDIA L4']
    """
    cards: list[tuple[str, int, str]] = []
    for part in text.split(","):
        if part.strip() in ("", "none"):
            continue
        count, separator, name = part.strip().partition("x ")
        cards += [_card(name.strip() if separator else part.strip())] * (int(count) if separator else 1)
    return [Gpu(id, *card) for id, card in enumerate(cards)]


def _card(text: str) -> tuple[str, int, str]:
    for short, name, memory, capability in CARDS:
        if text in (short, short.rpartition(" ")[0], name):
            return name, memory, capability
    name, _, size = text.rpartition(" ")
    if not size.removesuffix("GB").isdecimal():
        raise ValueError(f"unknown GPU: {text!r}; write for example `2x H100 80GB`")
    return f"NVIDIA {name}", int(size.removesuffix("GB")) * 1024, "9.0"


def install(home: Path, gpus: list[Gpu], *, driver: str | None = DRIVER) -> None:
    """Install cards on the pod with this home; without a driver, `nvidia-smi` fails like on a real machine."""
    _write(home / ".demo" / "gpus.json", {"driver": driver, "gpus": gpus})


def installed(home: Path) -> tuple[str | None, list[Gpu]]:
    """Return the driver version (None if it is not loaded) and the cards."""
    data = json.loads((home / ".demo" / "gpus.json").read_text(encoding="utf-8"))
    return data["driver"], [Gpu(*gpu) for gpu in data["gpus"]]


def visible(home: Path, environ: Mapping[str, str]) -> list[Gpu]:
    """Return the cards that CUDA would show to a process with this environment."""
    gpus = {str(gpu.id): gpu for gpu in installed(home)[1]}
    visible_ids = environ.get("CUDA_VISIBLE_DEVICES")
    if visible_ids is None:
        return list(gpus.values())
    return [gpus[id.strip()] for id in visible_ids.split(",") if id.strip() in gpus]


def allocate(home: Path, pid: int, memory: dict[int, int]) -> None:
    """Record the MiB that `pid` has allocated on each of these cards, until it exits."""
    _write(home / ".demo" / "allocations" / f"{pid}.json", {"started": _start_time(pid), "memory": memory})


def allocations(home: Path) -> list[Allocation]:
    """Return the allocations of running processes."""
    result = []
    for path in sorted((home / ".demo").glob("allocations/*.json")):
        pid, record = int(path.stem), json.loads(path.read_text(encoding="utf-8"))
        if _start_time(pid) == record["started"]:
            result += [Allocation(pid, int(gpu), memory) for gpu, memory in record["memory"].items()]
    return result


def work(home: Path, pid: int, gpus: Collection[int], requests: int) -> None:
    """Record how many requests `pid` works on with these cards, until it exits."""
    with suppress(OSError):  # a full disk stops no answer
        record = {"started": _start_time(pid), "gpus": [*gpus], "requests": requests}
        _write(home / ".demo" / "work" / f"{pid}.json", record)


def utilization(home: Path) -> dict[int, int]:
    """Return the simulated use of cards in percent: more with each request, and never the whole."""
    use: dict[int, int] = {}
    for path in sorted((home / ".demo").glob("work/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["requests"] and _start_time(int(path.stem)) == record["started"]:
            use |= {gpu: round(100 - 60 / (record["requests"] + 0.5)) for gpu in record["gpus"]}
    return use


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)


def _start_time(pid: int) -> str:
    """Return the start time, which distinguishes processes with the same PID; `dead` if it exited or is a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return "dead"
        return "dead" if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except OSError:
        return "dead"
    return "alive"
