"""The GPUs an embedded pod pretends to have, and who holds their memory.

Kept as files under `$HOME/.demo`, because the stub `nvidia-smi` and the stub engines are programs of their own:
`gpus.json` lists the cards, `holds/PID.json` says how much memory a process has on each.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# What a dashboard calls it, what `nvidia-smi` prints, MiB in all, compute capability. The first that fits is taken.
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


class Hold(NamedTuple):
    """MiB that one process holds on one card."""

    pid: int
    gpu: int
    memory: int


def parse(text: str) -> list[Gpu]:
    """Read a list of cards as people write it; the empty text and `none` mean no card.

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
        raise ValueError(f"no such GPU: {text!r}; say for example `2x H100 80GB`")
    return f"NVIDIA {name}", int(size.removesuffix("GB")) * 1024, "9.0"


def install(home: Path, gpus: list[Gpu], *, driver: str | None = DRIVER) -> None:
    """Put cards into the pod whose home this is; without a driver `nvidia-smi` fails as on such a machine."""
    _write(home / ".demo" / "gpus.json", {"driver": driver, "gpus": gpus})


def installed(home: Path) -> tuple[str | None, list[Gpu]]:
    """Return the driver version (None: not loaded) and the cards."""
    found = json.loads((home / ".demo" / "gpus.json").read_text(encoding="utf-8"))
    return found["driver"], [Gpu(*gpu) for gpu in found["gpus"]]


def visible(home: Path, environ: Mapping[str, str]) -> list[Gpu]:
    """Return the cards that CUDA would show to a process with this environment."""
    gpus = {str(gpu.id): gpu for gpu in installed(home)[1]}
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return list(gpus.values())
    return [gpus[id.strip()] for id in wanted.split(",") if id.strip() in gpus]


def hold(home: Path, pid: int, memory: dict[int, int]) -> None:
    """Say that `pid` holds so many MiB on each of these cards, until it dies."""
    _write(home / ".demo" / "holds" / f"{pid}.json", {"born": _birth(pid), "memory": memory})


def holds(home: Path) -> list[Hold]:
    """Return what living processes hold."""
    found = []
    for path in sorted((home / ".demo").glob("holds/*.json")):
        pid, claim = int(path.stem), json.loads(path.read_text(encoding="utf-8"))
        if _birth(pid) == claim["born"]:
            found += [Hold(pid, int(gpu), memory) for gpu, memory in claim["memory"].items()]
    return found


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)


def _birth(pid: int) -> str:
    """Return what tells this process from a later one with the same PID; `dead` for the dead, zombies included."""
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
