"""Write into `pods.json` what a setup has found, and forget what it has replaced."""

from pi_cli import units
from pi_cli.events import Note, Report
from pi_cli.pods.machine import Machine
from pi_cli.store import port_verdicts, state
from pi_cli.store.records import Pod, Storage


def forget_machine(name: str, report: Report) -> None:
    """Remove the models and times of the machine that this one replaces from the list; other pods' models stay."""
    with state.edit() as current:
        pod = current.pods.get(name)
        removed = list(pod.models) if pod else []
        if pod:
            pod.models.clear()
            pod.since = pod.quiet_since = pod.asked = None
    port_verdicts.forget(name)
    if removed:
        models = ", ".join(f"`{model}`" for model in removed)
        report(Note(name, f"removed {models} from the list: its machine was replaced"))


def record(
    name: str, given: Pod, machine: Machine, *, mount: str | None, is_cpu: bool, began: str, is_price_new: bool
) -> Pod:
    """Record the pod; keep what other commands have changed since setup began."""
    with state.edit() as current:
        pod = current.pods.setdefault(name, Pod(given.ssh))
        pod.ssh, pod.connect_timeout = given.ssh, given.connect_timeout
        pod.price = given.price if is_price_new else pod.price
        pod.since = pod.since or began
        pod.gpus, pod.provider = [] if is_cpu else machine.gpus, machine.provider
        pod.vllm, pod.abilities = machine.vllm, machine.abilities
        pod.home = machine.place.path if machine.place else None
        pod.storage = None
        if machine.storage:
            total = machine.storage.total
            size = units.size(total).replace(" ", "") if total else None
            pod.storage = Storage(machine.storage.path, size, mount)
        current.active = current.active or name
    return pod
