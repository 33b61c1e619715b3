"""Decide how to start a model: how many GPUs, which vLLM arguments, and why."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pi_cli.errors import BadUsage
from pi_cli.models import catalog
from pi_cli.pods import nvidia
from pi_cli.store.records import Gpu

OURS = {
    "--port": "pi chooses a free port on the pod",
    "--host": "pi chooses where vLLM listens",
    "--api-key": "the key comes from PI_API_KEY and never stands on a command line",
    "--served-model-name": "the name is the one given with `--name`",
    "--uds": "pi reaches vLLM by its port",
}

PARALLEL = {
    "--tensor-parallel-size": "tensor", "-tp": "tensor", "--pipeline-parallel-size": "pipeline", "-pp": "pipeline",
    "--data-parallel-size": "data", "-dp": "data",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will be started on one pod.

    `is_complete` says that vLLM needs nothing from the Hub but the model itself; the user's own arguments may name
    other repositories.
    """

    model: str
    gpu_count: int
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    is_complete: bool = True
    min_vllm: str | None = None


def make(model: str, gpus: Sequence[Gpu], own: Sequence[str] | None, *, is_cpu: bool = False) -> Plan:
    """Plan a model for a pod with these GPUs; `own` are the user's vLLM arguments, which are taken as they are.

    On a CPU pod a model has no GPU: what its arguments say about parallelism is about processors.
    """
    if own is not None:
        refuse_ours(own)
        count = 0 if is_cpu else gpus_asked_for(own)
        _refuse_joining_slices(gpus, count)
        return Plan(model, count, tuple(own), reason="your own vLLM arguments", is_complete=False)
    entry = catalog.find(model)
    if entry is None:
        on = "the CPU" if is_cpu else "one GPU"
        reason = f"not in the catalogue: {on}, the longest context that fits"
        return Plan(model, 0 if is_cpu else 1, ("--max-model-len", "auto"), reason=reason)
    best = entry.best_for([_as_catalogued(gpu) for gpu in gpus])
    if best is None:
        where = "a CPU pod" if is_cpu else describe(gpus)
        raise BadUsage(f"the catalogue has no configuration of `{model}` for {where}", hint=_instead(entry))
    _refuse_joining_slices(gpus, best.count)
    names = " or ".join(best.gpus)
    reason = f"the catalogue's for {best.count}x {names}"
    return Plan(entry.id, best.count, best.args, dict(best.env), reason=reason, min_vllm=entry.min_vllm)


def refuse_ours(arguments: Sequence[str]) -> None:
    """Refuse vLLM options that pi sets itself."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if why := OURS.get(name):
            raise BadUsage(f"`{name}` cannot be given after `--vllm`: {why}", hint="leave it out")


def gpus_asked_for(arguments: Sequence[str]) -> int:
    """Return how many GPUs vLLM arguments ask for: tensor x pipeline x data parallel size.

    >>> gpus_asked_for(["-tp", "2", "--pipeline-parallel-size=2"])
    4
    """
    sizes: dict[str, int] = {}
    for argument, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        size = value if equals else following
        if name in PARALLEL and size.isdecimal():
            sizes[PARALLEL[name]] = int(size)
    return max(1, sizes.get("tensor", 1) * sizes.get("pipeline", 1) * sizes.get("data", 1))


def describe(gpus: Sequence[Gpu]) -> str:
    """Name GPUs as people do: `2x NVIDIA H100 80GB HBM3`."""
    names = dict.fromkeys(gpu.name for gpu in gpus)
    counts = {name: sum(gpu.name == name for gpu in gpus) for name in names}
    return ", ".join(f"{count}x {name}" for name, count in counts.items()) or "a pod without GPUs"


def _as_catalogued(gpu: Gpu) -> Gpu:
    """Leave a slice only its own name: what fits the card does not fit a part of it."""
    return replace(gpu, name=gpu.name.rpartition(" MIG ")[2]) if nvidia.is_slice(gpu) else gpu


def _refuse_joining_slices(gpus: Sequence[Gpu], count: int) -> None:
    if count > 1 and any(nvidia.is_slice(gpu) for gpu in gpus):
        raise BadUsage(
            f"a model cannot use {count} MIG slices: CUDA shows a program only one",
            hint="choose a model that fits one slice, or have the GPUs taken out of MIG mode",
        )


def _instead(entry: catalog.Entry) -> str:
    known = ", ".join(f"{item.count}x {' or '.join(item.gpus)}" for item in entry.hardware)
    return f"it is known to fit {known}; to try anyway, give your own arguments after `--vllm`"
