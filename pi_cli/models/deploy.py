"""Start models on pods, and leave nothing behind when that fails."""

import asyncio
import random
import shlex
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pi_cli.errors import ModelNotStarted, NoRoom, PiError, PodUnreachable
from pi_cli.events import Event, Note, Output, Phase, Progress, Report
from pi_cli.models import arguments, diagnosis, health, listing, memory_lines, phases
from pi_cli.models.plan import Plan
from pi_cli.models.profile import is_folder
from pi_cli.pods import agent, machine
from pi_cli.pods.agent import AgentRefused
from pi_cli.pods.machine import Machine
from pi_cli.pods.ssh import PodSession
from pi_cli.store import measurements, paths, state
from pi_cli.store.measurements import Measurement
from pi_cli.store.records import Model

KEPT_LOG = 4_000_000  # characters of a start's log we keep to find the cause of a failure
CLEANUP_TIMEOUT = 25.0  # seconds; the pod itself takes up to 12 from TERM to KILL
CHOICES = 20  # times that GPUs are chosen, should others always be quicker to take them

Choose = Callable[[Machine], Plan]
"""Plans a model for a pod as it is now."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What travels to a pod on stdin only."""

    api_key: str
    hf_token: str | None = None
    hf_endpoint: str | None = None

    def __repr__(self) -> str:
        return "Secrets(…)"


@dataclass(frozen=True, slots=True)
class Started:
    """A model that runs; `url` is its endpoint as seen from outside, `answers_here` whether that works from here."""

    pod: str
    name: str
    model: Model
    url: str
    is_ready: bool
    answers_here: bool = False


@dataclass(frozen=True, slots=True)
class _About:
    """What is settled about a start before its GPUs are."""

    uid: str
    name: str
    secrets: Secrets
    wait: bool


async def start(
    session: PodSession, ssh: str, choose: Choose, *, name: str, secrets: Secrets, wait: bool, report: Report
) -> Started:
    """Start a model on a pod and return once it has answered a real request (or, without `wait`, is launched).

    If it fails, or we are cancelled, nothing of it is left on the pod and nothing is recorded.
    Raises `ModelNotStarted` with the cause, `PodUnreachable`, or `PiError`; and whatever `choose` raises.
    """
    uid = uuid.uuid4().hex
    watching = _Watching(session.pod, report)
    report(Phase(session.pod, "finding a port and GPUs"))
    await session.require_forwarding()
    async with _withdrawn_on_failure(session, uid, name, watching):
        plan, place = await _begun(session, ssh, choose, watching, _About(uid, name, secrets, wait))
        if place["state"] == "exited":
            watching.has_ended = True
            raise _died(session.pod, plan.model, watching, place)
        if wait:
            report(Phase(session.pod, "asking for a first token"))
            async with session.forward(place["port"]) as socket:
                await health.prove(socket, name=name, key=secrets.api_key)
        extra = {"memory": plan.memory} if plan.memory else {}
        model = Model(plan.model, port=place["port"], gpu=place["gpu"], pid=place["pid"], uid=uid, extra=extra)
        with state.edit() as current:
            current.pod(session.pod).models[name] = model
    remember_memory(plan, watching.log)
    url = listing.endpoint(ssh, model.port)
    return Started(session.pod, name, model, url, wait, wait and await health.answers_from_here(url))


def remember_memory(plan: Plan, log: str) -> None:
    """Keep what vLLM said of its memory beside what was predicted, for the next plan of the same model."""
    told = memory_lines.read(log)
    if told is None or plan.fit is None or plan.memory is None or not plan.is_complete:
        return  # the user's own arguments may divide the memory in other ways than the planner does
    options = arguments.read(plan.arguments)
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


class _Watching:
    """Turn the agent's events into ours, and keep the log."""

    def __init__(self, pod: str, report: Report) -> None:
        self.pod = pod
        self.log = ""
        self.log_path = ""
        self.was_launched = False
        self.has_ended = False
        self.choices = 0
        self._report = report
        self._phase = ""

    def plan(self, plan: Plan) -> None:
        """Say what was decided; all of it is in `--dry-run`."""
        if self.choices == 0:
            for reason in plan.reasons[:2]:
                self._say(Note(self.pod, reason))

    def see(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "placed":
                self.log_path = event["log"]
                self._enter(f"placed on port {event['port']}, GPU {event['gpu']}")
            case "progress":
                self._say(Progress(self.pod, event["done"], event["total"]))
            case "launched":
                self.was_launched = True
                self._enter("starting vLLM")
            case "log":
                self.log = (self.log + event["text"])[-KEPT_LOG:]
                self._say(Output(self.pod, event["text"]))
                if phase := phases.latest(event["text"]):
                    self._enter(phase)

    def say_that_it_is_taken_back(self) -> None:
        if self.log_path and not self.has_ended:
            self._enter("taking back what was begun (Ctrl+C again leaves at once)")

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._say(Phase(self.pod, phase))

    def _say(self, event: Event) -> None:
        self._report(event)


@asynccontextmanager
async def _withdrawn_on_failure(session: PodSession, uid: str, name: str, watching: "_Watching") -> AsyncIterator[None]:
    """Stop a model again, and forget it, if starting it fails or is cancelled."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, PodUnreachable) and watching.was_launched:
            error.hint = f"`{name}` goes on loading there; once the pod answers, `pi list` shows it"
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
    session: PodSession, ssh: str, choose: Choose, watching: _Watching, about: _About
) -> tuple[Plan, dict[str, Any]]:
    """Look at the pod, plan, and start; choose again should other models have taken the GPUs in between."""
    while True:
        known = state.load().pod(session.pod).models
        found = await machine.inspect(session, listing.as_json(known))
        if about.name in found.running:  # before its own GPUs count as taken
            raise _name_taken(f"`{about.name}` already runs here (port {found.running[about.name]['port']})")
        plan = choose(found)
        watching.plan(plan)
        try:
            return plan, await agent.ask(session, "start", watching.see, **_request(session.pod, plan, about))
        except AgentRefused as error:
            watching.choices += 1
            if error.code != "gpus-taken" or watching.choices == CHOICES:
                raise _refused(session.pod, ssh, plan, error) from error
        await asyncio.sleep(random.uniform(0, 0.05 * watching.choices))  # noqa: S311 - so that not all come again at once


def _request(pod: str, plan: Plan, about: _About) -> dict[str, Any]:
    """Write the agent's `start` request: the key goes to vLLM, the Hub token to the download only."""
    current = state.load().pod(pod)
    secrets = about.secrets
    download = not is_folder(plan.model)
    hub = {"HF_TOKEN": secrets.hf_token, "HF_ENDPOINT": secrets.hf_endpoint}
    # A downloaded model starts without network, and without being slowed by a Hub that limits our rate.
    serving = {"HF_HUB_OFFLINE": "1"} if download and plan.is_complete else {"HF_ENDPOINT": secrets.hf_endpoint}
    return {
        "uid": about.uid,
        "name": about.name,
        "model": plan.model,
        "arguments": list(plan.arguments),
        "environment": {"VLLM_API_KEY": secrets.api_key} | _given(serving) | plan.environment,
        "download_environment": _given(hub),
        "gpus": list(plan.gpus),
        "beside": list(plan.beside),
        "memory": plan.memory,
        "devices": {str(gpu.id): gpu.extra["uuid"] for gpu in current.gpus if "uuid" in gpu.extra},
        "known": listing.as_json(current.models),
        "middleware": paths.asset("remote/require_key.py").read_text(encoding="utf-8"),
        "download": download,
        "wait": about.wait,
        "min_vllm": plan.min_vllm,
    }


def _given(settings: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if value}


def _name_taken(message: str) -> PiError:
    return PiError(message, hint="choose another `--name`, or stop that one with `pi stop`")


def _refused(pod: str, ssh: str, plan: Plan, error: AgentRefused) -> PiError:
    """Turn the pod's no into an error with something to do about it."""
    match error.code:
        case "name-taken":
            return _name_taken(error.message)
        case "not-set-up":
            return PiError(f"pod `{pod}`: {error.message}", hint=f'prepare it with `pi pods setup {pod} "ssh …"`')
        case "vllm-too-old":
            setup = shlex.join(["pi", "pods", "setup", pod, ssh, "--vllm", plan.min_vllm or "release"])
            return PiError(f"pod `{pod}`: {error.message}", hint=f"get one with `{setup}`; others that are there stay")
        case "gpus-taken":
            return NoRoom(f"pod `{pod}`: {error.message}", hint="others start models there too; try again")
        case "download":
            cause = diagnosis.find_cause(error.message, pod=pod, model=plan.model)
            words = cause.words if cause else "`hf download` failed"
            return ModelNotStarted(
                f"cannot download `{plan.model}` to `{pod}`: {words}",
                hint=cause.hint if cause else None,
                log=diagnosis.last_lines(error.message),
            )
        case _:
            return PiError(f"pod `{pod}`: {error.message}")


def _died(pod: str, model: str, watching: _Watching, end: dict[str, Any]) -> ModelNotStarted:
    """Tell why vLLM died: with a known cause its line and the last few, otherwise the last twenty."""
    cause = diagnosis.find_cause(watching.log, pod=pod, model=model)
    words = cause.words if cause else diagnosis.describe_end(end["code"], end["signal"])
    said = f"{cause.line}\n…\n{diagnosis.last_lines(watching.log, 5)}" if cause else diagnosis.last_lines(watching.log)
    kept = f"the whole log is on the pod: {watching.log_path}"
    hint = f"{cause.hint}; {kept}" if cause and cause.hint else kept
    return ModelNotStarted(f"`{model}` did not start on `{pod}`: {words}", hint=hint, log=said)
