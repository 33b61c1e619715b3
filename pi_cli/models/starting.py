"""Start models on pods, and roll back a start that fails."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli import interrupts
from pi_cli.diagnosis import causes, memory_lines
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import ModelNotStarted, NoRoom, PiError, PodUnreachable
from pi_cli.events import Phase, Report
from pi_cli.hints import fill
from pi_cli.models import (
    compile_caches,
    health,
    identity,
    leases,
    model_status,
    public_ports,
    recorded_command,
    start_errors,
    start_words,
    uploads,
)
from pi_cli.models.door import Door
from pi_cli.models.identity import Identity
from pi_cli.models.public_ports import PublicPorts
from pi_cli.models.served import Kind
from pi_cli.models.start_options import StartOptions
from pi_cli.models.start_progress import StartProgress
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import is_folder
from pi_cli.pods import agent, agent_program, bare_source, machine, shell, staying_agent
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import StartEnd
from pi_cli.pods.staying_agent import StayingAgent
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh.session import PodSession
from pi_cli.store import measurements, paths, state, unknown
from pi_cli.store.keys import ApiKey
from pi_cli.store.measurements import Measurement
from pi_cli.store.records import Model, Pod
from pi_cli.vllm import vllm_arguments

if TYPE_CHECKING:
    from agent import protocol

CLEANUP_TIMEOUT = 25.0  # seconds; the pod itself takes up to 12 from TERM to KILL
MAX_PLANS = 20  # attempts to choose GPUs before other clients take them

Choose = Callable[[Machine], Plan]
"""Plans a model for the present state of a pod."""


@dataclass(frozen=True, slots=True)
class Started:
    """A started model; `url` is its public endpoint if the model has answered there from this machine.

    `answers_here` is whether it has, None if that is not known.

    `took` is the number of seconds from the launch until the model was ready, `phases` the seconds of each phase,
    `downloading` those of the download before, if there was one, and `compiling` those of it in which vLLM has compiled
    meanwhile. `kind` is what the model is for. `fixes` are what
    `--fix` has changed, if it has. Over several pods, `pods` are all of them, and `pod` is the head.
    """

    pod: str
    name: str
    model: Model
    url: str | None
    is_ready: bool
    answers_here: bool | None = None
    took: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    downloading: float | None = None
    compiling: float | None = None
    kind: Kind = "generation"
    fixes: "tuple[Fix, ...]" = ()
    pods: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Name the pods that it runs on: `dc1`, or `dc1+dc2` for one model over several."""
        return "+".join(self.pods) or self.pod


@dataclass(frozen=True, slots=True)
class Fix:
    """A remedy that `--fix` has tried: the cause that a start failed for, and the command that was started instead."""

    cause: str
    command: StartCommand


async def start(
    session: PodSession, options: StartOptions, choose: Choose, report: Report, *, spent: float = 0.0
) -> Started:
    """Start a model on a pod and return once it has answered a real request (or, without `wait`, is launched).

    `spent` are the seconds of the time-out that an earlier attempt has taken.

    If it fails, takes too long or is cancelled, it is rolled back: nothing is left on the pod or in `pods.json`. Raises
    `ModelNotStarted` with the cause, `PodUnreachable`, `PiError`, and the errors of `choose`.
    """
    uid, name = uuid.uuid4().hex, options.name
    progress = StartProgress(session.pod, report)
    if options.then:
        await leases.require_pod_stop(session)
    report(Phase(session.pod, "finding a port and GPUs"))
    async with _rolled_back_on_failure(session, uid, name, progress), in_time(options.timeout, name, progress, spent):
        plan, end, current = await _begin(session, uid, options, choose, progress)
        if end.state == "exited":
            progress.has_ended = True
            raise start_errors.died(plan.model, progress, end, start_errors.planned(options.command, plan, session.pod))
        proven = Proven()
        if options.wait:
            proven = await prove(
                session, name, end.model.entry, options.secrets.key, report, needs_url=options.needs_url
            )
        command = start_errors.planned(options.command, plan, session.pod)
        kept = options.secrets.key.record | start_words.record(start_words.of(options))
        model = record(session.pod, name, end.model.entry, kept | recorded_command.record(command), current)
    if end.took is not None:
        progress.remember_times(plan, end.took)
        remember_memory(plan, progress.log)
    return started(session, name, model, progress, end.took, proven)


async def attach(
    session: PodSession,
    name: str,
    *,
    key: ApiKey,
    report: Report,
    timeout: float | None = None,
    needs_url: bool = False,
) -> Started:
    """Follow a model that is starting on a pod until it has answered a real request.

    If this is cancelled, the model keeps loading.
    """
    progress = StartProgress(session.pod, report)
    async with in_time(timeout, name, progress):
        try:
            end = await agent.attach(session, name, progress.see)
        except AgentRefused as error:
            if error.code == "not-there" and name not in (current := state.load()).pod(session.pod).models:
                raise unknown.model(current, [name], session.pod) from error
            raise error.with_hint("see what runs with `pi list`") from error
        if end.state == "exited":
            with state.edit() as current:
                entry = current.pod(session.pod).models.pop(name, None)
                command = recorded_command.read(name, entry, current.pod(session.pod))
            raise start_errors.died(end.model.model, progress, end, command)
        proven = await prove(session, name, end.model.entry, key, report, needs_url=needs_url)
    model = record(session.pod, name, end.model.entry)
    return started(session, name, model, progress, end.took, proven)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a started model is for, and whether it answers at its public port, None if that is not known."""

    kind: Kind = "generation"
    answers_here: bool | None = None


async def prove(
    session: PodSession, name: str, model: Model, key: ApiKey, report: Report, *, needs_url: bool = False
) -> Proven:
    """Check that a model answers a real request. Meanwhile, its public port is asked, which is not waited for unless
    the URL is what is wanted."""
    report(Phase(session.pod, "requesting a first token"))
    ports, place = PublicPorts(), public_ports.place_of(session.pod, session.host, model)
    expected = Identity(model.port, {identity.proof_key(key.value, model.uid)} if model.uid else ())
    door = Door(session, name, key=key)
    door.expect(model)
    async with ports.asking({}):
        ports.ask(place)
        async with door.socket() as socket:
            kind = await health.prove(socket, name=name, key=key.value)
        if needs_url:
            await ports.answers_now(place, expected)
        verdict = ports.verdict(place, expected)
    ports.remember()
    return Proven(kind, verdict.answers if verdict else None)


def record(
    pod: str, name: str, model: Model, kept: Mapping[str, Any] | None = None, machine: Machine | None = None
) -> Model:
    """Write a model into `pods.json`, with the extra keys of an entry of the same launch, and what its vLLM can do.

    `kept` is what only this machine knows of the start.
    """
    extra = model.extra | dict(kept or {})
    with state.edit() as current:
        models = current.pod(pod).models
        current.pod(pod).quiet_since = None
        if machine:
            current.pod(pod).abilities = machine.abilities
        before = models.get(name)
        is_same = before is not None and before.uid == model.uid  # launched before, and only now ready
        model.extra = before.extra | extra if before and is_same else extra
        models[name] = model
    return model


def started(
    session: PodSession, name: str, model: Model, progress: StartProgress, took: float | None, proven: Proven
) -> Started:
    return Started(
        session.pod,
        name,
        model,
        model_status.endpoint(session.host, model) if proven.answers_here else None,
        is_ready=took is not None,
        answers_here=proven.answers_here,
        took=took,
        phases={} if took is None else progress.phases(took),
        downloading=progress.downloading,
        kind=proven.kind,
        compiling=progress.compiling,
    )


@asynccontextmanager
async def in_time(timeout: float | None, name: str, progress: StartProgress, spent: float = 0.0) -> AsyncIterator[None]:
    """Stop the block with `ModelNotStarted` after this time; until then, report when nothing changes for long."""
    try:
        async with asyncio.timeout(timeout and timeout - spent) as deadline:
            with progress.monitored():
                yield
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise ModelNotStarted(
            f"`{name}` on `{progress.pod}` was not ready within the {timeout:.0f} s of `--timeout`",
            hint="allow more time, or leave out `--timeout`",
            log=causes.last_lines(progress.log, 5),
        ) from error


def remember_memory(plan: Plan, log: str) -> None:
    """Store the memory that vLLM logged together with the prediction, for the next plan of the same model."""
    logged = memory_lines.find(log)
    if logged is None or plan.fit is None or plan.memory is None or not plan.is_complete:
        return  # the user's own arguments may divide the memory differently than the planner
    options = vllm_arguments.parse(plan.arguments)
    share = plan.fit.memory.total * plan.memory  # GiB
    with suppress(PiError):  # the model runs, so this is not worth an error
        measurements.add(
            Measurement(
                plan.model,
                plan.kind,
                len(plan.gpus),
                options.tensor,
                logged.vllm,
                not_kv_cache=round(share - logged.memory, 2),
                kv_cache=logged.memory,
                tokens=logged.tokens,
                predicted_kv_cache=round(plan.fit.memory.kv_cache, 2),
                predicted_tokens=plan.fit.tokens,
            )
        )


@asynccontextmanager
async def _rolled_back_on_failure(
    session: PodSession, uid: str, name: str, progress: StartProgress
) -> AsyncIterator[None]:
    """Stop the model and remove it from `pods.json` if the block fails or is cancelled after the pod was asked."""
    try:
        yield
    except BaseException as error:
        if not progress.was_asked:
            raise  # a refusal does not wait for a rollback of nothing
        is_stopped = False
        try:
            if not interrupts.is_impatient():
                with suppress(OSError):  # the terminal may be closed, which may be the reason for the cancellation
                    progress.report_rollback()
                is_stopped = await withdraw(session, uid, name)
        finally:
            if isinstance(error, asyncio.CancelledError):
                with suppress(OSError):
                    progress.report_cancelled(name, is_stopped=is_stopped)
        if isinstance(error, PodUnreachable) and progress.was_launched and not is_stopped:
            hint = (
                "`{name}` keeps loading on the pod; once that answers, follow it with "
                "`pi start --attach {name} --pod {pod}`"
            )
            error.with_hint(fill(hint, name=name, pod=session.pod))
        raise


async def withdraw(session: PodSession, uid: str, name: str) -> bool:
    """Stop a launch and remove it from `pods.json`; return whether the pod has confirmed that it is stopped."""
    is_stopped = False
    with suppress(PiError, TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT):
            await agent.stop(session, [model_status.known_by_uid(name, uid)], exact=True)
            is_stopped = True
    with suppress(PiError), state.edit() as current:  # what has failed is the error to report
        models = current.pod(session.pod).models
        if name in models and models[name].uid == uid:
            del models[name]
    return is_stopped


async def _begin(
    session: PodSession, uid: str, options: StartOptions, choose: Choose, progress: StartProgress
) -> tuple[Plan, StartEnd, Machine]:
    """Inspect the pod, plan, and start; plan again if other clients took the GPUs in the meantime."""
    name, then = options.name, agent_program.LEASED_START if options.lease else "start"
    while True:
        recorded = state.load().pod(session.pod)
        async with staying_agent.opened(session, then=then) as on_pod:
            current = await _inspect(session, on_pod, recorded, progress.report)
            if name in current.models:  # checked before planning, for which its own GPUs would count as taken
                port = current.models[name].port
                raise start_errors.name_taken(f"`{name}` already runs here (port {port})")
            plan = await _plan(session, choose, current)
            progress.plan(plan)
            if not is_folder(plan.model):
                start_errors.require_volume(session.pod, recorded.storage, current.storage)
            plan = await uploads.send(session, plan, options.uploads, progress.report)
            if options.clean_cache and not progress.plans:
                await compile_caches.clean(session, name, plan, progress.report)
            try:
                start_request = request(recorded, uid, options, plan, session.pod, current)
                progress.was_asked = True
                return plan, await agent.start(on_pod, start_request, progress.see), current
            except AgentRefused as error:
                progress.plans += 1
                if error.code != "gpus-taken" or progress.plans == MAX_PLANS:
                    raise start_errors.refused(session.pod, plan, error, options.command) from error
        await asyncio.sleep(random.uniform(0, 0.05 * progress.plans))  # noqa: S311 - so that clients do not retry at once


async def inspect(session: PodSession, recorded: Pod, report: Report) -> Machine:
    """Inspect the pod. Meanwhile, open what the start itself needs, which would be a wait over a long link."""
    opening = asyncio.create_task(session.open_ahead(shell.AGENT))
    try:
        current = await _inspect(session, session, recorded, report)
        await opening
    finally:
        opening.cancel()
    return current


async def _inspect(session: PodSession, on_pod: PodSession | StayingAgent, recorded: Pod, report: Report) -> Machine:
    """Inspect the pod, and meanwhile check that its sshd forwards ports."""
    forwarding = asyncio.create_task(session.require_forwarding())
    forwarding.add_done_callback(lambda task: task.cancelled() or task.exception())  # unless it is awaited below
    try:
        current = await machine.inspect(on_pod, model_status.known(recorded.models), report=report)
        await forwarding
    finally:
        forwarding.cancel()
    return current


async def _plan(session: PodSession, choose: Choose, current: Machine) -> Plan:
    """Plan; if other processes hold the memory that is needed, name them in the error."""
    try:
        return choose(current)
    except NoRoom as error:
        if not error.unexplained:
            raise
        raise start_errors.held(error, session.pod, await machine.other_processes(session)) from error


def request(
    recorded: Pod, uid: str, options: StartOptions, plan: Plan, pod: str, current: Machine | None = None
) -> "protocol.StartRequest":
    """Return the request for the agent: the key is for vLLM, the Hub token for the download only."""
    secrets = options.secrets
    hub = {"HF_TOKEN": secrets.hf_token, "HF_ENDPOINT": secrets.hf_endpoint}
    given = dict(options.constraints.environment)
    serving = {"HF_ENDPOINT": secrets.hf_endpoint, "PI_OTHER_API_KEYS": " ".join(secrets.other_keys)}
    return {
        "uid": uid,
        "name": options.name,
        "model": plan.model,
        "arguments": list(plan.arguments),
        "origins": list(plan.origins),
        "variables": {name: value for name, value in plan.environment.items() if name not in given},
        "given": sorted(given),
        "own": not plan.is_complete,
        "environment": {"VLLM_API_KEY": secrets.key.value} | _without_empty(serving) | plan.environment,
        "download_environment": _of_the_hub(plan.environment) | _without_empty(hub),
        "gpus": list(plan.gpus),
        "devices": recorded.devices,
        "beside": list(plan.beside),
        "memory": plan.memory,
        "known": model_status.known(recorded.models),
        "parser": agent_program.compressed(bare_source.bare(_program("parse_arguments"))),
        "middleware": agent_program.compressed(_program("require_key")),
        "min_vllm": plan.min_vllm,
        "download": not is_folder(plan.model),
        "size": plan.files,
        "revision": vllm_arguments.value(plan.arguments, vllm_arguments.REVISION),
        "pod": pod,
        "private": options.private,
        "lease": leases.wish(options.lease, options.then) if options.lease else None,
        "wait": options.wait,
        "across": None,
        "warm_up": options.warm_up,
        "gpu_state": _gpu_state(plan, current) if current else None,
    }


def _gpu_state(plan: Plan, current: Machine) -> "protocol.GpuState | None":
    """Return what the chosen GPUs are, and how full; None if nvidia-smi does not say that of each."""
    names = {gpu.id: gpu.name for gpu in current.gpus}
    if not plan.gpus or not current.driver or not all(gpu in current.used and gpu in names for gpu in plan.gpus):
        return None
    return {
        "kind": ", ".join([*(names[gpu] for gpu in plan.gpus), current.driver]),
        "total": [current.used[gpu][1] for gpu in plan.gpus],
        "used": [current.used[gpu][0] for gpu in plan.gpus],
    }


def _program(name: str) -> str:
    return paths.asset(f"remote/{name}.py").read_text(encoding="utf-8")


def _of_the_hub(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that concern a download too, such as HF_HUB_DISABLE_XET."""
    return {name: value for name, value in variables.items() if name.startswith("HF_") or name == "TMPDIR"}


def _without_empty(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if value}
