"""`pi start --across`: what is typed, the plan over all pods, and the start."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.commands import options, start_plan
from pi_cli.errors import BadUsage
from pi_cli.hints import fill

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.errors import PiError
    from pi_cli.events import Report
    from pi_cli.models.start_options import Across, StartOptions
    from pi_cli.models.starting import Started
    from pi_cli.planning.candidates import Constraints
    from pi_cli.planning.plan import Plan
    from pi_cli.planning.profile import ModelProfile
    from pi_cli.pods.machine import Machine
    from pi_cli.store.records import Model, Pod
    from pi_cli.store.state import State

MASTER_PORT: "protocol.MasterPort" = 29501
INTERFACE = "INTERFACE"  # in the command of a dry run: only the pods know


def checked(
    current: "State", typed: str | None, pods: Sequence[str] | None, *, anyway: bool, insecure: bool, model: str | None
) -> "Across | None":
    """Return the pods of `--across`; None if it is not given. Raises `BadUsage`."""
    if typed is None:
        if anyway or insecure:
            option = "--anyway" if anyway else "--insecure-network"
            raise BadUsage(f"`{option}` is for a model over several pods", hint="give the pods with `--across dc1,dc2`")
        return None
    from pi_cli.models.start_options import Across

    names = [name.strip() for name in typed.split(",")]
    if pods:
        raise BadUsage(
            "`--across` and `--pod` exclude each other: one model over several pods, or a replica on each",
            hint="leave one of them out",
        )
    if "" in names or len(names) < 2 or len(set(names)) < len(names):
        hint = fill("for example: `pi start {model} --name NAME --across dc1,dc2`", model=model or "MODEL")
        raise BadUsage(f"`{typed}` does not name several pods", hint=hint)
    for name in names:
        current.pod(name)
    return Across(tuple(names), anyway, insecure)


def words(across: "Across | None") -> list[str]:
    """Return the options as typed, for hints."""
    if across is None:
        return []
    flags = {"--anyway": across.is_anyway, "--insecure-network": across.is_insecure}
    return ["--across", ",".join(across.pods), *(flag for flag, is_set in flags.items() if is_set)]


def show(
    model: str, name: str, constraints: "Constraints", pods: "Mapping[str, Pod]", *, private: bool, as_json: bool
) -> None:
    """Show the plan and the command of each pod, as far as pi has recorded what runs there; contact no pod."""
    from pi_cli.planning import serve_command
    from pi_cli.view import plans as view
    from pi_cli.view import terminal

    refuse(constraints, pods)
    profile = interrupts.run(_profile(model, constraints, pods, name))
    plans = _planned(profile, constraints, pods, None)
    rows = []
    for pod_name, made in plans.items():
        pod = pods[pod_name]
        part = _part_of(pod_name, list(pods))
        command = serve_command.text(
            made, name, port=start_plan.next_port(pod), private=private, devices=pod.devices, across=part
        )
        additions = [
            *serve_command.additions(made),
            "the private addresses and the interface, which only the pods know",
        ]
        row = {"pod": pod_name, **view.plan_as_json(made), "command": command, "pod_adds": additions}
        rows.append(row | {"pods": list(pods), "role": part["role"]})
        if not as_json:
            view.show_plan(pod_name, made, command, additions, vllm=pod.vllm)
    if as_json:
        terminal.show_json(rows)


async def start(start_options: "StartOptions", pods: "Mapping[str, Pod]", *, quiet: bool) -> "Started":
    """Start the model over the pods of `start_options.across`, with the progress of each on the terminal."""
    from pi_cli.view import progress

    with progress.following(pods, quiet=quiet) as report:
        return await start_reporting(start_options, pods, report)


async def start_reporting(start_options: "StartOptions", pods: "Mapping[str, Pod]", report: "Report") -> "Started":
    """Start the model over the pods, and report the progress of each."""
    import asyncio

    from pi_cli.hub import hub_api
    from pi_cli.models import across
    from pi_cli.planning.profile import is_folder

    command, constraints = start_options.command, start_options.constraints
    refuse(constraints, pods)
    token, endpoint = options.hub_settings()
    asking = asyncio.create_task(hub_api.commit(command.model, token=token, endpoint=endpoint))
    try:
        profile = await _profile(command.model, constraints, pods, command.name)
        commit = None if is_folder(command.model) else await asking
    finally:
        asking.cancel()

    def choose(machines: "Mapping[str, Machine]") -> "dict[str, Plan]":
        return _planned(profile, constraints, pods, machines)

    return await across.start(pods, start_options, choose, report, commit=commit)


def say_what_is_left(model: "Model | None", pod: str, name: str, error: "PiError") -> None:
    """Say that nodes run on whose head has ended while it was followed."""
    from pi_cli.errors import ModelNotStarted
    from pi_cli.view import terminal

    if model and model.role and isinstance(error, ModelNotStarted):
        others = ", ".join(peer for peer in model.peers if peer != pod)
        terminal.note(fill("the rest of `{name}` still runs on {others}: `pi stop {name}`", name=name, others=others))


def refuse(constraints: "Constraints", pods: "Mapping[str, Pod]") -> None:
    """Raise `BadUsage` for what is recorded of the pods, or typed, and cannot be one model over all of them."""
    from pi_cli.planning import across

    counts = {name: len(pod.gpus) for name, pod in pods.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise BadUsage(f"the pods of one model need equally many GPUs: {found}", hint="choose other pods")
    if constraints.own_arguments is not None:
        is_cpu = any(pod.is_cpu for pod in pods.values())
        across.refuse(constraints.own_arguments, len(pods), is_cpu=is_cpu)


async def _profile(model: str, constraints: "Constraints", pods: "Mapping[str, Pod]", name: str) -> "ModelProfile":
    """Return what is known of a model, which is refused if it does not fit the recorded GPUs of all pods together."""
    wanted = _of_one(constraints, pods)
    return await start_plan.find_profile(model, wanted, pods, name=name)


def _of_one(constraints: "Constraints", pods: "Mapping[str, Pod]") -> "Constraints":
    from pi_cli.planning import across

    gpus = min(len(pod.gpus) for pod in pods.values())
    return across.constraints(constraints, gpus, len(pods))


def _planned(
    profile: "ModelProfile",
    constraints: "Constraints",
    pods: "Mapping[str, Pod]",
    machines: "Mapping[str, Machine] | None",
) -> "dict[str, Plan]":
    """Plan the part of each pod, for its present state, or without one for what is recorded."""
    from pi_cli.planning import across

    def make_plan(wanted: "Constraints", pod: str) -> "Plan":
        if machines is None:
            return start_plan.plan_recorded(profile, wanted, pod, pods[pod])
        return start_plan.planner(profile, wanted, pods, pod)(machines[pod])

    return across.make(constraints, {name: len(pod.gpus) for name, pod in pods.items()}, make_plan)


def _part_of(pod: str, pods: Sequence[str]) -> "protocol.Across":
    """Return the part of a pod with names in place of what only the pods know."""
    rank = pods.index(pod)
    return {
        "role": "node" if rank else "head",
        "rank": rank,
        "peers": list(pods),
        "master": f"ADDRESS_OF_{pods[0]}",
        "master_port": MASTER_PORT,
        "address": f"ADDRESS_OF_{pod}",
        "interface": INTERFACE,
    }
