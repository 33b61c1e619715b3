"""What runs on pods. That is the truth, and `pods.json` follows it."""

import asyncio
import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pi_cli.errors import PiError
from pi_cli.events import Note, Report
from pi_cli.models import reach
from pi_cli.models.model_status import Listed, as_json, endpoint, kept_of, remembered
from pi_cli.pods import agent
from pi_cli.ssh import login
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store import state
from pi_cli.store.records import Model, Pod

INTERVAL = 2.0  # seconds between two looks at a pod that is watched


async def survey(session: PodSession, pod: Pod, report: Report) -> list[Listed]:
    """Ask a pod what runs on it, and bring `pods.json` in line: adopt what is new, forget what is gone.

    `pod` is its entry, as it was lately.
    """
    known = pod.models
    told = await agent.ask(session, "survey", known=as_json(known))
    found = {each["name"]: each for each in told["models"]}
    _bring_in_line(session.pod, known, found, report)
    dead = [_dead(session, name, known.get(name), words) for name, words in told["dead"].items()]
    for each in dead:
        report(Note(session.pod, f"`{each.name}` is dead and was forgotten: {each.cause}; its log: {each.log}"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_listed(session, each)) for each in found.values()]
    return [*(task.result() for task in tasks), *dead]


async def watch(pods: Mapping[str, Pod], see: Callable[[str, list[Listed]], None], report: Report) -> None:
    """Look at pods every two seconds until cancelled, over one connection each for as long as it lasts."""

    async def look(name: str, pod: Pod) -> None:
        reconnection = Reconnection(
            on_lost=lambda error: report(Note(name, str(error))),
            on_back=lambda: report(Note(name, f"`{name}` answers again")),
            each_reason=True,
        )
        while True:
            try:
                async with login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout) as session:
                    while True:
                        models = await survey(session, state.load().pod(name), report)
                        reconnection.connected()
                        see(name, models)
                        await asyncio.sleep(INTERVAL)
            except PiError as error:
                pause = reconnection.pause_after(error)
                see(name, remembered(name, state.load().pod(name), "unreachable"))
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for name, pod in pods.items():
            group.create_task(look(name, pod))


async def running_names(session: PodSession) -> list[str]:
    """Return the names of all models on a pod, also those that `pods.json` does not know."""
    return list(dict.fromkeys([*state.load().pod(session.pod).models, *await alive(session)]))


async def alive(session: PodSession) -> dict[str, dict[str, Any]]:
    """Return what runs on a pod now, by name, as the agent tells it; nothing is changed."""
    told = await agent.ask(session, "survey", known=as_json(state.load().pod(session.pod).models), forget=False)
    return {each["name"]: each for each in told["models"]}


def _bring_in_line(pod: str, known: Mapping[str, Model], found: Mapping[str, dict[str, Any]], report: Report) -> None:
    """Adopt what was found and forget the rest; what another pi has changed meanwhile is newer than the answer."""
    if known.keys() <= found.keys() and all(_as_kept(known.get(name), each) for name, each in found.items()):
        return  # as nearly always; of 64 pods each would read and lock all of `pods.json`
    with state.edit() as current:
        models = current.pod(pod).models
        for name in [name for name in known if name not in found and models.get(name) == known[name]]:
            del models[name]
        for name, each in found.items():
            if name not in models and each["pid"]:
                report(Note(pod, f"found `{name}` running here and added it"))
            if each["pid"]:
                models[name] = _kept(models.get(name), each)


def _kept(before: Model | None, each: Mapping[str, Any]) -> Model:
    """Return the entry of a model that a pod tells of, with what the entry before has besides."""
    extra = (before.extra if before else {}) | kept_of(each)
    return Model(each["model"], each["port"], each["gpu"], each["pid"], each.get("uid"), extra)


def _as_kept(known: Model | None, each: Mapping[str, Any]) -> bool:
    return not each["pid"] if known is None else known == _kept(known, each)


def _dead(session: PodSession, name: str, model: Model | None, words: Mapping[str, Any]) -> Listed:
    model = model or Model("", port=0, gpu="", pid=0)
    cause = _cause_of_death(session.pod, model, words)
    return Listed(session.pod, name, model, "dead", endpoint(session.host, model), cause=cause, log=words["log"])


def _cause_of_death(pod: str, model: Model, words: Mapping[str, Any]) -> str:
    """Say why a model ended, out of what the pod has left of it."""
    if words["rebooted"]:
        return "the pod was rebooted"
    if model.uid and not words["was_recorded"]:
        return "it was stopped, and not from here"
    from pi_cli.diagnosis import causes  # all that is known of failures: few lists tell of one

    log = zlib.decompress(base64.b64decode(words["said"])).decode("utf-8", "replace") if words["said"] else ""
    cause = causes.find(log, pod=pod, model=model.model)
    return cause.summary if cause else "it was ended from outside: its log tells of no error"


async def _listed(session: PodSession, each: dict[str, Any]) -> Listed:
    model = Model(each.get("model", ""), each["port"], each["gpu"], each["pid"], each.get("uid"), kept_of(each))
    url = endpoint(session.host, model)
    return Listed(
        session.pod,
        each["name"],
        model,
        each["status"],
        url,
        age=each.get("age"),
        answers_here=await reach.answers_from_here(url) if url and each["status"] == "ready" else None,
        phase=phase(each) if each["status"] == "starting" else None,
        progress=_pair(each.get("progress")),
        requests=_pair(each.get("requests")),
        memory=_pair(each.get("memory_used")),
    )


def phase(each: Mapping[str, Any]) -> str:
    if each["pid"]:
        return str(each.get("phase") or "starting vLLM")
    return "downloading" if each.get("progress") else "beginning"


def _pair(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers and None not in numbers else None
