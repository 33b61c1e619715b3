"""Stop models, and verify that they are gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, StateUnreadable
from pi_cli.hints import fill
from pi_cli.models import listing, model_status
from pi_cli.models.parts import Part
from pi_cli.pods import agent, fleet
from pi_cli.pods.reports import StopResult
from pi_cli.store import port_verdicts, state

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.ssh.session import PodSession


@dataclass(frozen=True, slots=True)
class Stopped:
    """The outcome of a stop for each model: `stopped`, `killed`, `gone` (before the stop) or `stuck`.

    `freed` is in MiB of GPU memory, None if unknown. `others` are the models of which another launch was stopped than
    the one on pi's list: another client had started them again. `unrecorded` is the error if `pods.json` could not be
    changed. `elsewhere` are other parts of what was stopped, if it ran over several pods.
    """

    outcome: Mapping[str, protocol.Outcome]
    freed: int | None
    others: Collection[str] = ()
    unrecorded: StateUnreadable | None = None
    elsewhere: Sequence[Part] = ()

    @property
    def stuck(self) -> list[str]:
        """Return the models with a process that survived SIGKILL."""
        return [name for name, outcome in self.outcome.items() if outcome == "stuck"]


async def stop(session: PodSession, names: Sequence[str]) -> Stopped:
    """Stop models, verify that they are gone, and remove them from `pods.json`, except those that are stuck."""
    recorded = {model["name"]: model for model in model_status.known(state.load().pod(session.pod).models)}
    return await _stop(session, {name: recorded.get(name, model_status.known_by_uid(name, None)) for name in names})


async def stop_parts(session: PodSession, parts: Sequence[Part]) -> Stopped:
    """Stop these parts of models over several pods, and no other model of the same names."""
    return await _stop(
        session, {part.name: model_status.known_by_uid(part.name, part.uid) for part in parts}, exact=True
    )


async def stop_elsewhere(parts: Sequence[Part]) -> dict[str, PiError]:
    """Stop these parts on their pods; return the pods that failed."""
    current = state.load()

    async def stop_on(session: PodSession) -> None:
        done = await stop_parts(session, [part for part in parts if part.pod == session.pod])
        require_success(session.pod, done)

    return await fleet.on_each({part.pod: current.pod(part.pod) for part in parts}, stop_on)


async def stop_all(session: PodSession) -> Stopped:
    """Stop all models on a pod, including those that are not in `pods.json`."""
    models = {model["name"]: model for model in model_status.known(state.load().pod(session.pod).models)}
    for model in await listing.running(session):
        if model.name not in models or model.uid:
            models[model.name] = model_status.known_by_uid(model.name, model.uid)
    return await _stop(session, models)


async def _stop(session: PodSession, models: Mapping[str, protocol.KnownModel], *, exact: bool = False) -> Stopped:
    result = await agent.stop(session, list(models.values()), exact=exact)
    others = [name for name, is_other in zip(models, result.others, strict=False) if is_other]
    elsewhere = _elsewhere(session.pod, list(models), result)
    stopped = Stopped(dict(zip(models, result.outcomes, strict=True)), result.freed, others, elsewhere=elsewhere)
    try:  # this comes after the stop, which must also work where this disk is full: the pod is billed
        with state.edit() as current:
            listed = current.pod(session.pod).models
            removed = [
                listed.pop(name).uid
                for name in set(stopped.outcome) - set(stopped.stuck)
                if name in listed and (not exact or listed[name].uid == models[name]["uid"])
            ]
        port_verdicts.forget(session.pod, removed)
    except StateUnreadable as error:
        error.with_hint("the models are stopped, but still on pi's list; a `pi list` that can write it removes them")
        return replace(stopped, unrecorded=error)
    return stopped


def together(parts: Sequence[Stopped]) -> Stopped:
    """Return the outcome of several stops on one pod."""
    outcome = {name: end for part in parts for name, end in part.outcome.items()}
    freed = [part.freed for part in parts if part.freed is not None]
    return Stopped(
        outcome,
        sum(freed) if freed else None,
        [name for part in parts for name in part.others],
        next((part.unrecorded for part in parts if part.unrecorded), None),
        [each for part in parts for each in part.elsewhere],
    )


def _elsewhere(pod: str, names: Sequence[str], result: StopResult) -> list[Part]:
    """Return the other parts of what was stopped, on the pods of pi's list."""
    current = state.load()
    found = []
    for name, uid, peers in zip(names, result.uids, result.peers, strict=False):
        if uid and peers:
            found += [Part(peer, name, uid) for peer in peers if peer in current.pods and peer != pod]
    return found


def require_success(pod: str, stopped: Stopped) -> None:
    """Raise `PiError` if a model could not be killed, `StateUnreadable` if what was stopped is still on pi's list."""
    if stopped.stuck:
        raise PiError(
            f"{', '.join(f'`{name}`' for name in stopped.stuck)} on `{pod}` cannot be killed "
            "(a process hangs in the kernel)",
            hint=fill("check with `pi ssh {pod} nvidia-smi`; only a reboot of the pod may help", pod=pod),
        )
    if stopped.unrecorded:
        raise stopped.unrecorded
