"""Stop models, and prove that they are gone."""

from collections.abc import Sequence

from pi_cli.errors import PiError
from pi_cli.models import listing
from pi_cli.pods import agent
from pi_cli.pods.ssh import PodSession
from pi_cli.store import state


async def stop(session: PodSession, names: Sequence[str]) -> dict[str, str]:
    """End models and prove that they are gone; return per name `stopped`, `killed` or `gone`.

    Raises `PiError` if a process survived even SIGKILL: its model stays recorded.
    """
    known = state.load().pod(session.pod).models
    recorded = {each["name"]: each for each in listing.as_json(known)}
    wanted = [recorded.get(name, {"name": name, "pid": 0, "port": 0}) for name in names]
    outcome: dict[str, str] = await agent.ask(session, "stop", models=wanted)
    with state.edit() as current:
        for name in [name for name, how in outcome.items() if how != "stuck"]:
            current.pod(session.pod).models.pop(name, None)
    if stuck := [name for name, how in outcome.items() if how == "stuck"]:
        raise PiError(
            f"{_quoted(stuck)} on `{session.pod}` cannot be killed (a process hangs in the kernel)",
            hint=f"look with `pi ssh {session.pod} nvidia-smi`; a reboot of the pod may be the only way",
        )
    return outcome


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
