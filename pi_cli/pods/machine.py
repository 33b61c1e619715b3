"""The current state of a pod: GPUs, disks, vLLM versions, models. One round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pi_cli.diagnosis import cuda_errors
from pi_cli.events import Note, Report
from pi_cli.pods import agent, bare_source, nvidia
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import CudaAnswer, Disk, Remark, RunningModel, StartEvent, VllmFile
from pi_cli.store import vllm_files
from pi_cli.store.records import Gpu, Model
from pi_cli.vllm import abilities

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.pods.staying_agent import StayingAgent
    from pi_cli.ssh.session import PodSession


@dataclass(frozen=True, slots=True)
class Machine:
    """A pod at one moment.

    `used` holds (used, total) MiB by GPU id. `vllm` is the default version, `versions` are all of them, `abilities` is
    the digest of what the default vLLM said about itself (`store.vllm_files`). `place` is the folder of `--home`, if
    vLLM is not in the home folder. `trouble` lists what is wrong with the GPUs; `smi` is what nvidia-smi did: only one
    that `lists` GPUs, or none, says which there are. `running` holds the models, and `cuda` is what the driver
    answered, if they were requested.
    """

    gpus: list[Gpu]
    used: dict[int, tuple[int, int]]
    driver: str | None
    vllm: str | None
    versions: list[str]
    provider: str | None
    home: Disk
    storage: Disk | None
    place: Disk | None = None
    boot: str = ""
    abilities: str | None = None
    trouble: list[str] = field(default_factory=list)
    smi: Literal["lists", "fails", "hangs", "missing"] = "lists"
    running: list[RunningModel] = field(default_factory=list)
    cuda: CudaAnswer | None = None

    @property
    def models(self) -> dict[str, Model]:
        """Return the running models as entries for `pods.json`."""
        return {model.name: model.entry for model in self.running}


async def other_processes(session: PodSession) -> list[Holder]:
    """Return the processes that hold GPU memory and were not started by pi.

    In a container, nvidia-smi may not see all of them.
    """
    reply = await agent.holders(session, [nvidia.UUIDS, nvidia.HOLDERS])
    return [holder for holder in nvidia.read_holders(*reply.outputs) if holder.pid not in reply.ours]


async def inspect(
    session: PodSession | StayingAgent,
    known: Sequence[protocol.KnownModel] | None = None,
    *,
    ask_cuda: bool = False,
    report: Report = lambda _: None,
) -> Machine:
    """Inspect a pod; with `known`, pi's own list of the models there, also return the running models. With `ask_cuda`,
    ask the driver whether CUDA works, which takes a tenth of a second.

    A pod without GPUs, or with an `nvidia-smi` that fails or hangs, is not an error. What its default vLLM said about
    itself is stored, if pi does not have it yet.
    """
    queries = {"gpu_query": nvidia.GPU_QUERY, "gpu_list": nvidia.GPU_LIST}
    question = bare_source.bare(cuda_errors.question()) if ask_cuda else None

    def tell(event: StartEvent) -> None:
        if isinstance(event, Remark):
            report(Note(session.pod, event.text))

    reply = await agent.inspect(
        session, **queries, known=known, digests=vllm_files.digests(), cuda=question, on_event=tell
    )
    reading = nvidia.read(reply.gpus, reply.slices)
    trouble = list(reading.broken)
    if reply.trouble and (not trouble or reply.driver == "hangs"):
        trouble.append(reply.trouble)
    return Machine(
        gpus=reading.gpus,
        used=reading.used,
        driver=reading.driver,
        vllm=reply.vllm,
        versions=reply.versions,
        provider=reply.provider,
        home=reply.home,
        place=reply.place,
        storage=reply.storage,
        boot=reply.boot,
        abilities=_abilities(reply.abilities),
        trouble=trouble,
        smi="lists" if reply.driver == "answers" or nvidia.lists_none(reply.gpus) else reply.driver,
        running=reply.models,
        cuda=reply.cuda,
    )


def _abilities(found: Sequence[VllmFile]) -> str | None:
    """Return the digest of what the default vLLM said about itself; None if it said nothing that pi understands."""
    file = next((file for file in found if file.is_default), None)
    if file is None:
        return None
    if file.text is not None:
        if abilities.understood(file.text) is None:
            return None
        vllm_files.write(file.text)
    return file.digest
