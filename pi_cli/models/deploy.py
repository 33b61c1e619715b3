"""Start models on pods, and leave nothing behind when that fails."""

import asyncio
import random
import shlex
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pi_cli.diagnosis import causes, memory_lines
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import ModelNotStarted, NoRoom, PiError, PodUnreachable
from pi_cli.events import Phase, Report
from pi_cli.models import health, model_status, reach, start_errors
from pi_cli.models.start_progress import Watching
from pi_cli.planning import vllm_arguments
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import is_folder
from pi_cli.pods import agent, machine
from pi_cli.pods.agent import AgentRefused
from pi_cli.pods.machine import Machine
from pi_cli.ssh.session import PodSession
from pi_cli.store import measurements, paths, state
from pi_cli.store.measurements import Measurement
from pi_cli.store.records import Model

CLEANUP_TIMEOUT = 25.0  # seconds; the pod itself takes up to 12 from TERM to KILL
CHOICES = 20  # times that GPUs are chosen, should others always be quicker to take them

Choose = Callable[[Machine], Plan]
"""Plans a model for a pod as it is now."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What travels to a pod on stdin only.

    `other_keys` are taken besides the one that pi itself uses, which the local variable `key_variable` holds.
    """

    api_key: str
    hf_token: str | None = None
    hf_endpoint: str | None = None
    other_keys: tuple[str, ...] = ()
    key_variable: str | None = None

    def __repr__(self) -> str:
        return "Secrets(…)"


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


@dataclass(frozen=True, slots=True)
class _About:
    """What is settled about a start before its GPUs are."""

    uid: str
    typed: StartCommand
    secrets: Secrets
    wait: bool
    private: bool


async def start(
    session: PodSession,
    ssh: str,
    choose: Choose,
    *,
    typed: StartCommand,
    secrets: Secrets,
    wait: bool,
    report: Report,
    timeout: float | None = None,
    private: bool = False,
) -> Started:
    """Start a model on a pod and return once it has answered a real request (or, without `wait`, is launched).

    A `private` one listens on the pod's loopback only.

    If it fails, takes longer than `timeout` seconds, or we are cancelled, nothing of it is left on the pod and nothing
    is recorded. Raises `ModelNotStarted` with the cause, `PodUnreachable`, or `PiError`; and whatever `choose` raises.
    """
    uid, name = uuid.uuid4().hex, typed.name
    watching = Watching(session.pod, report)
    report(Phase(session.pod, "finding a port and GPUs"))
    await session.require_forwarding()
    async with _withdrawn_on_failure(session, uid, name, watching), _in_time(timeout, name, watching):
        plan, place = await _begun(session, ssh, choose, watching, _About(uid, typed, secrets, wait, private))
        if place["state"] == "exited":
            watching.has_ended = True
            raise start_errors.died(plan.model, watching, place, start_errors.planned(typed, plan, session.pod))
        if wait:
            await _prove(session, place["port"], name, secrets.api_key, report)
        model = _record(session.pod, name, plan.model, place, secrets.key_variable)
    if wait:
        watching.remember_times(plan, place["took"])
        remember_memory(plan, watching.log)
    return await _started(session, name, model, watching, place)


async def attach(session: PodSession, name: str, *, key: str, report: Report, timeout: float | None = None) -> Started:
    """Watch a model that is starting on a pod until it has answered a real request. It goes on without us."""
    watching = Watching(session.pod, report)
    async with _in_time(timeout, name, watching):
        try:
            place = await agent.ask(session, "attach", watching.see, name=name)
        except AgentRefused as error:
            raise PiError(f"pod `{session.pod}`: {error.message}", hint="see what runs with `pi list`") from error
        if place["state"] == "exited":
            with state.edit() as current:
                current.pod(session.pod).models.pop(name, None)
            raise start_errors.died(place["model"], watching, place)
        await _prove(session, place["port"], name, key, report)
    model = _record(session.pod, name, place["model"], place)
    return await _started(session, name, model, watching, place)


async def _prove(session: PodSession, port: int, name: str, key: str, report: Report) -> None:
    report(Phase(session.pod, "asking for a first token"))
    async with session.forward(port) as socket:
        await health.prove(socket, name=name, key=key)


def _record(pod: str, name: str, model: str, place: Mapping[str, Any], key_variable: str | None = None) -> Model:
    extra = model_status.kept_of(place) | ({"api_key_env": key_variable} if key_variable else {})
    recorded = Model(model, port=place["port"], gpu=place["gpu"], pid=place["pid"], uid=place["uid"], extra=extra)
    with state.edit() as current:
        models = current.pod(pod).models
        if name in models and models[name].uid == recorded.uid:  # launched before, and only now ready
            recorded.extra = models[name].extra | extra
        models[name] = recorded
    return recorded


async def _started(
    session: PodSession, name: str, model: Model, watching: Watching, place: Mapping[str, Any]
) -> Started:
    url = model_status.endpoint(session.host, model)
    took: float | None = place.get("took")
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
async def _withdrawn_on_failure(session: PodSession, uid: str, name: str, watching: Watching) -> AsyncIterator[None]:
    """Stop a model again, and forget it, if starting it fails or is cancelled."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, PodUnreachable) and watching.was_launched:
            watch = f"pi start --attach {name} --pod {session.pod}"
            error.hint = f"`{name}` goes on loading there; once the pod answers, `{watch}` watches it again"
        with suppress(OSError):  # the terminal may be closed, which is why we are here
            watching.say_that_it_is_taken_back()
        with suppress(PiError, TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await agent.ask(session, "stop", models=[{"name": name, "uid": uid, "pid": 0, "port": 0}])
        with state.edit() as current:
            models = current.pod(session.pod).models
            if name in models and models[name].uid == uid:
                del models[name]
        raise


async def _begun(
    session: PodSession, ssh: str, choose: Choose, watching: Watching, about: _About
) -> tuple[Plan, dict[str, Any]]:
    """Look at the pod, plan, and start; choose again should other models have taken the GPUs in between."""
    while True:
        recorded = state.load().pod(session.pod)
        found = await machine.inspect(session, model_status.as_json(recorded.models))
        name = about.typed.name
        if name in found.running:  # before its own GPUs count as taken
            raise _name_taken(f"`{name}` already runs here (port {found.running[name]['port']})")
        plan = await _chosen(session, choose, found)
        watching.plan(plan)
        if not is_folder(plan.model):
            start_errors.require_volume(session.pod, recorded.storage, found.storage)
        try:
            return plan, await agent.ask(session, "start", watching.see, **_request(session.pod, plan, about))
        except AgentRefused as error:
            watching.choices += 1
            if error.code != "gpus-taken" or watching.choices == CHOICES:
                raise _refused(session.pod, ssh, plan, error, about.typed) from error
        await asyncio.sleep(random.uniform(0, 0.05 * watching.choices))  # noqa: S311 - so that not all come again at once


async def _chosen(session: PodSession, choose: Choose, found: Machine) -> Plan:
    """Plan; where others hold the memory that would do, ask who that is."""
    try:
        return choose(found)
    except NoRoom as error:
        if not error.unexplained:
            raise
        raise start_errors.held(error, session.pod, await machine.strangers(session)) from error


def _request(pod: str, plan: Plan, about: _About) -> dict[str, Any]:
    """Write the agent's `start` request: the key goes to vLLM, the Hub token to the download only."""
    current = state.load().pod(pod)
    secrets = about.secrets
    download = not is_folder(plan.model)
    hub = {"HF_TOKEN": secrets.hf_token, "HF_ENDPOINT": secrets.hf_endpoint}
    serving = {"HF_ENDPOINT": secrets.hf_endpoint, "PI_OTHER_API_KEYS": " ".join(secrets.other_keys)}
    return {
        "uid": about.uid,
        "name": about.typed.name,
        "model": plan.model,
        "arguments": list(plan.arguments),
        "environment": {"VLLM_API_KEY": secrets.api_key} | _given(serving) | plan.environment,
        "download_environment": _given(hub),
        "gpus": list(plan.gpus),
        "beside": list(plan.beside),
        "memory": plan.memory,
        "devices": {str(gpu.id): gpu.extra["uuid"] for gpu in current.gpus if "uuid" in gpu.extra},
        "known": model_status.as_json(current.models),
        "middleware": paths.asset("remote/require_key.py").read_text(encoding="utf-8"),
        "download": download,
        "wait": about.wait,
        "min_vllm": plan.min_vllm,
        "own": not plan.is_complete,
        "size": plan.files,
        "revision": vllm_arguments.value(plan.arguments, vllm_arguments.REVISION),
        "pod": pod,
        "private": about.private,
    }


def _given(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if value}


def _name_taken(message: str) -> PiError:
    return PiError(message, hint="choose another `--name`, or stop that one with `pi stop`")


def _refused(pod: str, ssh: str, plan: Plan, error: AgentRefused, typed: StartCommand) -> PiError:
    """Turn the pod's no into an error with something to do about it."""
    match error.code:
        case "name-taken":
            return _name_taken(error.message)
        case "not-set-up":
            return PiError(f"pod `{pod}`: {error.message}", hint=f"prepare it with `pi pods setup {pod}`")
        case "vllm-too-old":
            setup = shlex.join(["pi", "pods", "setup", pod, ssh, "--vllm", plan.min_vllm or "release"])
            return PiError(f"pod `{pod}`: {error.message}", hint=f"get one with `{setup}`; others that are there stay")
        case "gpus-taken":
            return NoRoom(f"pod `{pod}`: {error.message}", hint="others start models there too; try again")
        case "download":
            return start_errors.not_downloaded(pod, plan.model, error.message, start_errors.planned(typed, plan, pod))
        case "os":
            return start_errors.not_written(pod, plan.model, error.message)
        case "not-mounted":
            return start_errors.not_mounted(pod, error)
        case "no-room-on-disk":
            return start_errors.no_room(pod, plan.model, error)
        case _:
            return PiError(f"pod `{pod}`: {error.message}")
