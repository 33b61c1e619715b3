"""Start one model over several pods: a head with the HTTP server, and nodes that only compute.

Nothing in vLLM ends a node whose head is gone, and a head that waits for a node which failed waits for minutes without
a word. So each part is watched here, and the first one that ends fails the start and ends all.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pi_cli.diagnosis import causes
from pi_cli.errors import BadUsage, ModelNotStarted, PiError, PodUnreachable
from pi_cli.events import Phase, Report
from pi_cli.hints import fill
from pi_cli.models import private_network, start_errors, start_words, starting, uploads
from pi_cli.models.private_network import Place
from pi_cli.models.start_options import Across, StartOptions
from pi_cli.models.start_progress import StartProgress
from pi_cli.models.starting import Started
from pi_cli.planning import across as planning
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import is_folder
from pi_cli.pods import agent, fleet
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import Fetched, Launched, Placed, StartEnd, StartEvent
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh.session import PodSession
from pi_cli.store import state
from pi_cli.store.records import Model, Pod
from pi_cli.vllm import vllm_arguments

if TYPE_CHECKING:
    from agent import protocol

OTHERS_END = 4.0  # seconds in which others may end too, after the first: their log may have the cause

Choose = Callable[[Mapping[str, Machine]], Mapping[str, Plan]]
"""Plans the part of each pod for their present state."""


@dataclass(slots=True)
class _Part:
    """The part of one pod, and what its agent has reported so far."""

    session: PodSession
    plan: Plan
    machine: Machine
    request: "protocol.StartRequest"
    progress: StartProgress
    fetched: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    commit: str = ""
    port: int = 0
    gpu: str = ""
    pid: int = 0

    @property
    def pod(self) -> str:
        return self.session.pod

    def see(self, event: StartEvent) -> None:
        match event:
            case Placed(port=port, gpu=gpu):
                self.port, self.gpu = port, gpu
            case Fetched(commit=commit):
                self.commit = commit
                self.fetched.set()
            case Launched(pid=pid):
                self.pid = pid
                self.launched.set()
        self.progress.see(event)

    async def go(self) -> AsyncIterator[bytes]:
        """Yield the line on which the agent launches vLLM; stdin stays open behind it."""
        await self.released.wait()
        yield b"\n"
        await asyncio.Event().wait()

    async def run(self) -> StartEnd:
        return await agent.start(self.session, self.request, self.see, go=self.go())

    def entry(self, across: Across) -> Model:
        """Return the entry of a node for `pods.json`, as its survey will report it."""
        optional: dict[str, object] = {"memory": self.plan.memory, "private": self.request["private"]}
        extra = {key: value for key, value in optional.items() if value}
        extra |= {"role": "node", "peers": list(across.pods)}
        return Model(self.request["model"], self.port, self.gpu, self.pid, self.request["uid"], extra)


async def start(
    pods: Mapping[str, Pod], options: StartOptions, choose: Choose, report: Report, *, commit: str | None = None
) -> Started:
    """Start a model over these pods, of which the first is the head, and return once it has answered a real request.

    `commit` is that of the model, if the Hub has said it. If the start fails on one pod, takes too long or is
    cancelled, it is rolled back on all. Raises `BadUsage` if the pods do not suit each other, and what
    `models.starting.start` raises.
    """

    async def work(sessions: Mapping[str, PodSession]) -> Started:
        return await _start(sessions, options, choose, report, commit)

    return await fleet.together(pods, work)


async def _start(
    sessions: Mapping[str, PodSession], options: StartOptions, choose: Choose, report: Report, commit: str | None
) -> Started:
    assert options.across
    uid, name, across = uuid.uuid4().hex, options.name, options.across
    head = across.pods[0]
    progress = {pod: StartProgress(pod, report) for pod in sessions}
    for pod in sessions:
        report(Phase(pod, "comparing the pods"))
    async with (
        _withdrawn_on_failure(sessions, uid, name, progress),
        starting.in_time(options.timeout, name, progress[head]),
    ):
        machines = await _inspected(sessions, report)
        require_same(machines)
        _require_free(machines, name)
        plans = choose(machines)
        spans = planning.spans_pods(plans[head].arguments, len(sessions))
        places = await private_network.find(
            sessions,
            is_insecure=across.is_insecure,
            is_anyway=across.is_anyway,
            spans_pods=spans,
            report=report,
        )
        parts = []
        for pod, session in sessions.items():
            progress[pod].plan(plans[pod])
            plan = await uploads.send(session, _pinned(plans[pod], commit), options.uploads, report)
            request = _request(pod, uid, options, plan, across, places)
            parts.append(_Part(session, plan, machines[pod], request, progress[pod]))
        end = await _followed(parts, options)
        proven = starting.Proven()
        if end.state == "healthy":
            key = options.secrets.key
            proven = await starting.prove(
                sessions[head], name, end.model.entry, key, report, needs_url=options.needs_url
            )
        kept = options.secrets.key.record | start_words.record(start_words.of(options))
        for part in parts[1:]:
            starting.record(part.pod, name, part.entry(across), kept, part.machine)
        model = starting.record(head, name, end.model.entry, kept, machines[head])
    started = starting.started(sessions[head], name, model, progress[head], end.took, proven)
    return replace(started, pods=across.pods)


async def _inspected(sessions: Mapping[str, PodSession], report: Report) -> dict[str, Machine]:
    current = state.load()
    found = await asyncio.gather(
        *(starting.inspect(session, current.pod(pod), report) for pod, session in sessions.items())
    )
    machines = dict(zip(sessions, found, strict=True))
    for pod, machine in machines.items():
        start_errors.require_volume(pod, current.pod(pod).storage, machine.storage)
    return machines


def require_same(machines: Mapping[str, Machine]) -> None:
    """Raise `BadUsage` for pods on which vLLM could not run as one: it compares nothing itself, and would hang."""
    facts = {pod: _facts(machine) for pod, machine in machines.items()}
    first, *others = facts
    for other in others:
        for what, value in facts[first].items():
            if value != facts[other][what]:
                raise BadUsage(
                    f"`{first}` and `{other}` cannot run one model: their {what} differ, "
                    f"{value} and {facts[other][what]}",
                    hint=_remedy(what, first, other, facts),
                )


def _facts(machine: Machine) -> dict[str, str]:
    """Return what has to be equal on all pods, as it is named in the error."""
    gpus = ", ".join(sorted(f"{gpu.name} {gpu.memory}" for gpu in machine.gpus)) or "none"
    driver = f"{machine.driver.partition('.')[0]}.x" if machine.driver else "none"
    return {"GPUs": gpus, "drivers": driver, "versions of vLLM": machine.vllm or "none"}


def _remedy(what: str, first: str, other: str, facts: Mapping[str, Mapping[str, str]]) -> str:
    version = facts[first][what].partition("+")[0]
    if what == "versions of vLLM" and version != "none":
        return fill("install the same with `pi pods setup {other} --vllm {version}`", other=other, version=version)
    return fill("choose pods of one kind; see them with `pi pods --check {first} {other}`", first=first, other=other)


def _require_free(machines: Mapping[str, Machine], name: str) -> None:
    for pod, machine in machines.items():
        if name in machine.models:
            raise start_errors.name_taken(f"`{name}` already runs on `{pod}` (port {machine.models[name].port})")


def _pinned(plan: Plan, commit: str | None) -> Plan:
    """Return a plan with the model's commit: a push to the repository must not come between two downloads."""
    is_named = vllm_arguments.value(plan.arguments, vllm_arguments.REVISION) is not None
    if commit is None or is_named or not plan.is_complete or is_folder(plan.model):
        return plan
    words = (vllm_arguments.REVISION[0], commit)
    return replace(plan, arguments=(*plan.arguments, *words), origins=(*plan.origins, "pi", "pi"))


def _request(
    pod: str, uid: str, options: StartOptions, plan: Plan, across: Across, places: Mapping[str, Place]
) -> "protocol.StartRequest":
    """Return the request for the agent of one pod. A node has no server, so it gets no API key."""
    head = across.pods[0]
    request = starting.request(state.load().pod(pod), uid, options, plan, pod)
    request["across"] = {
        "role": "head" if pod == head else "node",
        "rank": across.pods.index(pod),
        "peers": list(across.pods),
        "master": places[head].address,
        "master_port": places[head].port,
        "address": places[pod].address,
        "interface": places[pod].interface,
    }
    if pod != head:
        keys = ("VLLM_API_KEY", "PI_OTHER_API_KEYS")
        request["environment"] = {key: value for key, value in request["environment"].items() if key not in keys}
    return request


async def _followed(parts: Sequence[_Part], options: StartOptions) -> StartEnd:
    """Start all parts, nodes first, and return the end of the head's start.

    Raises the error of the part that failed first. Until the end of this function, every agent follows its vLLM.
    """
    head, *nodes = parts
    ends = {part.pod: asyncio.create_task(part.run()) for part in parts}
    try:
        await _until([part.fetched for part in parts], ends)
        if not _failed(parts, ends):
            _require_same_commit(parts)
            for node in nodes:
                node.released.set()
            await _until([node.launched for node in nodes], ends)
            if not _failed(parts, ends):
                head.released.set()
        while not (failed := _failed(parts, ends)):
            if ends[head.pod].done() and (options.wait or all(end.done() for end in ends.values())):
                return ends[head.pod].result()
            await asyncio.wait([end for end in ends.values() if not end.done()], return_when=asyncio.FIRST_COMPLETED)
        if pending := [end for end in ends.values() if not end.done()]:
            await asyncio.wait(pending, timeout=OTHERS_END)
        raise _cause(parts, ends, options, failed)
    finally:
        for end in ends.values():
            end.cancel()
        await asyncio.gather(*ends.values(), return_exceptions=True)


async def _until(events: Sequence[asyncio.Event], ends: Mapping[str, "asyncio.Task[StartEnd]"]) -> None:
    """Wait until all of these have happened, or a part has ended."""
    for event in events:
        happening = asyncio.create_task(event.wait())
        try:
            waiting: list[asyncio.Task[Any]] = [happening, *ends.values()]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happening.cancel()


def _failed(parts: Sequence[_Part], ends: Mapping[str, "asyncio.Task[StartEnd]"]) -> list[_Part]:
    """Return the parts that have ended without success."""
    done = [part for part in parts if ends[part.pod].done()]
    return [part for part in done if ends[part.pod].exception() or ends[part.pod].result().state == "exited"]


def _cause(
    parts: Sequence[_Part], ends: Mapping[str, "asyncio.Task[StartEnd]"], options: StartOptions, first: Sequence[_Part]
) -> PiError:
    """Return the error of the part that failed first, or of one whose log has a known cause where that has none."""
    failed = [*first, *(part for part in _failed(parts, ends) if part not in first)]
    errors = [(part, _error(part, ends[part.pod], options)) for part in failed]
    for part in failed:
        part.progress.has_ended = True
    known = [error for part, error in errors if _is_explained(part, error)]
    return (known or [error for _, error in errors])[0]


def _is_explained(part: _Part, error: PiError) -> bool:
    if not isinstance(error, ModelNotStarted):
        return True
    cause = causes.find(part.progress.log, pod=part.pod, model=part.plan.model)
    return bool(cause and cause.is_known)


def _error(part: _Part, end: "asyncio.Task[StartEnd]", options: StartOptions) -> PiError:
    error = end.exception()
    if isinstance(error, AgentRefused):
        return start_errors.refused(part.pod, part.plan, error, options.command)
    if isinstance(error, PiError):
        return error
    if error:
        raise error
    command = start_errors.planned(options.command, part.plan, part.pod)
    return start_errors.died(part.plan.model, part.progress, end.result(), command)


def _require_same_commit(parts: Sequence[_Part]) -> None:
    """Raise `PiError` if the pods have downloaded different commits: vLLM does not compare them."""
    commits = {part.pod: part.commit for part in parts}
    if len(set(commits.values())) > 1:
        found = ", ".join(f"`{pod}` {commit[:8] or 'an unknown one'}" for pod, commit in commits.items())
        raise PiError(
            f"the pods have different commits of `{parts[0].plan.model}`: {found}",
            hint="name one of them with `--vllm --revision COMMIT`, or delete the older copy on the pod",
        )


@asynccontextmanager
async def _withdrawn_on_failure(
    sessions: Mapping[str, PodSession], uid: str, name: str, progress: Mapping[str, StartProgress]
) -> AsyncIterator[None]:
    """Stop all parts and remove them from `pods.json` if the block fails or is cancelled."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # the terminal may be closed, which may be the reason for the cancellation
            for each in progress.values():
                each.report_rollback()
        stopped = await asyncio.gather(*(starting.withdraw(session, uid, name) for session in sessions.values()))
        left = [pod for pod, is_stopped in zip(sessions, stopped, strict=True) if not is_stopped]
        if isinstance(error, PodUnreachable) and any(progress[pod].was_launched for pod in left):
            hint = "`{name}` may still be loading there; once that pod answers, `pi stop {name} --pod {pod}` stops it"
            error.with_hint(fill(hint, name=name, pod=left[0]))
        raise
