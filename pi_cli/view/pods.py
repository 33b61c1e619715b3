"""The list of pods, drawn without rich if it fits: loading rich takes longer than everything else in `pi pods`."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from pi_cli import units
from pi_cli.safe import safe_line
from pi_cli.store import costs
from pi_cli.store.records import Pod

GAP = "  "
BOLD, GREEN, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[0m"


def show_pods(pods: Mapping[str, Pod], active: str | None) -> None:
    """Print the pods, with `*` before the active one."""
    rows = [
        {
            "": "*" if name == active else "",
            "POD": name,
            "GPUS": "CPU" if pod.is_cpu else units.gpus(pod.gpus),
            "MODELS": ", ".join(pod.models) or "-",
            "STORAGE": " ".join(filter(None, [pod.storage.path, pod.storage.size])) if pod.storage else "-",
            "VLLM": pod.vllm or "-",
            "SSH": safe_line(pod.ssh),
        }
        for name, pod in pods.items()
    ]
    if (table := _drawn(rows)) is not None:
        sys.stdout.write(table)
        return
    from pi_cli.view import tables

    tables.show_rows(rows)


def show_costs(pods: Mapping[str, Pod]) -> None:
    """Print what each pod with a price costs, on stderr: the table is data."""
    lines = costs.lines(pods)
    if lines:
        sys.stderr.write("".join(f"{safe_line(line)}\n" for line in lines))


def _drawn(rows: Sequence[Mapping[str, str]]) -> str | None:
    """Draw a table as rich would; None if it has to be wrapped, or may have characters that are not one cell wide."""
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
