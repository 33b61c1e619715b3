"""List the models that run on pods, and update `pods.json` accordingly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, StateUnreadable
from pi_cli.events import Note, Report
from pi_cli.hints import fill
from pi_cli.models import lease_words, model_status, public_ports, watching
from pi_cli.models.identity import Identity
from pi_cli.models.model_status import Listed, endpoint, remembered, status_after
from pi_cli.models.public_ports import PublicPorts, Verdict
from pi_cli.pods import agent, wording
from pi_cli.pods.reports import DeadModel, RunningModel, Survey
from pi_cli.store import costs, state
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession


async def survey(
    session: PodSession, pod: Pod, report: Report, ports: PublicPorts, remarks: set[str] | None = None
) -> list[Listed]:
    """Return the models of a pod, and update `pods.json`: add new models, remove those that are gone.

    `pod` is the recent entry of the pod. What `ports` does not know by now is left open.
    `remarks` holds the remarks already reported, which are not repeated.
    """
    known = pod.models
    answer = await agent.survey(session, model_status.known(known), forget=True, memory=True)
    alive = {
        model.name: model
        for model in answer.models
        if not model.is_foreign and (model.uid or model.name in known)  # one without a uid was entered by the user
    }
    kept = alive.keys() | answer.elsewhere.keys()
    new_remarks = _remarks(session.pod, answer) + _update_entries(session.pod, known, alive, kept, report)
    dead = [_dead(session, model, known.get(model.name), pod) for model in answer.dead]
    for model in dead:
        report(Note(session.pod, _obituary(model, pod)))
    new_remarks += [
        remark for model in answer.models if model.lease for remark in lease_words.remarks(model.lease, session.pod)
    ]
    for remark in new_remarks:
        if remarks is None or remark not in remarks:
            report(Note(session.pod, remark))
    if remarks is not None:
        remarks.update(new_remarks)
    note_use(session.pod, pod, answer.models)
    return [*(_listed(session, model, known.get(model.name), ports) for model in answer.models), *dead]


def _obituary(dead: Listed, pod: Pod) -> str:
    """Return what is said once about a dead model: why, and where there is more."""
    if dead.lease_end:
        return f"`{dead.name}` {lease_words.ended(dead.lease_end, pod.price)}"
    more = f"its log: {dead.log}"
    if dead.line:
        more = fill("`pi why {typed}` shows what its log says", typed=state.load().spelled(dead.pod, dead.name))
    return f"`{dead.name}` is dead and was removed: {dead.cause}; {more}"


def _remarks(pod: str, answer: Survey) -> list[str]:
    """Return remarks on the parts of an answer that could not be used, and on what is unusual about the pod."""
    skipped = [f"skipped the record {record.file}: {record.reason}" for record in answer.unreadable]
    if answer.refused_lock:
        skipped.append(wording.refused_lock(answer.refused_lock))
    if answer.driver_hangs:
        skipped.append(
            "the driver does not answer, so the memory of its GPUs is not shown; `pi pods --check` waits for it"
        )
    skipped += [
        f"`{name}` was started on another machine that has the same home folder, {machine}; "
        + fill("`pi stop {name} --pod {pod}` removes it from pi's list", name=name, pod=pod)
        for name, machine in answer.elsewhere.items()
    ]
    running = "a model with a name that pi does not allow is running and was not added"
    return skipped + [f"{running}: {model.name}" for model in answer.models if model.is_foreign]


def note_use(name: str, pod: Pod, models: Sequence[RunningModel]) -> None:
    """Note in `pods.json` since when a pod with a price had no request; not at each of many surveys."""
    idle = [model.idle for model in models]
    if costs.has_news(pod, costs.after_look(pod, idle)):
        with suppress(PiError), state.edit() as current:
            current.pods[name] = costs.after_look(current.pod(name), idle)


async def watch(pods: Mapping[str, Pod], see: Callable[[str, list[Listed]], None], report: Report) -> None:
    """Survey pods every two seconds until cancelled; keep one connection to each pod, and reconnect when it is lost."""
    remarks: dict[str, set[str]] = {name: set() for name in pods}
    ports = PublicPorts()

    async def look(session: PodSession) -> list[Listed]:
        return await survey(session, state.load().pod(session.pod), report, ports, remarks[session.pod])

    def lost(name: str, error: PiError) -> None:
        see(name, remembered(name, state.load().pod(name), status_after(error)))

    try:
        async with ports.asking(pods):
            await watching.keep_looking(pods, look, see, lost=lost, report=report)
    finally:
        ports.remember()


async def alive(session: PodSession) -> dict[str, RunningModel]:
    """Return the models that run on a pod, by name, without foreign names; change nothing."""
    return {model.name: model for model in await running(session) if not model.is_foreign}


async def running(session: PodSession) -> list[RunningModel]:
    """Return all models that run on a pod; change nothing."""
    known = state.load().pod(session.pod).models
    return (await agent.survey(session, model_status.known(known), forget=False)).models


def _update_entries(
    pod: str,
    known: Mapping[str, Model],
    alive: Mapping[str, RunningModel],
    kept: Collection[str],
    report: Report,
) -> list[str]:
    """Add and remove entries of `pods.json`; those `kept`, and those that another pi changed during the survey, stay.

    Return a remark if the file cannot be changed: the pod has answered, and that is what was asked for.
    """
    if known.keys() <= set(kept) and all(_is_current(known.get(name), model) for name, model in alive.items()):
        return []  # the usual case: otherwise each of 64 pods would read and lock all of `pods.json`
    found = []
    try:
        with state.edit() as current:
            models = current.pod(pod).models
            for name in [name for name in known if name not in kept and models.get(name) == known[name]]:
                del models[name]
            for name, model in alive.items():
                if name not in models and model.pid:
                    found.append(name)
                if model.pid:
                    models[name] = _entry(models.get(name), model)
    except StateUnreadable as error:
        return [f"pi's list of models was not updated: {error}"]
    for name in found:
        report(Note(pod, f"found `{name}` running here and added it"))
    return []


def _entry(before: Model | None, running: RunningModel) -> Model:
    """Return the entry for a running model, with the extra keys of its previous entry."""
    entry = running.entry
    entry.extra = (before.extra if before else {}) | entry.extra
    if before and before.uid != entry.uid:  # another start, maybe of another client
        from pi_cli.models import start_words

        entry.extra.pop(start_words.KEY, None)
    if before and not running.uid:  # written by hand: the pod does not know the model's repository
        entry.model = before.model
    return entry


def _is_current(known: Model | None, running: RunningModel) -> bool:
    return not running.pid if known is None else known == _entry(known, running)


def _dead(session: PodSession, dead: DeadModel, model: Model | None, pod: Pod) -> Listed:
    model = model or Model("", port=0, gpu="", pid=0)
    listed = Listed(session.pod, dead.name, model, "dead", log=dead.log)
    if dead.lease_end and dead.lease_end.why != "died":
        return replace(listed, status="ended", cause=lease_words.ended(dead.lease_end), lease_end=dead.lease_end)
    if dead.was_rebooted:
        return replace(listed, cause="the pod was rebooted")
    if model.uid and not dead.was_recorded:
        return replace(listed, cause="stopped by another client")
    from pi_cli.diagnosis import causes  # the table of causes takes long to load, and few lists have a dead model
    from pi_cli.models import recorded_command

    command = recorded_command.read(dead.name, model, pod)
    cause = causes.find(dead.log_end, pod=session.pod, model=model.model, command=command)
    if cause is None:
        return replace(listed, cause="killed; the log shows no error")
    return replace(listed, cause=cause.summary, line=cause.line, hint=cause.hint)


def _listed(session: PodSession, running: RunningModel, before: Model | None, ports: PublicPorts) -> Listed:
    entry = _entry(before, running)
    verdict = None
    if running.status == "ready" and not (running.is_foreign or running.is_private):
        verdict = _verdict(session, entry, running, ports)
    url = endpoint(session.host, entry) if verdict and verdict.answers else None
    done, total = running.progress or (0, None)
    return Listed(
        session.pod,
        running.name,
        entry,
        "foreign" if running.is_foreign else running.status,
        url,
        age=running.age,
        answers_here=verdict.answers if verdict else None,
        asked_ago=verdict.age if verdict else None,
        phase=model_status.phase(running) if running.status == "starting" else None,
        progress=None if total is None else (done, total),
        requests=running.requests,
        idle=running.idle,
        memory=running.memory_used,
        lease=running.lease,
    )


def _verdict(session: PodSession, entry: Model, running: RunningModel, ports: PublicPorts) -> Verdict | None:
    """Return whether the model that the pod reports answers at its public port, as far as that is known."""
    if not running.proof_keys:
        return Verdict(answers=False)  # it cannot prove itself
    place = public_ports.place_of(session.pod, session.host, entry)
    return ports.verdict(place, Identity(running.port, running.proof_keys))
