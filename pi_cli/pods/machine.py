"""What a pod is and has right now: GPUs, disks, vLLM versions. Asked in one round trip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi_cli.pods import agent, nvidia
from pi_cli.pods.nvidia import Holder
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Gpu, Model


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder and the disk under it; sizes are in bytes, None where unknowable, as for pooled network storage.

    `is_mount`: it lies on another disk than `/`. `trouble` says why nothing is known: it is gone, or does not answer.
    """

    path: str
    total: int | None
    free: int | None
    is_mount: bool
    kind: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A pod as it is now; `used` holds (used, total) MiB per GPU id, `vllm` is the default one of `versions`.

    `trouble` says what is wrong with its GPUs; `running` are the models there, by name, if they were asked for.
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
    running: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, Model]:
        """The models that run, as `pods.json` would have them."""
        return {name: _as_model(each) for name, each in self.running.items()}


def _as_model(record: Mapping[str, Any]) -> Model:
    extra = {"memory": record["memory"]} if record.get("memory") else {}
    return Model(record["model"], record["port"], str(record["gpu"]), record["pid"], record.get("uid"), extra)


async def strangers(session: PodSession) -> list[Holder]:
    """Ask who holds GPU memory and was not started by pi: in a container, nvidia-smi may not see everybody."""
    told = await agent.ask(session, "holders", questions=[nvidia.UUIDS, nvidia.HOLDERS])
    return [holder for holder in nvidia.read_holders(*told["said"]) if holder.pid not in told["ours"]]


async def inspect(session: PodSession, known: Sequence[dict[str, Any]] | None = None) -> Machine:
    """Look at a pod; with `known`, pi's own list of the models there, also at what runs.

    A pod without GPUs, or with an `nvidia-smi` that fails or hangs, is an answer too.
    """
    told = await agent.ask(session, "inspect", gpu_query=nvidia.QUERY, gpu_list=nvidia.LIST, known=known)
    reading = nvidia.read(told["gpus"], told["slices"])
    trouble = reading.broken or ([told["trouble"]] if told["trouble"] else [])
    return Machine(
        gpus=reading.gpus,
        used=reading.used,
        driver=reading.driver,
        vllm=told["vllm"],
        versions=told["versions"],
        provider=told["provider"],
        home=Disk(**told["home"]),
        storage=Disk(**told["storage"]) if told["storage"] else None,
        boot=told["boot"],
        trouble=trouble,
        running={each["name"]: each for each in told.get("models", [])},
    )
