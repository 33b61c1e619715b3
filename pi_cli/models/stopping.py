"""Stop models, and prove that they are gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pi_cli.errors import PiError
from pi_cli.models import model_status
from pi_cli.pods import agent
from pi_cli.ssh.session import PodSession
from pi_cli.store import state


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of models on a pod: `stopped`, `killed`, `gone` (it was already) or `stuck`, by name.

    `freed` is in MiB of GPU memory, None where nobody could tell.
    """

    outcome: Mapping[str, str]
    freed: int | None

    @property
    def stuck(self) -> list[str]:
        """Return the models of which a process survived even SIGKILL."""
        return [name for name, how in self.outcome.items() if how == "stuck"]


async def stop(session: PodSession, names: Sequence[str]) -> Stopped:
    """End models, prove that they are gone, and forget them; what is stuck stays recorded."""
    known = state.load().pod(session.pod).models
    recorded = {each["name"]: each for each in model_status.as_json(known)}
    wanted = [recorded.get(name, {"name": name, "pid": 0, "port": 0}) for name in names]
    told = await agent.ask(session, "stop", models=wanted)
    stopped = Stopped(told["outcome"], told["freed"])
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
            hint=f"look with `pi ssh {pod} nvidia-smi`; a reboot of the pod may be the only way",
        )
