"""Show the leases of this pod, and change that of one model."""

from typing import TYPE_CHECKING, Optional

from agent import lease_ends, lease_watchers, leases, records
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol


def lease(request: "protocol.LeaseRequest") -> "protocol.Leases":
    pod_stop: "Optional[protocol.PodStop]" = None
    wish, name = request["wish"], request["name"]
    if request["action"] == "check" or (wish and wish["then"]):
        pod_stop = can_stop()
        if request["action"] == "set" and (not pod_stop["provider"] or pod_stop["trouble"]):
            return {"leases": [], "ends": [], "pod_stop": pod_stop}
    with records.locked():
        revived = lease_watchers.revive()
        if request["action"] == "set" and wish:
            give(name, wish)
        elif request["action"] == "off":
            take_back(name)
    return {
        "leases": [lease_watchers.report(each, revived) for each in leases.read_all()],
        "ends": lease_ends.read_ends(),
        "pod_stop": pod_stop,
    }


def give(name: str, wish: "protocol.LeaseWish") -> None:
    """Give a running model a lease, or another one. Raises `Refused` if it does not run, or is just being ended."""
    record = next((record for record in records.living() if record["name"] == name), None)
    state = leases.state_of(record["uid"]) if record else None
    if record is None or (state and state["phase"] in ("ending", "stuck")):
        raise Refused({"code": "not-there", "name": name})
    before = leases.read(record["uid"])
    then = wish["then"] or (before["then"] if before else None)
    kept: "protocol.LeaseWish" = {"seconds": wish["seconds"], "then": then, "program": wish["program"]}
    lease_watchers.begin(record["uid"], name, kept, is_ready=record.get("ready", False))


def take_back(name: str) -> None:
    """End the lease of a model, also one that is dead while its pod is still to be stopped."""
    named = [each["uid"] for each in leases.read_all() if each["name"] == name]
    if not named and not any(record["name"] == name for record in records.living()):
        raise Refused({"code": "not-there", "name": name})
    leases.stop(named)


def can_stop() -> "protocol.PodStop":
    """Return whether the provider would stop this pod: its key is tried by reading this pod, which changes nothing."""
    from agent import pod_stop

    pod = pod_stop.find()
    return {"provider": pod.provider if pod else None, "trouble": pod_stop.check(pod) if pod else ""}
