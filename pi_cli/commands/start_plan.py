"""What `pi start` decides before it starts anything: the model's profile, its plan, and `--dry-run`, which shows it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli.commands import options
from pi_cli.errors import NoRoom

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.planning.candidates import Constraints
    from pi_cli.planning.plan import Plan
    from pi_cli.planning.profile import ModelProfile
    from pi_cli.pods.machine import Machine
    from pi_cli.store.records import Pod

FIRST_PORT: "protocol.FirstPort" = 8001  # the pod takes the first that is free there
SLOW = 1.5  # seconds without an answer, after which people wonder


async def find_profile(model: str, constraints: "Constraints", where: "Mapping[str, Pod]") -> "ModelProfile":
    """Find out about a model what there is to know, and whether its gate is open for us.

    Refuses what cannot be before the Hub, and then before any pod is asked. What runs there by now, only the pods know.
    """
    import asyncio

    from pi_cli.planning import lookup
    from pi_cli.planning.profile import UnknownModel
    from pi_cli.view import terminal

    token, endpoint = options.hub_settings()
    _refuse_in_time(UnknownModel(model), constraints, where)
    look = lookup.find if constraints.own_arguments is None else lookup.find_for_own_arguments
    waiting = asyncio.get_running_loop().call_later(SLOW, terminal.note, f"asking the Hugging Face Hub about `{model}`")
    try:
        profile = await look(model, token=token, endpoint=endpoint)
    finally:
        waiting.cancel()
    _refuse_in_time(profile, constraints, where)
    return profile


def planner(
    profile: "ModelProfile", constraints: "Constraints", where: "Mapping[str, Pod]", pod: str
) -> "Callable[[Machine], Plan]":
    """Return what plans the model for a pod as it is found to be."""
    from pi_cli.planning import gpu_space, plan

    chosen = where[pod]

    def choose(machine: "Machine") -> "Plan":
        there = [gpu.id for gpu in machine.gpus]
        spaces = gpu_space.observed(chosen, there, machine.models, machine.used)
        return plan.make(profile, constraints, spaces, pod=pod, is_cpu=chosen.is_cpu)

    return choose


def show(
    model: str, name: str, constraints: "Constraints", where: "Mapping[str, Pod]", *, private: bool, as_json: bool
) -> None:
    """Show what `pi start` would do, as far as pi remembers what runs on the pods; nothing is asked and done."""
    import asyncio

    from pi_cli.planning import gpu_space, plan, serve_command
    from pi_cli.view import plans, terminal

    profile = asyncio.run(find_profile(model, constraints, where))
    made = {}
    for pod, chosen in where.items():
        made[pod] = plan.make(profile, constraints, gpu_space.recorded(chosen), pod=pod, is_cpu=chosen.is_cpu)
    commands = {
        pod: serve_command.text(each, name, port=_port(where[pod]), private=private, devices=where[pod].devices)
        for pod, each in made.items()
    }
    additions = {pod: serve_command.additions(each) for pod, each in made.items()}
    if as_json:
        more = {pod: {"command": commands[pod], "pod_adds": additions[pod]} for pod in made}
        terminal.show_json([{"pod": pod, **plans.plan_as_json(each), **more[pod]} for pod, each in made.items()])
        return
    for pod, each in made.items():
        plans.show_plan(pod, each, commands[pod], additions[pod])


def _refuse_in_time(profile: "ModelProfile", constraints: "Constraints", where: "Mapping[str, Pod]") -> None:
    from pi_cli.planning import gpu_space, plan

    for name, pod in where.items():
        with suppress(NoRoom):
            plan.make(profile, constraints, gpu_space.recorded(pod), pod=name, is_cpu=pod.is_cpu)


def _port(pod: "Pod") -> int:
    taken = {model.port for model in pod.models.values()}
    return next(port for port in range(FIRST_PORT, 65536) if port not in taken)
