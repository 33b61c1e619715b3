"""The current state of a pod: GPUs, disks, vLLM versions, models. One round trip."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.planning import abilities
from pi_cli.pods import agent, nvidia
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import Disk, RunningModel, VllmFile
from pi_cli.ssh.session import PodSession
from pi_cli.store import vllm_files
from pi_cli.store.records import Gpu, Model

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class Machine:
    """A pod at one moment.

    `used` holds (used, total) MiB by GPU id. `vllm` is the default version, `versions` are all of them, `abilities` is
    the digest of what the default vLLM said about itself (`store.vllm_files`). `place` is the folder of `--home`, if
    vLLM is not in the home folder. `trouble` lists what is wrong with the GPUs. `running` holds the models, if they
    were requested.
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
    running: list[RunningModel] = field(default_factory=list)

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


async def inspect(session: PodSession, known: "Sequence[protocol.KnownModel] | None" = None) -> Machine:
    """Inspect a pod; with `known`, pi's own list of the models there, also return the running models.

    A pod without GPUs, or with an `nvidia-smi` that fails or hangs, is not an error. What its default vLLM said about
    itself is stored, if pi does not have it yet.
    """
    queries = {"gpu_query": nvidia.GPU_QUERY, "gpu_list": nvidia.GPU_LIST}
    reply = await agent.inspect(session, **queries, known=known, digests=vllm_files.digests())
    reading = nvidia.read(reply.gpus, reply.slices)
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
        trouble=reading.broken or ([reply.trouble] if reply.trouble else []),
        running=reply.models,
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
