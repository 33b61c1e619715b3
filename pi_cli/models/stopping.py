"""Stop models, and verify that they are gone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, StateUnreadable
from pi_cli.hints import fill
from pi_cli.models import listing, model_status
from pi_cli.pods import agent
from pi_cli.ssh.session import PodSession
from pi_cli.store import state

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class Stopped:
    """The outcome of a stop for each model: `stopped`, `killed`, `gone` (before the stop) or `stuck`.

    `freed` is in MiB of GPU memory, None if unknown. `others` are the models of which another launch was stopped than
    the one on pi's list: another client had started them again. `unrecorded` is the error if `pods.json` could not be
    changed.
    """

    outcome: "Mapping[str, protocol.Outcome]"
    freed: int | None
    others: Collection[str] = ()
    unrecorded: StateUnreadable | None = None

    @property
    def stuck(self) -> list[str]:
        """Return the models with a process that survived SIGKILL."""
        return [name for name, outcome in self.outcome.items() if outcome == "stuck"]


async def stop(session: PodSession, names: Sequence[str]) -> Stopped:
    """Stop models, verify that they are gone, and remove them from `pods.json`, except those that are stuck."""
    recorded = {model["name"]: model for model in model_status.known(state.load().pod(session.pod).models)}
    return await _stop(session, {name: recorded.get(name, model_status.known_by_uid(name, None)) for name in names})


async def stop_all(session: PodSession) -> Stopped:
    """Stop all models on a pod, including those that are not in `pods.json`."""
    models = {model["name"]: model for model in model_status.known(state.load().pod(session.pod).models)}
    for model in await listing.running(session):
        if model.name not in models or model.uid:
            models[model.name] = model_status.known_by_uid(model.name, model.uid)
    return await _stop(session, models)


async def _stop(session: PodSession, models: "Mapping[str, protocol.KnownModel]") -> Stopped:
    result = await agent.stop(session, list(models.values()))
    others = [name for name, is_other in zip(models, result.others, strict=False) if is_other]
    stopped = Stopped(dict(zip(models, result.outcomes, strict=True)), result.freed, others)
    try:  # this comes after the stop, which must also work where this disk is full: the pod is billed
        with state.edit() as current:
            for name in set(stopped.outcome) - set(stopped.stuck):
                current.pod(session.pod).models.pop(name, None)
    except StateUnreadable as error:
        error.with_hint("the models are stopped, but still on pi's list; a `pi list` that can write it removes them")
        return replace(stopped, unrecorded=error)
    return stopped


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
