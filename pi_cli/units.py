"""Format sizes, times, token counts and GPUs for people."""

import re
from collections.abc import Iterable
from typing import Protocol

FILLER = {"NVIDIA", "GeForce", "Tesla", "Generation"}
MEMORY_WORDS = re.compile(r"\d+GB?|HBM\w+")


class _Gpu(Protocol):
    name: str
    memory: str


def size(count: float) -> str:
    """Format bytes in decimal units, as the Hugging Face Hub does.

    >>> size(1_520_000_000)
    '1.5 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def gpu_memory(mib: float) -> str:
    """Format MiB of GPU memory in binary units, as nvidia-smi and vLLM count it.

    >>> gpu_memory(73400), gpu_memory(400)
    ('72 GiB', '0.4 GiB')
    """
    gib = mib / 1024
    return f"{gib:.0f} GiB" if gib >= 9.5 else f"{gib:.1f} GiB"


def share(memory: tuple[int, int]) -> str:
    """Format used and total MiB of GPU memory as GiB.

    >>> share((73400, 81559))
    '72/80'
    """
    used, total = memory
    return f"{used / 1024:.0f}/{total / 1024:.0f}"


def part(done: float, total: float) -> str:
    """Format a part of some bytes and the whole, with one unit if both have the same.

    >>> part(3_200_000_000, 4_000_000_000), part(900_000_000, 4_000_000_000)
    ('3.2 of 4.0 GB', '900.0 MB of 4.0 GB')
    """
    number, unit = size(done).split()
    whole = size(total)
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{number} {unit} of {whole}"


def age(seconds: float | None) -> str:
    """Format a duration in its two largest units.

    >>> age(4), age(100), age(7500), age(100_000)
    ('4s', '1m40s', '2h5m', '1d3h')
    """
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def span(seconds: float) -> str:
    """Format a duration as users type it, in its largest units, without those that are zero.

    >>> span(2700), span(7200), span(5430), span(0.4)
    ('45m', '2h', '1h30m', '0s')
    """
    text = age(seconds)
    return re.sub(r"(?<=[dhm])0[hms]$", "", text)


def rough_age(seconds: float) -> str:
    """Format a duration in its largest unit.

    >>> rough_age(42), rough_age(372), rough_age(7500), rough_age(100_000)
    ('42s', '6m', '2h', '1d')
    """
    number = re.match(r"\d+[dhms]", age(seconds))
    assert number
    return number[0]


def duration(seconds: float, *, running: bool = False) -> str:
    """Format a duration for a sentence, with a space before each unit; `running` clocks show no tenths.

    >>> duration(0.43), duration(12.3), duration(372), duration(3720)
    ('0.4 s', '12 s', '6 min 12 s', '1 h 2 min')
    """
    if seconds < 10 and not running:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def tokens(count: int | None) -> str:
    """Format a context length in binary units, as model cards do.

    >>> tokens(131072), tokens(1048576), tokens(118784), tokens(900)
    ('128k', '1M', '116k', '900')
    """
    if count is None:
        return "?"
    if count >= 1024**2:
        return f"{count / 1024**2:.1f}".removesuffix(".0") + "M"
    return f"{count // 1024}k" if count >= 1024 else str(count)


def counted(names: Iterable[str]) -> str:
    """Count equal names; the empty string if there are none.

    >>> counted(["H100", "H100", "L4"])
    '2x H100, 1x L4'
    """
    names = list(names)
    return ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names))


def gpus(gpus: Iterable[_Gpu]) -> str:
    """Format GPUs with their short names: `2x H100 80GB`."""
    return counted(short_name(gpu) for gpu in gpus) or "-"


def short_name(gpu: _Gpu) -> str:
    """Shorten a GPU's name to model and memory: `NVIDIA H100 80GB HBM3` → `H100 80GB`.

    The profile of a MIG slice has its memory already: `NVIDIA H100 80GB HBM3 MIG 3g.40gb` → `H100 MIG 3g.40gb`.
    """
    name = re.sub(r"-\d+GB\b", "", gpu.name)
    words = [word for word in name.split() if word not in FILLER and not MEMORY_WORDS.fullmatch(word)]
    return " ".join(words if "MIG" in words or gpu.memory == "unknown" else [*words, gpu.memory])
