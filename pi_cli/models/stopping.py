"""Stop models, and prove that they are gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.models import listing, model_status
from pi_cli.pods import agent
from pi_cli.ssh.session import PodSession
from pi_cli.store import state

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of models on a pod: `stopped`, `killed`, `gone` (it was already) or `stuck`, by name.

    `freed` is in MiB of GPU memory, None where unknown.
    """

    outcome: "Mapping[str, protocol.Outcome]"
    freed: int | None

    @property
    def stuck(self) -> list[str]:
        """Return the models of which a process survived even SIGKILL."""
        return [name for name, how in self.outcome.items() if how == "stuck"]


async def stop(session: PodSession, names: Sequence[str]) -> Stopped:
    """End models, prove that they are gone, and forget them; what is stuck stays recorded."""
    recorded = {each["name"]: each for each in model_status.known(state.load().pod(session.pod).models)}
    return await _stop(session, {name: recorded.get(name, model_status.known_by_uid(name, None)) for name in names})


async def stop_all(session: PodSession) -> Stopped:
    """End all models on a pod, also those that `pods.json` does not have."""
    models = {each["name"]: each for each in model_status.known(state.load().pod(session.pod).models)}
    for each in await listing.running(session):
        if each.name not in models or each.uid:
            models[each.name] = model_status.known_by_uid(each.name, each.uid)
    return await _stop(session, models)


async def _stop(session: PodSession, models: "Mapping[str, protocol.KnownModel]") -> Stopped:
    ended = await agent.stop(session, list(models.values()))
    stopped = Stopped(dict(zip(models, ended.outcomes, strict=True)), ended.freed)
    with state.edit() as current:
        for name in set(stopped.outcome) - set(stopped.stuck):
            current.pod(session.pod).models.pop(name, None)
    return stopped


def require_gone(pod: str, stopped: Stopped) -> None:
    """Raise `PiError` if a model could not be killed."""
    if stopped.stuck:
        raise PiError(
            f"{', '.join(f'`{name}`' for name in stopped.stuck)} on `{pod}` cannot be killed "
            "(a process hangs in the kernel)",
            hint=fill("look with `pi ssh {pod} nvidia-smi`; a reboot of the pod may be the only way", pod=pod),
        )
