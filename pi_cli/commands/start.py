"""`pi start`: from a model's name to an endpoint that answers."""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models import deploy
    from pi_cli.models.deploy import Started
    from pi_cli.models.plan import Plan
    from pi_cli.pods.ssh import PodSession


def start(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hugging Face id, or a folder on the pod.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[--vllm ARGS]…", hidden=True)] = None,
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="Name to call it by; the served model name too.")],
    pod: OnPods = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once vLLM is launched; it goes on loading.")] = False,
    vllm: Annotated[bool, typer.Option("--vllm", help="All that follows goes to `vllm serve`, as typed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a model and wait until it answers.

    The model is downloaded to the pod, vLLM is started, and a real request is answered before `pi` says "ready".

    Ctrl+C stops what was begun: the download, or the model that is loading.

    \b
    Examples:
      pi start Qwen/Qwen2.5-72B-Instruct --name qwen72b
      pi start openai/gpt-oss-20b --name oss --pod dc1 --pod dc2
      pi start Qwen/Qwen3-8B --name q --vllm --max-model-len 16384 --tensor-parallel-size 2
    """
    _check_model(model, arguments, vllm)
    state.check_name("model", name)
    key = options.api_key()
    where = state.load().select(pod or [])
    plans = _plan(model, where, (arguments or []) if vllm else None)
    from pi_cli.models import deploy
    from pi_cli.view import terminal

    secrets = deploy.Secrets(key, os.environ.get("HF_TOKEN") or None, os.environ.get("HF_ENDPOINT") or None)
    started, failures = _start_on_all(where, plans, name, secrets, wait=not detach)
    if as_json:
        terminal.show_json([_as_json(each) for each in started])
    else:
        for each in started:
            _show(each, where[each.pod].ssh)
    raise_any(failures)


def _plan(model: str, where: Mapping[str, Pod], own: list[str] | None) -> "dict[str, Plan]":
    from pi_cli.models import plan
    from pi_cli.view import terminal

    plans = {pod: plan.make(model, chosen.gpus, own, is_cpu=chosen.is_cpu) for pod, chosen in where.items()}
    for pod, made in plans.items():
        have = len(where[pod].gpus)
        if made.gpu_count and not have:
            raise BadUsage(
                f"pod `{pod}` has no GPUs",
                hint=f"see what it has now with `pi pods --check`, and record it with `pi pods setup {pod}`, "
                "on a machine without any with `--cpu`",
            )
        if made.gpu_count > have:
            raise BadUsage(
                f"`{model}` is to use {made.gpu_count} GPUs and `{pod}` has {have}",
                hint="lower `--tensor-parallel-size`, or choose another pod with `--pod`",
            )
        place = f"{made.gpu_count} GPU{'s' if made.gpu_count > 1 else ''}" if made.gpu_count else "on the CPU"
        terminal.note(f"{pod}: {made.reason}; {place}")
    return plans


def _start_on_all(
    where: Mapping[str, Pod], plans: "Mapping[str, Plan]", name: str, secrets: "deploy.Secrets", *, wait: bool
) -> "tuple[list[Started], dict[str, PiError]]":
    from pi_cli.models import deploy
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    started: list[Started] = []
    with progress.following(where) as report:

        async def begin(session: "PodSession") -> None:
            ssh, plan = where[session.pod].ssh, plans[session.pod]
            started.append(await deploy.start(session, ssh, plan, name=name, secrets=secrets, wait=wait, report=report))

        failures = asyncio.run(fleet.on_each(where, begin))
    return started, failures


def _check_model(model: str, arguments: list[str] | None, vllm: bool) -> None:
    if model.startswith("-"):
        raise BadUsage("no model is given", hint="such as `pi start Qwen/Qwen3-8B --name q --vllm …`")
    if arguments and not vllm:
        raise BadUsage(f"`{arguments[0]}` is one argument too many", hint="arguments for vLLM come after `--vllm`")


def _show(started: "Started", ssh: str) -> None:
    from pi_cli.view import terminal

    if not started.is_ready:
        terminal.say(f"launched `{started.name}` on `{started.pod}`; watch it with `pi logs {started.name}`")
        return
    terminal.say(("ready", "green"), f" `{started.name}` on `{started.pod}`: {started.url}")
    if not started.answers_here:
        port = started.model.port
        terminal.note(
            f"that port cannot be reached from here; open a way with `{_tunnel(ssh, port)}` "
            f"and use http://127.0.0.1:{port}/v1"
        )
    terminal.say(f'try it with `pi prompt {started.name} "What is 2+2?"`')


def _tunnel(ssh: str, port: int) -> str:
    command = ssh if ssh.split(maxsplit=1)[0].endswith("ssh") else f"ssh {ssh}"
    return f"{command} -N -L {port}:127.0.0.1:{port}"


def _as_json(started: "Started") -> dict[str, object]:
    now = {"ready": started.is_ready, "url": started.url, "answers_from_here": started.answers_here}
    return options.as_json(started.pod, started.name, started.model) | now
