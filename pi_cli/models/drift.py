"""Compare the entry of a pod in `pods.json` with the present state of the pod. Read-only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from pi_cli import units
from pi_cli.diagnosis import cuda_errors
from pi_cli.errors import PiError
from pi_cli.events import Report
from pi_cli.hints import fill
from pi_cli.models import model_status
from pi_cli.planning import gpu_space
from pi_cli.pods import machine
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import Disk
from pi_cli.store.records import Gpu, Pod, Storage

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession
SAME_SIZE = 0.05  # accepted relative difference: the recorded size is rounded
SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference from `pods.json`, and what to do about it."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking a pod; without `machine`, it did not answer, and `error` is the reason."""

    name: str
    pod: Pod
    machine: Machine | None = None
    differences: list[Difference] = field(default_factory=list)
    error: PiError | None = None

    @property
    def status(self) -> Literal["ok", "changed", "unreachable", "unknown"]:
        if self.machine is None:
            return model_status.status_after(self.error) if self.error else "unknown"
        return "changed" if self.differences else "ok"


async def check(session: PodSession, pod: Pod, report: Report = lambda _: None) -> Checked:
    """Inspect a pod, and compare; raises what `machine.inspect` raises."""
    current = await machine.inspect(session, model_status.known(pod.models), ask_cuda=not pod.is_cpu, report=report)
    return Checked(session.pod, pod, current, list(differences(session.pod, pod, current)))


def differences(name: str, pod: Pod, current: Machine) -> Iterator[Difference]:
    setup = ["pi", "pods", "setup", name, *(["--cpu"] if pod.is_cpu else [])]
    yield from _of_gpus(name, pod, current, setup)
    yield from _of_cuda(name, current)
    yield from _of_vllm(pod, current, setup)
    yield from of_storage(pod.storage, current.storage, setup)
    yield from _of_models(name, pod, current)
    if not pod.is_cpu:
        yield from _of_memory(name, current)


def _of_gpus(name: str, pod: Pod, current: Machine, setup: Sequence[str]) -> Iterator[Difference]:
    """Compare the GPUs, as far as nvidia-smi has said which there are."""
    if pod.is_cpu or _are_same(pod.gpus, current.gpus):
        return
    before, now = (units.counted(gpu.name for gpu in gpus) for gpus in (pod.gpus, current.gpus))
    why = f" ({'; '.join(current.trouble)})" if current.trouble else ""
    text = f"the recorded GPUs are {before or 'none'}, the pod has {now or 'none'}{why}"
    unknown = f"whether the recorded GPUs are there ({before or 'none'}) is unknown{why}"
    if current.smi == "hangs":
        yield Difference(unknown, "restart the machine; if its driver still hangs, ask the provider")
    elif current.smi == "missing":
        yield Difference(unknown, fill("see what the machine lacks with `{setup}`", setup=setup))
    elif current.smi == "fails" and not current.gpus:
        yield Difference(
            unknown, fill("see why with `pi ssh {pod} nvidia-smi`; restarting the machine may help", pod=name)
        )
    elif current.gpus:
        yield Difference(text, fill("record them with `{setup}`", setup=setup))
    else:
        yield Difference(
            text, "a stopped machine may lose its GPUs to other customers: rent another one with the same volume"
        )


def _are_same(recorded: Sequence[Gpu], current: Sequence[Gpu]) -> bool:
    """Return whether GPUs have the same types; users who edit `pods.json` write `H100`, nvidia-smi a longer name."""
    pairs = list(zip(sorted(recorded, key=_id), sorted(current, key=_id), strict=False))
    return len(recorded) == len(current) and all(
        then.name in now.name and then.extra.get("uuid") == now.extra.get("uuid") for then, now in pairs
    )


def _id(gpu: Gpu) -> int:
    return gpu.id


def _of_cuda(name: str, current: Machine) -> Iterator[Difference]:
    """Say why CUDA does not work; where nvidia-smi finds no GPU, that is said already."""
    if current.cuda is None or not current.gpus:
        return
    if current.cuda.problem:
        cause, remedy = cuda_errors.explain(asdict(current.cuda), pod=name)
        yield Difference(cause if current.cuda.problem == "unasked" else f"CUDA does not work: {cause}", remedy)
    else:
        for cause, remedy in cuda_errors.remarks(asdict(current.cuda), pod=name):
            yield Difference(cause, remedy)


def _of_vllm(pod: Pod, current: Machine, setup: Sequence[str]) -> Iterator[Difference]:
    if current.vllm is None and current.place:
        text = f"vLLM is gone from {current.place.path}"
        text += f": {current.place.trouble}" if current.place.trouble else ": a stop may have erased that disk"
        yield Difference(text, fill("install it again with `{setup}`", setup=setup))
    elif current.vllm is None:
        yield Difference("vLLM is not installed", fill("install it with `{setup}`", setup=setup))
    elif pod.vllm and pod.vllm != current.vllm:
        text = f"the recorded vLLM is {pod.vllm}, the pod has {current.vllm}"
        yield Difference(text, fill("record it with `{setup}`", setup=setup))


def of_storage(recorded: Storage | None, current: Disk | None, setup: Sequence[str]) -> Iterator[Difference]:
    """Compare the folders for models; `setup` is the command that would set the pod up again."""
    if recorded is None:
        return
    mount = [] if recorded.mount else ["--mount", "COMMAND"]  # setup remembers the command that it used
    again = fill("mount it again with `{again}`, or name the folder with `--models-path`", again=[*setup, *mount])
    if current is None or current.path != recorded.path:
        folder = f"on {current.path}" if current else "in the home folder"
        yield Difference(f"models were kept on {recorded.path}, and are now {folder}", again)
    elif current.trouble:
        yield Difference(f"{current.path} cannot be used: {current.trouble}", again)
    elif not current.is_mount and current.total and not _is_size(recorded.size, current.total):
        yield Difference(f"nothing is mounted on {current.path} any more", again)


def _is_size(text: str | None, total: int) -> bool:
    """Return whether a recorded size, e.g. `3.9TB`, is about `total` bytes; for a pool, no size is recorded."""
    size = re.fullmatch(r"([\d.]+)\s*([kMGTP]?B)", text or "")
    return size is not None and abs(float(size[1]) * SIZE_UNITS[size[2]] - total) <= SAME_SIZE * total


def _of_models(name: str, pod: Pod, current: Machine) -> Iterator[Difference]:
    running = {model.name: model for model in current.running}
    for recorded in pod.models:
        if recorded not in running:
            hint = fill("`pi list --pod {pod}` removes it from the list", pod=name)
            yield Difference(f"`{recorded}` is recorded but not running", hint)
    for model in current.running:
        if model.is_foreign:
            hint = fill("`pi stop --all --pod {pod}` stops it with all others", pod=name)
            yield Difference(f"a model with a name that pi does not allow is running: {model.name}", hint)
        elif model.name not in pod.models:
            hint = fill("`pi list --pod {pod}` adds it to the list", pod=name)
            yield Difference(f"`{model.name}` is running but not recorded", hint)


def _of_memory(name: str, current: Machine) -> Iterator[Difference]:
    """Name the GPUs whose memory is used by processes that pi did not start: a model started there would fail."""
    with_models = {id for model in current.models.values() for id in model.gpus}
    for id, (used, total) in current.used.items():
        if id not in with_models and used > gpu_space.IDLE_SHARE * total:
            text = f"GPU {id}: {used / 1024:.0f} of {total / 1024:.0f} GiB are used by processes that pi did not start"
            yield Difference(text, fill("see which with `pi ssh {pod} nvidia-smi`", pod=name))
