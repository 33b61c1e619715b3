"""Start models on pods, and leave nothing behind when that fails."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.diagnosis import causes, memory_lines
from pi_cli.errors import ModelNotStarted, NoRoom, PiError, PodUnreachable
from pi_cli.events import Phase, Report
from pi_cli.hints import fill
from pi_cli.models import health, model_status, reach, start_errors
from pi_cli.models.start_options import StartOptions
from pi_cli.models.start_progress import Watching
from pi_cli.planning import vllm_arguments
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import is_folder
from pi_cli.pods import agent, machine
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import StartEnd
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh.session import PodSession
from pi_cli.store import measurements, paths, state
from pi_cli.store.measurements import Measurement
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

CLEANUP_TIMEOUT = 25.0  # seconds; the pod itself takes up to 12 from TERM to KILL
CHOICES = 20  # times that GPUs are chosen, should others always be quicker to take them

Choose = Callable[[Machine], Plan]
"""Plans a model for a pod as it is now."""


@dataclass(frozen=True, slots=True)
class Started:
    """A model that runs; `url` is its endpoint as seen from outside, `answers_here` whether that works from here.

    A private one has no `url`. `took` is how many seconds it was from launch to ready, and `phases` how many of them
    each phase took.
    """

    pod: str
    name: str
    model: Model
    url: str | None
    is_ready: bool
    answers_here: bool = False
    took: float | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


async def start(session: PodSession, options: StartOptions, choose: Choose, report: Report) -> Started:
    """Start a model on a pod and return once it has answered a real request (or, without `wait`, is launched).

    If it fails, takes too long, or we are cancelled, nothing of it is left on the pod and nothing is recorded. Raises
    `ModelNotStarted` with the cause, `PodUnreachable`, or `PiError`; and whatever `choose` raises.
    """
    uid, name = uuid.uuid4().hex, options.name
    watching = Watching(session.pod, report)
    report(Phase(session.pod, "finding a port and GPUs"))
    await session.require_forwarding()
    async with _rolled_back_on_failure(session, uid, name, watching), _in_time(options.timeout, name, watching):
        plan, end = await _begun(session, uid, options, choose, watching)
        if end.state == "exited":
            watching.has_ended = True
            raise start_errors.died(plan.model, watching, end, start_errors.planned(options.command, plan, session.pod))
        if options.wait:
            await _prove(session, end.model.port, name, options.secrets.api_key, report)
        model = _record(session.pod, name, end.model.entry, options.secrets.key_variable)
    if end.took is not None:
        watching.remember_times(plan, end.took)
        remember_memory(plan, watching.log)
    return await _started(session, name, model, watching, end.took)


async def attach(session: PodSession, name: str, *, key: str, report: Report, timeout: float | None = None) -> Started:
    """Watch a model that is starting on a pod until it has answered a real request. It goes on without us."""
    watching = Watching(session.pod, report)
    async with _in_time(timeout, name, watching):
        try:
            end = await agent.attach(session, name, watching.see)
        except AgentRefused as error:
            raise error.with_hint("see what runs with `pi list`") from error
        if end.state == "exited":
            with state.edit() as current:
                current.pod(session.pod).models.pop(name, None)
            raise start_errors.died(end.model.model, watching, end)
        await _prove(session, end.model.port, name, key, report)
    model = _record(session.pod, name, end.model.entry)
    return await _started(session, name, model, watching, end.took)


async def _prove(session: PodSession, port: int, name: str, key: str, report: Report) -> None:
    report(Phase(session.pod, "asking for a first token"))
    async with session.forward(port) as socket:
        await health.prove(socket, name=name, key=key)


def _record(pod: str, name: str, model: Model, key_variable: str | None = None) -> Model:
    """Write a model into `pods.json`, with what the entry of the same launch had besides."""
    extra = model.extra | ({"api_key_env": key_variable} if key_variable else {})
    with state.edit() as current:
        models = current.pod(pod).models
        before = models.get(name)
        is_same = before is not None and before.uid == model.uid  # launched before, and only now ready
        model.extra = before.extra | extra if before and is_same else extra
        models[name] = model
    return model


async def _started(session: PodSession, name: str, model: Model, watching: Watching, took: float | None) -> Started:
    url = model_status.endpoint(session.host, model)
    return Started(
        session.pod,
        name,
        model,
        url,
        is_ready=took is not None,
        answers_here=took is not None and url is not None and await reach.answers_from_here(url),
        took=took,
        phases={} if took is None else watching.phases(took),
    )


@asynccontextmanager
async def _in_time(timeout: float | None, name: str, watching: Watching) -> AsyncIterator[None]:
    """End the block with `ModelNotStarted` after so many seconds; before that, say when nothing changes for long."""
    try:
        async with asyncio.timeout(timeout) as patience:
            with watching.noticing_silence():
                yield
    except TimeoutError as error:
        if not patience.expired():
            raise
        raise ModelNotStarted(
            f"`{name}` on `{watching.pod}` was not ready within the {timeout:.0f} s of `--timeout`",
            hint="give it more time, or none to wait for as long as it takes",
            log=causes.last_lines(watching.log, 5),
        ) from error


def remember_memory(plan: Plan, log: str) -> None:
    """Keep what vLLM said of its memory beside what was predicted, for the next plan of the same model."""
    told = memory_lines.find(log)
    if told is None or plan.fit is None or plan.memory is None or not plan.is_complete:
        return  # the user's own arguments may divide the memory in other ways than the planner does
    options = vllm_arguments.parse(plan.arguments)
    given = plan.fit.memory.total * plan.memory
    with suppress(PiError):  # the model runs: what the next plan would like to know is no reason to say otherwise
        measurements.add(
            Measurement(
                plan.model,
                plan.kind,
                len(plan.gpus),
                options.tensor,
                told.vllm,
                not_kv_cache=round(given - told.memory, 2),
                kv_cache=told.memory,
                tokens=told.tokens,
                predicted_kv_cache=round(plan.fit.memory.kv_cache, 2),
                predicted_tokens=plan.fit.tokens,
            )
        )


@asynccontextmanager
async def _rolled_back_on_failure(session: PodSession, uid: str, name: str, watching: Watching) -> AsyncIterator[None]:
    """Stop a model again, and forget it, if starting it fails or is cancelled."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # the terminal may be closed, which is why we are here
            watching.say_that_it_is_rolled_back()
        is_stopped = False
        with suppress(PiError, TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await agent.stop(session, [model_status.known_by_uid(name, uid)])
                is_stopped = True
        if isinstance(error, PodUnreachable) and watching.was_launched and not is_stopped:
            hint = (
                "`{name}` goes on loading there; follow it with `pi start --attach {name} --pod {pod}` once it answers"
            )
            error.with_hint(fill(hint, name=name, pod=session.pod))
        with state.edit() as current:
            models = current.pod(session.pod).models
            if name in models and models[name].uid == uid:
                del models[name]
        raise


async def _begun(
    session: PodSession, uid: str, options: StartOptions, choose: Choose, watching: Watching
) -> tuple[Plan, StartEnd]:
    """Look at the pod, plan, and start; choose again should other models have taken the GPUs in the meantime."""
    name = options.name
    while True:
        recorded = state.load().pod(session.pod)
        found = await machine.inspect(session, model_status.known(recorded.models))
        if name in found.models:  # before its own GPUs count as taken
            port = found.models[name].port
            raise start_errors.name_taken(f"`{name}` already runs here (port {port})")
        plan = await _chosen(session, choose, found)
        watching.plan(plan)
        if not is_folder(plan.model):
            start_errors.require_volume(session.pod, recorded.storage, found.storage)
        try:
            return plan, await agent.start(session, _request(recorded, uid, options, plan, session.pod), watching.see)
        except AgentRefused as error:
            watching.choices += 1
            if error.code != "gpus-taken" or watching.choices == CHOICES:
                raise start_errors.refused(session.pod, plan, error, options.command) from error
        await asyncio.sleep(random.uniform(0, 0.05 * watching.choices))  # noqa: S311 - so that not all come again at once


async def _chosen(session: PodSession, choose: Choose, found: Machine) -> Plan:
    """Plan; where others hold the memory that would do, ask who that is."""
    try:
        return choose(found)
    except NoRoom as error:
        if not error.unexplained:
            raise
        raise start_errors.held(error, session.pod, await machine.strangers(session)) from error


def _request(recorded: Pod, uid: str, options: StartOptions, plan: Plan, pod: str) -> "protocol.StartRequest":
    """Write the agent's request: the key goes to vLLM, the Hub token to the download only."""
    secrets = options.secrets
    hub = {"HF_TOKEN": secrets.hf_token, "HF_ENDPOINT": secrets.hf_endpoint}
    serving = {"HF_ENDPOINT": secrets.hf_endpoint, "PI_OTHER_API_KEYS": " ".join(secrets.other_keys)}
    return {
        "uid": uid,
        "name": options.name,
        "model": plan.model,
        "arguments": list(plan.arguments),
        "own": not plan.is_complete,
        "environment": {"VLLM_API_KEY": secrets.api_key} | _given(serving) | plan.environment,
        "download_environment": _given(hub),
        "gpus": list(plan.gpus),
        "devices": recorded.devices,
        "beside": list(plan.beside),
        "memory": plan.memory,
        "known": model_status.known(recorded.models),
        "middleware": paths.asset("remote/require_key.py").read_text(encoding="utf-8"),
        "min_vllm": plan.min_vllm,
        "download": not is_folder(plan.model),
        "size": plan.files,
        "revision": vllm_arguments.value(plan.arguments, vllm_arguments.REVISION),
        "pod": pod,
        "private": options.private,
        "wait": options.wait,
    }


def _given(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if value}
