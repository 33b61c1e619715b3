"""What `pi start` does before it starts a model: find its profile, plan it, and show the plan for `--dry-run`."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.commands import options
from pi_cli.errors import NoRoom

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.hub.servable import Target
    from pi_cli.models.start_options import StartOptions
    from pi_cli.planning.candidates import Constraints
    from pi_cli.planning.plan import Plan
    from pi_cli.planning.profile import ModelProfile
    from pi_cli.pods.machine import Machine
    from pi_cli.store.records import Pod

FIRST_PORT: "protocol.FirstPort" = 8001  # the pod uses the first free port from here
NOT_ACROSS = {"pods": None, "role": None}  # of a plan for one pod
HUB_NOTE_DELAY = 1.5  # seconds without an answer from the Hub until a note is shown


def resolve(typed: str) -> str:
    """Return the id of the model that a user means, and say so if that is not what was typed."""

    from pi_cli.planning import names
    from pi_cli.view import terminal

    token, endpoint = options.hub_settings()
    meaning = interrupts.run(names.resolve(typed, token=token, endpoint=endpoint))
    if meaning.note:
        terminal.note(meaning.note)
    return meaning.id


async def find_profile(
    model: str, constraints: "Constraints", pods: "Mapping[str, Pod]", *, name: str
) -> "ModelProfile":
    """Return what the catalogue and the Hub know about a model that is to be called `name`.

    Raises an error if the user has no access to it, and if vLLM cannot serve it.

    A model that cannot run on the recorded GPUs is refused before the Hub is asked, and again with what the Hub says,
    before a pod is asked. Memory in use is not a reason: only the pods know what is running now.
    """
    import asyncio

    from pi_cli.planning import lookup
    from pi_cli.planning.profile import UnknownModel

    token, endpoint = options.hub_settings()
    _refuse_misfit(UnknownModel(model), constraints, pods)
    delayed_note = asyncio.get_running_loop().call_later(HUB_NOTE_DELAY, _note_question, model)
    target = _target(pods, name)
    own = constraints.own_arguments
    try:
        if own is None:
            profile = await lookup.find(model, token=token, endpoint=endpoint, target=target)
        else:
            profile = await lookup.find_for_own_arguments(model, own, token=token, endpoint=endpoint, target=target)
    finally:
        delayed_note.cancel()
    _refuse_misfit(profile, constraints, pods)
    return profile


async def changed(
    options: "StartOptions", *, pods: "Mapping[str, Pod]", remarks: "tuple[str, ...]"
) -> "tuple[StartOptions, Callable[[Machine], Plan]]":
    """Return the options of a start whose command was changed, and a function that plans it, for its only pod."""
    import os

    from pi_cli.models import local_files
    from pi_cli.store import quantities
    from pi_cli.vllm import abilities, own_variables

    [(name, pod)] = pods.items()
    command, own, uploads = options.command, options.command.own_arguments, options.uploads
    if own is not None:
        files = local_files.find(own, abilities.of(pod.vllm, pod.abilities).abilities, name)
        own, uploads = files.arguments, files.uploads
    constraints = replace(
        options.constraints,
        own_arguments=own,
        gpus=command.gpus,
        memory=quantities.share(command.memory) if command.memory else None,
        context=quantities.tokens(command.context) if command.context else None,
        remarks=remarks,
        environment=tuple(own_variables.read(command.variables, os.environ).items()),
    )
    profile = await find_profile(command.model, constraints, pods, name=command.name)
    return replace(options, constraints=constraints, uploads=uploads), planner(profile, constraints, pods, name)


def _note_question(model: str) -> None:
    """Say in a log what is waited for; a terminal shows it anyway (`view/waiting.py`)."""
    from pi_cli.view import terminal

    if not sys.stderr.isatty():
        terminal.note(f"asking the Hugging Face Hub about `{model}`")


def _target(pods: "Mapping[str, Pod]", name: str) -> "Target":
    """Return what is to serve the model. For pods with different vLLMs it is one of which nothing is known."""
    from pi_cli.hub.servable import Target
    from pi_cli.vllm import abilities

    vllms = {(pod.vllm, pod.abilities) for pod in pods.values()}
    if len(vllms) != 1:
        return Target(name=name, other="the vLLM of each of these pods")
    vllm = abilities.of(*vllms.pop())
    other = f"vLLM {vllm.version}" if vllm.version and not vllm.is_certain else ""
    return Target(vllm.abilities, vllm.is_certain, next(iter(pods)) if len(pods) == 1 else "", name, other)


def planner(
    profile: "ModelProfile", constraints: "Constraints", pods: "Mapping[str, Pod]", pod_name: str
) -> "Callable[[Machine], Plan]":
    """Return a function that plans the model for the current state of a pod."""
    from pi_cli.planning import browsers, gpu_space, looks, plan
    from pi_cli.vllm import abilities

    pod = pods[pod_name]

    def make_plan(machine: "Machine") -> "Plan":
        gpu_ids = [gpu.id for gpu in machine.gpus]
        spaces = gpu_space.observed(pod, gpu_ids, machine.models, machine.used)
        vllm = abilities.of(machine.vllm, machine.abilities)
        made = plan.make(profile.on(vllm), constraints, spaces, pod=pod_name, is_cpu=pod.is_cpu)
        return browsers.let_in(looks.unlogged(made, vllm), constraints.origins)

    return make_plan


def show(
    model: str,
    name: str,
    constraints: "Constraints",
    pods: "Mapping[str, Pod]",
    *,
    private: bool,
    as_json: bool,
    warm_up: bool = True,
) -> None:
    """Show what `pi start` would do, as far as pi has recorded what runs on the pods; contact no pod."""

    from pi_cli.planning import serve_command
    from pi_cli.view import plans as view
    from pi_cli.view import terminal

    profile = interrupts.run(find_profile(model, constraints, pods, name=name))
    plans = {pod_name: plan_recorded(profile, constraints, pod_name, pod) for pod_name, pod in pods.items()}
    rows = []
    for pod_name, made in plans.items():
        pod = pods[pod_name]
        command = serve_command.text(made, name, port=next_port(pod), private=private, devices=pod.devices)
        additions = serve_command.additions(made, warm_up=warm_up)
        row = {"pod": pod_name, **view.plan_as_json(made), "command": command, "pod_adds": additions}
        rows.append(row | NOT_ACROSS)
        if not as_json:
            view.show_plan(pod_name, made, command, additions, vllm=pod.vllm)
    if as_json:
        terminal.show_json(rows)


def _refuse_misfit(profile: "ModelProfile", constraints: "Constraints", pods: "Mapping[str, Pod]") -> None:
    """Raise `DoesNotFit` for a model that cannot run on the recorded GPUs, however empty they are."""
    for name, pod in pods.items():
        with suppress(NoRoom):
            plan_recorded(profile, constraints, name, pod)


def plan_recorded(profile: "ModelProfile", constraints: "Constraints", name: str, pod: "Pod") -> "Plan":
    """Plan for a pod as it is recorded: its GPUs, its models, its vLLM."""
    from pi_cli.planning import browsers, gpu_space, looks, plan
    from pi_cli.vllm import abilities

    vllm = abilities.of(pod.vllm, pod.abilities)
    made = plan.make(profile.on(vllm), constraints, gpu_space.recorded(pod), pod=name, is_cpu=pod.is_cpu)
    return browsers.let_in(looks.unlogged(made, vllm), constraints.origins)


def next_port(pod: "Pod") -> int:
    taken = {model.port for model in pod.models.values()}
    return next(port for port in range(FIRST_PORT, 65536) if port not in taken)
