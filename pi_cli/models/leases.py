"""The leases of models: a process on the pod ends a model after some time without work (`remote/agent/lease_watch.py`).

Nothing here runs while a lease does: it needs neither this machine nor a connection.
"""

from typing import TYPE_CHECKING

from pi_cli.errors import BadUsage
from pi_cli.pods import agent, agent_program
from pi_cli.pods.reports import Leases
from pi_cli.ssh.session import PodSession

if TYPE_CHECKING:
    from agent import protocol

OWN_STOP = "leave it out: the model ends all the same, and the pod is billed until you stop it at its provider"


def wish(seconds: float, then: "protocol.Then | None") -> "protocol.LeaseWish":
    """Return a lease for a request, with the program that watches over it."""
    return {"seconds": seconds, "then": then, "program": agent_program.watcher()}


async def show(session: PodSession) -> Leases:
    """Return the leases of a pod and how the latest ended; watchers that have died are started again."""
    return await agent.lease(session, {"action": "show", "name": "", "wish": None})


async def give(session: PodSession, name: str, seconds: float, then: "protocol.Then | None") -> Leases:
    """Give a running model a lease, or another one. Raises `BadUsage` if the pod cannot stop itself as `then` asks."""
    answer = await agent.lease(session, {"action": "set", "name": name, "wish": wish(seconds, then)})
    if then:
        _require(session.pod, answer)
    return answer


async def take_back(session: PodSession, name: str) -> Leases:
    """End the lease of a model: it runs until it is stopped."""
    return await agent.lease(session, {"action": "off", "name": name, "wish": None})


async def require_pod_stop(session: PodSession) -> None:
    """Raise `BadUsage` unless the provider would stop this pod when it is asked from inside."""
    _require(session.pod, await agent.lease(session, {"action": "check", "name": "", "wish": None}))


def _require(pod: str, answer: Leases) -> None:
    if answer.provider is None:
        raise BadUsage(
            f"`--then stop-pod` cannot work on `{pod}`: its provider gives the machine no key to stop itself",
            hint=OWN_STOP,
        )
    if answer.trouble:
        raise BadUsage(f"`--then stop-pod` cannot work on `{pod}`: {answer.trouble}", hint=OWN_STOP)
