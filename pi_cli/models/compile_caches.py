"""Delete what earlier starts of a model have compiled on a pod (`pi start --clean-cache`), and say what that was."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.events import Note, Phase, Report
from pi_cli.planning.plan import Plan
from pi_cli.pods import agent
from pi_cli.pods.reports import CleanedFolder
from pi_cli.ssh.session import PodSession

if TYPE_CHECKING:
    from agent import protocol


async def clean(session: PodSession, name: str, plan: Plan, report: Report) -> None:
    """Delete the compile caches that a start would read, and report it.

    Raises `AgentRefused` while another model is starting with them.
    """
    report(Phase(session.pod, "deleting compiled code"))
    request: protocol.CleanRequest = {
        "name": name,
        "model": plan.model,
        "min_vllm": plan.min_vllm,
        "environment": dict(plan.environment),
    }
    folders = await agent.clean(session, request, lambda _: None)
    report(Note(session.pod, worded(folders)))


def worded(folders: Sequence[CleanedFolder]) -> str:
    """Say what was deleted.

    >>> worded([CleanedFolder("/root/.triton/cache", 10**9, 12), CleanedFolder("/tmp/torchinductor_root", 5000, 1)])
    'deleted compiled code: /root/.triton/cache (1.0 GB, 12 files), /tmp/torchinductor_root (5.0 kB, 1 file)'
    """
    if not folders:
        return "there is no compiled code to delete"
    parts = (f"{each.path} ({units.size(each.size)}, {_files(each.files)})" for each in folders)
    return f"deleted compiled code: {', '.join(parts)}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
