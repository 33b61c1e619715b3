"""Compare what `pods.json` says about a pod with what the pod is now. It reports; it changes neither."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.models import model_status
from pi_cli.planning import gpu_space
from pi_cli.pods import machine
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import Disk
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Gpu, Pod, Storage

SAME_SIZE = 0.05  # between the size we remember, which is rounded, and the one that is told
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as `pods.json` says, and what to do about it."""

    text: str
    mend: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A pod as it was found; without `machine` it did not answer, for the reason in `error`."""

    name: str
    pod: Pod
    machine: Machine | None = None
    differences: list[Difference] = field(default_factory=list)
    error: PiError | None = None

    @property
    def status(self) -> Literal["ok", "changed", "unreachable"]:
        if self.machine is None:
            return "unreachable"
        return "changed" if self.differences else "ok"


async def check(session: PodSession, pod: Pod) -> Checked:
    """Look at a pod, and compare; raises what `machine.inspect` raises."""
    found = await machine.inspect(session, model_status.known(pod.models))
    return Checked(session.pod, pod, found, list(differences(session.pod, pod, found)))


def differences(name: str, pod: Pod, found: Machine) -> Iterator[Difference]:
    setup = ["pi", "pods", "setup", name, *(["--cpu"] if pod.is_cpu else [])]
    yield from _of_gpus(pod, found, setup)
    yield from _of_vllm(pod, found, setup)
    yield from of_storage(pod.storage, found.storage, setup)
    yield from _of_models(name, pod, found)
    if not pod.is_cpu:
        yield from _of_memory(name, found)


def _of_gpus(pod: Pod, found: Machine, setup: Sequence[str]) -> Iterator[Difference]:
    if pod.is_cpu or _are_same(pod.gpus, found.gpus):
        return
    before, now = (units.counted(gpu.name for gpu in gpus) for gpus in (pod.gpus, found.gpus))
    why = f" ({'; '.join(found.trouble)})" if found.trouble else ""
    text = f"{before or 'no GPU'} was recorded, and there is {now or 'none'}{why}"
    if found.gpus:
        yield Difference(text, fill("record it with `{setup}`", setup=setup))
    else:
        yield Difference(
            text, "a stopped machine may lose its GPUs to others: rent another one, and give it the same volume"
        )


def _are_same(recorded: Sequence[Gpu], found: Sequence[Gpu]) -> bool:
    """Compare GPUs by type; people write `H100` by hand where nvidia-smi says more."""
    pairs = list(zip(sorted(recorded, key=_id), sorted(found, key=_id), strict=False))
    return len(recorded) == len(found) and all(
        then.name in now.name and then.extra.get("uuid") == now.extra.get("uuid") for then, now in pairs
    )


def _id(gpu: Gpu) -> int:
    return gpu.id


def _of_vllm(pod: Pod, found: Machine, setup: Sequence[str]) -> Iterator[Difference]:
    if found.vllm is None:
        yield Difference("there is no vLLM", fill("install it with `{setup}`", setup=setup))
    elif pod.vllm and pod.vllm != found.vllm:
        text = f"vLLM {pod.vllm} was recorded, and there is {found.vllm}"
        yield Difference(text, fill("record it with `{setup}`", setup=setup))


def of_storage(recorded: Storage | None, found: Disk | None, setup: Sequence[str]) -> Iterator[Difference]:
    """Compare where models are kept; `setup` is the command that would set the pod up again."""
    if recorded is None:
        return
    mount = [] if recorded.mount else ["--mount", "COMMAND"]  # setup remembers the command that it used
    again = fill("mount it again with `{again}`, or name the folder with `--models-path`", again=[*setup, *mount])
    if found is None or found.path != recorded.path:
        place = f"on {found.path}" if found else "in the home folder"
        yield Difference(f"models were kept on {recorded.path}, and are now {place}", again)
    elif found.trouble:
        yield Difference(f"{found.path} cannot be used: {found.trouble}", again)
    elif not found.is_mount and found.total and not _is_size(recorded.size, found.total):
        yield Difference(f"nothing is mounted on {found.path} any more", again)


def _is_size(said: str | None, total: int) -> bool:
    """Tell whether a size as people say it (`3.9TB`) is this one; of a pool nothing was said."""
    read = re.fullmatch(r"([\d.]+)\s*([kMGTP]?B)", said or "")
    return read is not None and abs(float(read[1]) * UNITS[read[2]] - total) <= SAME_SIZE * total


def _of_models(name: str, pod: Pod, found: Machine) -> Iterator[Difference]:
    running = {model.name: model for model in found.running}
    for recorded in pod.models:
        if recorded not in running:
            mend = fill("`pi list --pod {pod}` forgets it", pod=name)
            yield Difference(f"`{recorded}` is recorded and does not run", mend)
    for model in found.running:
        if model.is_foreign:
            mend = fill("`pi stop --all --pod {pod}` ends it with all others", pod=name)
            yield Difference(f"a model runs under a name that pi does not give: {model.name}", mend)
        elif model.name not in pod.models:
            mend = fill("`pi list --pod {pod}` adds it", pod=name)
            yield Difference(f"`{model.name}` runs and is not recorded", mend)


def _of_memory(name: str, found: Machine) -> Iterator[Difference]:
    """Name the GPUs whose memory other processes hold: a model started there would fail."""
    ours = {id for model in found.models.values() for id in model.gpus}
    for id, (used, total) in found.used.items():
        if id not in ours and used > gpu_space.IDLE_SHARE * total:
            text = f"GPU {id}: {used / 1024:.0f} of {total / 1024:.0f} GiB are in use by nothing that pi started"
            yield Difference(text, fill("see by what with `pi ssh {pod} nvidia-smi`", pod=name))
