"""Pods and models as tables for people."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pi_cli.store.records import Gpu, Pod
from pi_cli.view import terminal

if TYPE_CHECKING:  # `pi pods` needs no asyncssh
    from pi_cli.models.deploy import Listed

STATUS_STYLES = {"ready": "green", "starting": "yellow", "unhealthy": "red", "orphaned": "red", "unreachable": "red"}


def show_pods(pods: Mapping[str, Pod], active: str | None) -> None:
    """Print the pods, `*` before the active one."""
    table = _table("", "POD", "GPUS", "MODELS", "VLLM", "SSH")
    for name, pod in pods.items():
        mark = Text("*", style="green") if name == active else Text("")
        models = ", ".join(pod.models) or "-"
        table.add_row(mark, Text(name), Text(_gpus(pod.gpus)), Text(models), Text(pod.vllm or "-"), Text(pod.ssh))
    terminal.out().print(table)


def show_models(models: "Sequence[Listed]") -> None:
    table = _table("POD", "NAME", "STATUS", "MODEL", "GPU", "PORT", "PID", "UP", "URL")
    for each in models:
        status = Text(each.status, style=STATUS_STYLES.get(each.status, ""))
        model = each.model
        url = "not reachable from here" if each.answers_here is False else each.url
        cells = (model.model, model.gpu or "-", str(model.port), str(model.pid or "-"), _age(each.age), url)
        table.add_row(Text(each.pod), Text(each.name), status, *(Text(cell) for cell in cells))
    terminal.out().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        # On a narrow terminal what people paste and read aloud (names, states, ports) stays whole.
        table.add_column(
            column, overflow="fold", no_wrap=column in ("POD", "NAME", "STATUS", "GPU", "PORT", "PID", "UP")
        )
    return table


def _gpus(gpus: Sequence[Gpu]) -> str:
    """Name GPUs shortly: `2x H100 80GB`."""
    names = [f"{_short(gpu.name)} {gpu.memory}".strip() for gpu in gpus]
    return ", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names)) or "-"


def _short(name: str) -> str:
    """Leave out the maker and what `memory` says already: `NVIDIA H100 80GB HBM3` → `H100`."""
    words = [word for word in name.split() if word not in ("NVIDIA", "GeForce", "Tesla", "Generation")]
    return " ".join(word for word in words if not word[0].isdecimal() or not word.endswith("GB")).removesuffix(" HBM3")


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
