"""The list of pods, drawn without rich where it fits: to load rich takes longer than all else that `pi pods` does."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from pi_cli.store.records import Gpu, Pod

GAP = "  "
BOLD, GREEN, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[0m"
FILLER = {"NVIDIA", "GeForce", "Tesla", "Generation"}
MEMORY_WORDS = re.compile(r"\d+GB?|HBM\w+")


def show_pods(pods: Mapping[str, Pod], active: str | None) -> None:
    """Print the pods, `*` before the active one."""
    rows = [
        {
            "": "*" if name == active else "",
            "POD": name,
            "GPUS": "CPU" if pod.is_cpu else gpus(pod.gpus),
            "MODELS": ", ".join(pod.models) or "-",
            "STORAGE": " ".join(filter(None, [pod.storage.path, pod.storage.size])) if pod.storage else "-",
            "VLLM": pod.vllm or "-",
            "SSH": pod.ssh,
        }
        for name, pod in pods.items()
    ]
    if (table := _drawn(rows)) is not None:
        sys.stdout.write(table)
        return
    from pi_cli.view import tables

    tables.show_rows(rows)


def _drawn(rows: Sequence[Mapping[str, str]]) -> str | None:
    """Draw a table as rich would; None where it has to be folded, or may hold what is not one cell wide."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    if not all(cell.isascii() and cell.isprintable() for line in lines for cell in line):
        return None
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_terminal = sys.stdout.isatty()
    if is_terminal and sum(widths) + len(GAP) * (len(widths) - 1) > shutil.get_terminal_size().columns:
        return None
    head, *body = [GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        head = f"{BOLD}{head}{PLAIN}"
        if not os.environ.get("NO_COLOR"):
            body = [re.sub(r"^\*", f"{GREEN}*{PLAIN}", line) for line in body]
    return "\n".join([head, *body, ""])


def gpus(gpus: Sequence[Gpu]) -> str:
    """Name GPUs shortly: `2x H100 80GB`."""
    names = [_short(gpu) for gpu in gpus]
    return ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names)) or "-"


def _short(gpu: Gpu) -> str:
    """Leave out the maker and what the memory says already: `NVIDIA H100 80GB HBM3` → `H100 80GB`.

    The profile of a MIG slice says how large it is: `NVIDIA H100 80GB HBM3 MIG 3g.40gb` → `H100 MIG 3g.40gb`.
    """
    name = re.sub(r"-\d+GB\b", "", gpu.name)
    words = [word for word in name.split() if word not in FILLER and not MEMORY_WORDS.fullmatch(word)]
    return " ".join(words if "MIG" in words or gpu.memory == "unknown" else [*words, gpu.memory])
