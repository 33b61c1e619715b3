"""What `pi doctor` asks a pod: whether it can be reached, its vLLMs, and which setup scripts it has. Read-only."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.pods import agent, fleet, nvidia
from pi_cli.store import paths, vllm_files
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

# A fixed text: nothing in it is a value.
DIGEST = "cd .pi/remote 2>/dev/null && LC_ALL=C cat pod_setup.sh setup/*.[ps][yh] 2>/dev/null | sha256sum"


@dataclass(frozen=True, slots=True)
class PodHealth:
    """What one login has shown. `has_these_scripts`: those of this pi; None if setup has never stored any."""

    pod: str
    seconds: float
    vllm: str | None = None
    versions: tuple[str, ...] = ()
    has_these_scripts: bool | None = None
    error: PiError | None = None


async def ask(pods: Mapping[str, Pod]) -> list[PodHealth]:
    """Log in to all pods at once, and change nothing on them."""
    began = time.monotonic()
    found: dict[str, PodHealth] = {}

    async def examine(session: "PodSession") -> None:
        seconds = time.monotonic() - began
        reply = await agent.inspect(
            session, gpu_query=nvidia.GPU_QUERY, gpu_list=nvidia.GPU_LIST, known=None, digests=vllm_files.digests()
        )
        done = await session.run(DIGEST)
        digest = done.stdout.decode("ascii", "replace").split(" ")[0]
        scripts = None if digest in ("", hashlib.sha256().hexdigest()) else digest == _own_digest()
        found[session.pod] = PodHealth(session.pod, seconds, reply.vllm, tuple(reply.versions), scripts)

    failures = await fleet.on_each(pods, examine)
    for name, error in failures.items():
        found[name] = PodHealth(name, time.monotonic() - began, error=error)
    return [found[name] for name in pods]


def _own_digest() -> str:
    script = paths.asset("remote/pod_setup.sh")
    files = [script, *sorted(script.with_name("setup").glob("*.[ps][yh]"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
