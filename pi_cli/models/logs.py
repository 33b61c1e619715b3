"""Follow a model's log."""

from collections.abc import Callable

from pi_cli.errors import PiError
from pi_cli.pods import agent
from pi_cli.pods.agent import AgentRefused
from pi_cli.pods.ssh import PodSession
from pi_cli.store import state
from pi_cli.store.records import Model


async def follow(session: PodSession, name: str, *, lines: str, follow: bool, sink: Callable[[bytes], None]) -> bool:
    """Pass on a model's log as it is; with `follow` until the model is dead. Return whether it lived at the beginning.

    `lines` is what `tail -n` takes: `100`, or `+1` for all.
    """
    model = state.load().pod(session.pod).models.get(name) or Model("", port=0, gpu="", pid=0)
    request = {"name": name, "uid": model.uid, "pid": model.pid, "port": model.port}
    try:
        answer = await agent.pour(session, "logs", sink, **request, lines=lines, follow=follow)
    except AgentRefused as error:
        raise PiError(str(error), hint=f"see what runs with `pi list --pod {session.pod}`") from error
    return bool(answer["alive"])
