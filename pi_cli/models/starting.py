"""Start models on pods, and roll back a start that fails."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pi_cli.diagnosis import causes, memory_lines
from pi_cli.errors import ModelNotStarted, NoRoom, PiError, PodUnreachable, StateUnreadable
from pi_cli.events import Phase, Report
from pi_cli.hints import fill
from pi_cli.models import health, identity, model_status, start_errors, uploads
from pi_cli.models.door import Door
from pi_cli.models.identity import Identity
from pi_cli.models.served import Kind
from pi_cli.models.start_options import StartOptions
from pi_cli.models.start_progress import StartProgress
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import is_folder
from pi_cli.pods import agent, agent_program, machine, shell
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import StartEnd
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

    `took` is the number of seconds from the launch until the model was ready, `phases` the seconds of each phase,
    `downloading` those of the download before, if there was one. `kind` is what the model is for.
    """

    pod: str
    name: str
    model: Model
    url: str | None
    is_ready: bool
    took: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    downloading: float | None = None
    kind: Kind = "generation"


async def start(session: PodSession, options: StartOptions, choose: Choose, report: Report) -> Started:
    """Start a model on a pod and return once it has answered a real request (or, without `wait`, is launched).

    If it fails, takes too long or is cancelled, it is rolled back: nothing is left on the pod or in `pods.json`. Raises
    `ModelNotStarted` with the cause, `PodUnreachable`, `PiError`, and the errors of `choose`.
    """
    uid, name = uuid.uuid4().hex, options.name
    progress = StartProgress(session.pod, report)
    report(Phase(session.pod, "finding a port and GPUs"))
    async with _rolled_back_on_failure(session, uid, name, progress), _in_time(options.timeout, name, progress):
        plan, end, current = await _begin(session, uid, options, choose, progress)
        if end.state == "exited":
            progress.has_ended = True
            raise start_errors.died(plan.model, progress, end, start_errors.planned(options.command, plan, session.pod))
        kind: Kind = "generation"
        if options.wait:
            kind = await _prove(session, name, end.model.entry, options.secrets.key, report)
        model = _record(session.pod, name, end.model.entry, options.secrets.key, current)
    if end.took is not None:
        progress.remember_times(plan, end.took)
        remember_memory(plan, progress.log)
    return replace(await _started(session, name, model, progress, end.took, options.secrets.key.value), kind=kind)


async def attach(
    session: PodSession, name: str, *, key: ApiKey, report: Report, timeout: float | None = None
) -> Started:
    """Follow a model that is starting on a pod until it has answered a real request.

    If this is cancelled, the model keeps loading.
    """
    progress = StartProgress(session.pod, report)
    async with _in_time(timeout, name, progress):
        try:
            end = await agent.attach(session, name, progress.see)
        except AgentRefused as error:
            if error.code == "not-there" and name not in (current := state.load()).pod(session.pod).models:
                raise unknown.model(current, [name], session.pod) from error
            raise error.with_hint("see what runs with `pi list`") from error
        if end.state == "exited":
            with state.edit() as current:
                current.pod(session.pod).models.pop(name, None)
            raise start_errors.died(end.model.model, progress, end)
        kind = await _prove(session, name, end.model.entry, key, report)
    model = _record(session.pod, name, end.model.entry)
    return replace(await _started(session, name, model, progress, end.took, key.value), kind=kind)


async def _prove(session: PodSession, name: str, model: Model, key: ApiKey, report: Report) -> Kind:
    report(Phase(session.pod, "requesting a first token"))
    door = Door(session, name, key=key)
    door.expect(model)
    async with door.socket() as socket:
        return await health.prove(socket, name=name, key=key.value)


def _record(pod: str, name: str, model: Model, key: ApiKey | None = None, machine: Machine | None = None) -> Model:
    """Write a model into `pods.json`, with the extra keys of an entry of the same launch, and what its vLLM can do."""
    extra = model.extra | (key.record if key else {})
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


async def _started(
    session: PodSession, name: str, model: Model, progress: StartProgress, took: float | None, key: str
) -> Started:
    url = model_status.endpoint(session.host, model)
    if url and took is not None and model.uid:
        proof = Identity(model.port, {identity.proof_key(key, model.uid)})
        is_proven = await identity.prove_at(url, proof)
    else:
        is_proven = False
    return Started(
        session.pod,
        name,
        model,
        url if is_proven else None,
        is_ready=took is not None,
        took=took,
        phases={} if took is None else progress.phases(took),
        downloading=progress.downloading,
    )


@asynccontextmanager
async def _in_time(timeout: float | None, name: str, progress: StartProgress) -> AsyncIterator[None]:
    """Stop the block with `ModelNotStarted` after this time; until then, report when nothing changes for long."""
    try:
        async with asyncio.timeout(timeout) as deadline:
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
    """Stop the model and remove it from `pods.json` if the block fails or is cancelled."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # the terminal may be closed, which may be the reason for the cancellation
            progress.report_rollback()
        is_stopped = False
        with suppress(PiError, TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await agent.stop(session, [model_status.known_by_uid(name, uid)], exact=True)
                is_stopped = True
        if isinstance(error, PodUnreachable) and progress.was_launched and not is_stopped:
            hint = (
                "`{name}` keeps loading on the pod; once that answers, follow it with "
                "`pi start --attach {name} --pod {pod}`"
            )
            error.with_hint(fill(hint, name=name, pod=session.pod))
        with suppress(StateUnreadable), state.edit() as current:  # what has failed is the error to report
            models = current.pod(session.pod).models
            if name in models and models[name].uid == uid:
                del models[name]
        raise


async def _begin(
    session: PodSession, uid: str, options: StartOptions, choose: Choose, progress: StartProgress
) -> tuple[Plan, StartEnd, Machine]:
    """Inspect the pod, plan, and start; plan again if other clients took the GPUs in the meantime."""
    name = options.name
    while True:
        recorded = state.load().pod(session.pod)
        current = await _inspect(session, recorded, progress.report)
        if name in current.models:  # checked before planning, for which its own GPUs would count as taken
            port = current.models[name].port
            raise start_errors.name_taken(f"`{name}` already runs here (port {port})")
        plan = await _plan(session, choose, current)
        progress.plan(plan)
        if not is_folder(plan.model):
            start_errors.require_volume(session.pod, recorded.storage, current.storage)
        plan = await uploads.send(session, plan, options.uploads, progress.report)
        try:
            request = _request(recorded, uid, options, plan, session.pod)
            return plan, await agent.start(session, request, progress.see), current
        except AgentRefused as error:
            progress.plans += 1
            if error.code != "gpus-taken" or progress.plans == MAX_PLANS:
                raise start_errors.refused(session.pod, plan, error, options.command) from error
        await asyncio.sleep(random.uniform(0, 0.05 * progress.plans))  # noqa: S311 - so that clients do not retry at once


async def _inspect(session: PodSession, recorded: Pod, report: Report) -> Machine:
    """Inspect the pod. What would each be a wait over a long link is done in the meantime: check that its sshd forwards
    ports, and open what the start itself needs."""
    opening = asyncio.create_task(session.open_ahead(shell.AGENT))
    forwarding = asyncio.create_task(session.require_forwarding())
    forwarding.add_done_callback(lambda task: task.cancelled() or task.exception())  # unless it is awaited below
    try:
        current = await machine.inspect(session, model_status.known(recorded.models), report=report)
        await forwarding
        await opening
    finally:
        forwarding.cancel()
        opening.cancel()
    return current


async def _plan(session: PodSession, choose: Choose, current: Machine) -> Plan:
    """Plan; if other processes hold the memory that is needed, name them in the error."""
    try:
        return choose(current)
    except NoRoom as error:
        if not error.unexplained:
            raise
        raise start_errors.held(error, session.pod, await machine.other_processes(session)) from error


def _request(recorded: Pod, uid: str, options: StartOptions, plan: Plan, pod: str) -> "protocol.StartRequest":
    """Return the request for the agent: the key is for vLLM, the Hub token for the download only."""
    secrets = options.secrets
    hub = {"HF_TOKEN": secrets.hf_token, "HF_ENDPOINT": secrets.hf_endpoint}
    serving = {"HF_ENDPOINT": secrets.hf_endpoint, "PI_OTHER_API_KEYS": " ".join(secrets.other_keys)}
    return {
        "uid": uid,
        "name": options.name,
        "model": plan.model,
        "arguments": list(plan.arguments),
        "own": not plan.is_complete,
        "environment": {"VLLM_API_KEY": secrets.key.value} | _without_empty(serving) | plan.environment,
        "download_environment": _of_the_hub(plan.environment) | _without_empty(hub),
        "gpus": list(plan.gpus),
        "devices": recorded.devices,
        "beside": list(plan.beside),
        "memory": plan.memory,
        "known": model_status.known(recorded.models),
        "parser": agent_program.compressed(agent_program.bare(_program("parse_arguments"))),
        "middleware": agent_program.compressed(_program("require_key")),
        "min_vllm": plan.min_vllm,
        "download": not is_folder(plan.model),
        "size": plan.files,
        "revision": vllm_arguments.value(plan.arguments, vllm_arguments.REVISION),
        "pod": pod,
        "private": options.private,
        "wait": options.wait,
    }


def _program(name: str) -> str:
    return paths.asset(f"remote/{name}.py").read_text(encoding="utf-8")


def _of_the_hub(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that concern a download too, such as HF_HUB_DISABLE_XET."""
    return {name: value for name, value in variables.items() if name.startswith("HF_")}


def _without_empty(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if value}
