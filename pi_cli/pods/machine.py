"""What a pod is and has right now: GPUs, disks, vLLM versions, models. Asked in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.pods import agent, nvidia
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import Disk, RunningModel
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Gpu, Model

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class Machine:
    """A pod now; `used` holds (used, total) MiB per GPU id, `vllm` is the default one of `versions`.

    `trouble` says what is wrong with its GPUs; `running` are the models there, if they were asked for.
    """

    gpus: list[Gpu]
    used: dict[int, tuple[int, int]]
    driver: str | None
    vllm: str | None
    versions: list[str]
    provider: str | None
    home: Disk
    storage: Disk | None
    boot: str = ""
    trouble: list[str] = field(default_factory=list)
    running: list[RunningModel] = field(default_factory=list)

    @property
    def models(self) -> dict[str, Model]:
        """The models that run, as `pods.json` would have them."""
        return {model.name: model.entry for model in self.running}


async def strangers(session: PodSession) -> list[Holder]:
    """Ask which processes hold GPU memory that pi did not start: in a container, nvidia-smi may not see all of them."""
    reply = await agent.holders(session, [nvidia.UUIDS, nvidia.HOLDERS])
    return [holder for holder in nvidia.read_holders(*reply.outputs) if holder.pid not in reply.ours]


async def inspect(session: PodSession, known: "Sequence[protocol.KnownModel] | None" = None) -> Machine:
    """Look at a pod; with `known`, pi's own list of the models there, also at what runs.

    A pod without GPUs, or with an `nvidia-smi` that fails or hangs, is an answer too.
    """
    reply = await agent.inspect(session, gpu_query=nvidia.QUERY, gpu_list=nvidia.LIST, known=known)
    reading = nvidia.read(reply.gpus, reply.slices)
    return Machine(
        gpus=reading.gpus,
        used=reading.used,
        driver=reading.driver,
        vllm=reply.vllm,
        versions=reply.versions,
        provider=reply.provider,
        home=reply.home,
        storage=reply.storage,
        boot=reply.boot,
        trouble=reading.broken or ([reply.trouble] if reply.trouble else []),
        running=reply.models,
    )
