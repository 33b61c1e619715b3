"""Why a model failed, from its log on the pod: any time later, also when the model is not recorded any more."""

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.diagnosis import causes, circumstances
from pi_cli.diagnosis.causes import Cause
from pi_cli.diagnosis.circumstances import Circumstances
from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.models import recorded_command
from pi_cli.models.logs import SERVES, SHUT_DOWN, LogEnd, source_of
from pi_cli.pods import agent
from pi_cli.pods.reports import LogChange
from pi_cli.pods.wording import AgentRefused
from pi_cli.safe import safe
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

LINES = 20_000  # from the end of a log
MAX_BYTES = 8 << 20
ARGUMENTS = re.compile(r"non-default args: \{.{0,400}?'model': '(?P<model>[\w./-]{1,200})'")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model failed; without a cause, its log does not show why. `is_alive`: it is still running."""

    pod: str
    name: str
    model: str
    is_alive: bool
    was_shut_down: bool
    cause: Cause | None
    circumstances: Circumstances


async def explain(session: PodSession, name: str, pod: Pod) -> Explanation:
    """Read the last log of a model, and explain how it ended. Raises `PiError` if the pod has no such log."""
    model = pod.models.get(name)
    log, is_alive = await _read(session, name, model)
    log = safe(log)  # what is quoted of it goes to screens, pipes and JSON
    id = model.model if model else _model_in(log)
    command = recorded_command.read(name, model, pod)
    cause = causes.find(
        log, pod=session.pod, model=id or name, command=command, was_serving=SERVES.search(log) is not None
    )
    found = circumstances.find(log, cause.line if cause else "")
    return Explanation(session.pod, name, id, is_alive, SHUT_DOWN.search(log) is not None, cause, found)


def _model_in(log: str) -> str:
    """Return the id that vLLM was started with; empty if the log does not say it."""
    named = ARGUMENTS.search(log)
    return named["model"] if named else ""


async def _read(session: PodSession, name: str, model: Model | None) -> tuple[str, bool]:
    end = LogEnd(MAX_BYTES)
    changes: list[LogChange] = []

    def take(source: int, offset: int, part: bytes | LogChange) -> Awaitable[None] | None:
        del source, offset
        if isinstance(part, LogChange):
            changes.append(part)
        else:
            end.keep(part)
        return None

    known = model or Model("", port=0, gpu="", pid=0)
    request: protocol.LogsRequest = {
        "sources": [source_of(name, known, uid=known.uid)],
        "lines": LINES,
        "since": None,
        "grep": None,
        "follow": False,
        "looks": False,
    }
    try:
        await agent.logs(session, request, take)
    except AgentRefused as error:
        raise error.with_hint(fill("see what runs with `pi list --pod {pod}`", pod=session.pod)) from error
    log = end.text()
    if not log.strip():
        raise PiError(
            f"the log of `{name}` on `{session.pod}` is empty",
            hint=fill("see what runs with `pi list --pod {pod}`", pod=session.pod),
        )
    return log, any(change.is_alive for change in changes)
