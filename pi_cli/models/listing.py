"""What runs on pods. That is the truth, and `pods.json` follows it."""

import asyncio
from collections.abc import Callable, Mapping

from pi_cli.errors import PiError
from pi_cli.events import Note, Report
from pi_cli.models import model_status, reach
from pi_cli.models.model_status import Listed, endpoint, remembered
from pi_cli.pods import agent
from pi_cli.pods.reports import DeadModel, RunningModel, Survey
from pi_cli.ssh import login
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store import debug, state
from pi_cli.store.records import Model, Pod

INTERVAL = 2.0  # seconds between two looks at a pod that is watched


async def survey(session: PodSession, pod: Pod, report: Report, remarks: set[str] | None = None) -> list[Listed]:
    """Ask a pod what runs on it, and bring `pods.json` in line: adopt what is new, forget what is gone.

    `pod` is its entry, as it was lately. `remarks` holds what was said before of what stays as it is.
    """
    known = pod.models
    found = await agent.survey(session, model_status.known(known), forget=True)
    _bring_in_line(session.pod, known, {each.name: each for each in found.models if not each.is_foreign}, report)
    dead = [_dead(session, each, known.get(each.name)) for each in found.dead]
    for each in dead:
        report(Note(session.pod, f"`{each.name}` is dead and was forgotten: {each.cause}; its log: {each.log}"))
    for remark in _remarks(found):
        if remarks is None or remark not in remarks:
            report(Note(session.pod, remark))
    if remarks is not None:
        remarks.update(_remarks(found))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_listed(session, each)) for each in found.models]
    return [*(task.result() for task in tasks), *dead]


def _remarks(found: Survey) -> list[str]:
    """Say what of an answer could not be used."""
    left_out = [f"left out the record {each.file}: {each.reason}" for each in found.unreadable]
    foreign = [each.name for each in found.models if each.is_foreign]
    return left_out + [
        f"a model runs under a name that pi does not give, and was not added: {name}" for name in foreign
    ]


async def watch(pods: Mapping[str, Pod], see: Callable[[str, list[Listed]], None], report: Report) -> None:
    """Look at pods every two seconds until cancelled, over one connection each for as long as it lasts."""

    async def look(name: str, pod: Pod) -> None:
        reconnection = Reconnection(
            on_lost=lambda error: report(Note(name, str(error))),
            on_back=lambda: report(Note(name, f"`{name}` answers again")),
            each_reason=True,
        )
        remarks: set[str] = set()
        while True:
            try:
                with debug.bugs_as_errors(f"looking at `{name}`"):
                    async with login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout) as session:
                        while True:
                            models = await survey(session, state.load().pod(name), report, remarks)
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


async def alive(session: PodSession) -> dict[str, RunningModel]:
    """Return what runs on a pod now, by name; nothing is changed. What has a foreign name is left out."""
    return {each.name: each for each in await running(session) if not each.is_foreign}


async def running(session: PodSession) -> list[RunningModel]:
    """Return all that runs on a pod now; nothing is changed."""
    known = state.load().pod(session.pod).models
    return (await agent.survey(session, model_status.known(known), forget=False)).models


def _bring_in_line(pod: str, known: Mapping[str, Model], found: Mapping[str, RunningModel], report: Report) -> None:
    """Adopt what was found and forget the rest; what another pi has changed meanwhile is newer than the answer."""
    if known.keys() <= found.keys() and all(_as_kept(known.get(name), each) for name, each in found.items()):
        return  # as nearly always; of 64 pods each would read and lock all of `pods.json`
    with state.edit() as current:
        models = current.pod(pod).models
        for name in [name for name in known if name not in found and models.get(name) == known[name]]:
            del models[name]
        for name, each in found.items():
            if name not in models and each.pid:
                report(Note(pod, f"found `{name}` running here and added it"))
            if each.pid:
                models[name] = _kept(models.get(name), each)


def _kept(before: Model | None, running: RunningModel) -> Model:
    """Return the entry of a model that runs, with what the entry before has besides."""
    entry = running.entry
    entry.extra = (before.extra if before else {}) | entry.extra
    if before and not running.uid:  # written by hand: the pod does not know what model it is
        entry.model = before.model
    return entry


def _as_kept(known: Model | None, running: RunningModel) -> bool:
    return not running.pid if known is None else known == _kept(known, running)


def _dead(session: PodSession, dead: DeadModel, model: Model | None) -> Listed:
    model = model or Model("", port=0, gpu="", pid=0)
    cause = _cause_of_death(session.pod, model, dead)
    return Listed(session.pod, dead.name, model, "dead", endpoint(session.host, model), cause=cause, log=dead.log)


def _cause_of_death(pod: str, model: Model, dead: DeadModel) -> str:
    """Say why a model ended, by what the pod has left of it."""
    if dead.was_rebooted:
        return "the pod was rebooted"
    if model.uid and not dead.was_recorded:
        return "stopped by another client"
    from pi_cli.diagnosis import causes  # all that is known of failures: few lists tell of one

    cause = causes.find(dead.last_words, pod=pod, model=model.model)
    return cause.summary if cause else "killed; the log shows no error"


async def _listed(session: PodSession, running: RunningModel) -> Listed:
    url = endpoint(session.host, running.entry)
    done, total = running.progress or (0, None)
    return Listed(
        session.pod,
        running.name,
        running.entry,
        "foreign" if running.is_foreign else running.status,
        None if running.is_foreign else url,
        age=running.age,
        answers_here=await _answers_here(url, running),
        phase=model_status.phase(running) if running.status == "starting" else None,
        progress=None if total is None else (done, total),
        requests=running.requests,
        memory=running.memory_used,
    )


async def _answers_here(url: str | None, running: RunningModel) -> bool | None:
    if url is None or running.status != "ready" or running.is_foreign:
        return None
    return await reach.answers_from_here(url)
