"""`pi start`: from a model's name to an endpoint that answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import units
from pi_cli.commands import options, quantities, start_plan
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.events import Report
    from pi_cli.models.start_options import Secrets, StartOptions
    from pi_cli.models.starting import Started
    from pi_cli.planning.candidates import Constraints
    from pi_cli.ssh.session import PodSession
    from pi_cli.store.records import Pod


ModelId = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Hugging Face id, or a folder on the pod.")]
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[--vllm ARGS]…", hidden=True)]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Name to call it by; the served model name too.")]
Gpus = Annotated[int | None, typer.Option("--gpus", "-g", min=1, help="Use exactly so many GPUs.")]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SHARE", help="Share of each GPU's memory, such as `50%`.")
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="TOKENS", help="Context length, such as `32k` (32768) or 40000.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once vLLM is launched; it goes on loading.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Give up, and clean up, after so long: `20m`, 90s.")
]
Attach = Annotated[
    str | None,
    typer.Option(
        "--attach",
        metavar="NAME",
        help="Watch a model that is starting, however that was begun.",
        autocompletion=complete_model,
    ),
]
Private = Annotated[
    bool, typer.Option("--private", help="Listen on the pod's loopback only: no public URL, `pi forward` leads there.")
]
KeyVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key-env",
        metavar="VARIABLE",
        help="Take the key from here instead of PI_API_KEY; repeatable: all of these keys are good.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and the command, and do nothing.")]
Vllm = Annotated[bool, typer.Option("--vllm", help="All that follows goes to `vllm serve`, as typed.")]


def start(
    model: ModelId = None,
    arguments: Arguments = None,
    *,
    name: Name = None,
    pod: OnPods = None,
    gpus: Gpus = None,
    memory: Memory = None,
    context: Context = None,
    detach: Detach = False,
    attach: Attach = None,
    timeout: Timeout = None,
    private: Private = False,
    api_key_env: KeyVariables = None,
    dry_run: DryRun = False,
    vllm: Vllm = False,
    as_json: AsJson = False,
) -> None:
    """Start a model and wait until it answers.

    pi chooses GPUs and vLLM's arguments: from its catalogue, or from the model's size and shape. The model is
    downloaded to the pod, vLLM is started, and a real request is answered before `pi` says "ready". Without MODEL,
    shows what the pod can run, as `pi models` does.

    Ctrl+C stops what was begun: the download, or the model that is loading. With `--attach` it ends the watching only.

    \b
    Examples:
      pi start Qwen/Qwen2.5-72B-Instruct --name qwen72b
      pi start Qwen/Qwen3-Coder-30B-A3B-Instruct --name q --gpus 2 --context 64k --dry-run
      pi start openai/gpt-oss-20b --name oss --memory 40% --pod dc1 --pod dc2
      pi start Qwen/Qwen3-8B --name q --vllm --max-model-len 16384 --tensor-parallel-size 2
      pi start Qwen/Qwen3-8B --name q --private --api-key-env TEAM_KEY
      pi start --attach q
    """
    from pi_cli.commands import models
    from pi_cli.store import state

    where = state.load().select(pod or [])
    patience = quantities.seconds(timeout, "--timeout") if timeout else None
    if attach is not None:
        if any((model, name, arguments, gpus, memory, context, detach, private, api_key_env, dry_run, vllm)):
            hint = fill("give `pi start --attach {name}`", name=attach)
            raise BadUsage("`--attach` watches a model by its name alone", hint=hint)
        _attach(state.check_name("model", attach), where, timeout=patience, as_json=as_json)
        return
    if model is None and not vllm and not arguments:
        models.show_list(where, as_json=as_json)
        return
    constraints = _constraints(gpus, memory, context, tuple(arguments or []) if vllm else None)
    model, name = _named(_checked(model, arguments, vllm=vllm), name)
    if dry_run:
        start_plan.show(model, name, constraints, where, private=private, as_json=as_json)
        return
    from pi_cli.diagnosis.start_command import StartCommand
    from pi_cli.models.start_options import StartOptions

    rest = [*(["--detach"] if detach else []), *(["--timeout", timeout] if timeout else [])]
    rest += [*(["--private"] if private else []), *(f"--api-key-env={each}" for each in api_key_env or ())]
    command = StartCommand(
        model, name, pod[0] if pod else None, gpus, memory, context, constraints.own_arguments, tuple(rest)
    )
    secrets = _secrets(api_key_env or [])
    _start(StartOptions(command, constraints, secrets, not detach, patience, private), where, as_json=as_json)


def _secrets(key_variables: Sequence[str]) -> "Secrets":
    from pi_cli.models.start_options import Secrets

    key, *others = options.api_keys(key_variables)
    return Secrets(key, *options.hub_settings(), other_keys=tuple(others), key_variable=next(iter(key_variables), None))


def _start(asked: "StartOptions", where: "Mapping[str, Pod]", *, as_json: bool) -> None:
    import asyncio

    from pi_cli.models import starting

    async def plan_and_start() -> "tuple[list[Started], dict[str, PiError]]":
        profile = await start_plan.find_profile(asked.command.model, asked.constraints, where)

        async def begin(session: "PodSession", report: "Report") -> "Started":
            choose = start_plan.planner(profile, asked.constraints, where, session.pod)
            here = replace(asked, command=replace(asked.command, pod=asked.command.pod and session.pod))
            return await starting.start(session, here, choose, report)

        return await _on_all(where, begin)

    _show_all(asyncio.run(plan_and_start()), as_json=as_json)


def _attach(name: str, where: "Mapping[str, Pod]", *, timeout: float | None, as_json: bool) -> None:
    import asyncio

    from pi_cli.models import starting

    keys = {on: options.api_key(pod.models.get(name)) for on, pod in where.items()}

    async def watch(session: "PodSession", report: "Report") -> "Started":
        return await starting.attach(session, name, key=keys[session.pod], report=report, timeout=timeout)

    _show_all(asyncio.run(_on_all(where, watch)), as_json=as_json)


async def _on_all(
    where: "Mapping[str, Pod]", work: "Callable[[PodSession, Report], Awaitable[Started]]"
) -> "tuple[list[Started], dict[str, PiError]]":
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    started: list[Started] = []
    with progress.following(where) as report:

        async def begin(session: "PodSession") -> None:
            started.append(await work(session, report))

        failures = await fleet.on_each(where, begin, report)
    return started, failures


def _show_all(ends: "tuple[list[Started], dict[str, PiError]]", *, as_json: bool) -> None:
    from pi_cli.store import state
    from pi_cli.view import terminal

    started, failures = ends
    if as_json:
        terminal.show_json([_as_json(each) for each in started])
    else:
        active = state.load().active
        for each in started:
            _show(each, each.name if each.pod == active else f"{each.pod}/{each.name}")
    raise_any(failures)


def _checked(model: str | None, arguments: list[str] | None, *, vllm: bool) -> str:
    if model is None or model.startswith("-"):
        raise BadUsage("no model is given", hint="such as `pi start Qwen/Qwen3-8B --name q --vllm …`")
    if arguments and not vllm:
        raise BadUsage(f"`{arguments[0]}` is one argument too many", hint="arguments for vLLM come after `--vllm`")
    return model


def _named(model: str, name: str | None) -> tuple[str, str]:
    from pi_cli.commands import models
    from pi_cli.store import state

    if name is None:
        hint = fill("for example: `pi start {model} --name {name}`", model=model, name=models.suggested_name(model))
        raise BadUsage("no name is given", hint=hint)
    return model, state.check_name("model", name)


def _constraints(
    gpus: int | None, memory: str | None, context: str | None, own: tuple[str, ...] | None
) -> "Constraints":
    from pi_cli.planning.candidates import Constraints

    given = [name for name, value in (("--gpus", gpus), ("--memory", memory), ("--context", context)) if value]
    if own is not None and given:
        raise BadUsage(
            f"`{given[0]}` cannot be given together with `--vllm`, whose arguments are taken as they are",
            hint="say it in vLLM's words: `--tensor-parallel-size`, `--gpu-memory-utilization`, `--max-model-len`",
        )
    return Constraints(
        own, gpus, quantities.share(memory) if memory else None, quantities.tokens(context) if context else None
    )


def _show(started: "Started", called: str) -> None:
    """Say how it is, and what to do with it: elsewhere than on the active pod a model is `called` POD/NAME."""
    from pi_cli.view import terminal

    if not started.is_ready:
        launched = "launched `{name}` on `{pod}`; watch it with `pi start --attach {name} --pod {pod}`"
        terminal.say(fill(launched, name=started.name, pod=started.pod))
        return
    if started.phases and started.took:
        spans = ", ".join(f"{name} {units.age(seconds)}" for name, seconds in started.phases.items() if seconds >= 1)
        terminal.note(f"`{called}` took {units.age(started.took)}{f': {spans}' if spans else ''}")
    where = started.url or "through SSH only"
    terminal.say(("ready", "green"), f" `{started.name}` on `{started.pod}`: {where}")
    if not started.answers_here:
        why = "that port cannot be reached from here" if started.url else "it has no public URL"
        terminal.note(
            fill("{why}; open a local port for other programs with `pi forward {name}`", why=why, name=called)
        )
    terminal.say(fill('try it with `pi prompt {name} "What is 2+2?"`', name=called))


def _as_json(started: "Started") -> dict[str, object]:
    now = {
        "ready": started.is_ready,
        "url": started.url,
        "answers_from_here": started.answers_here,
        "seconds": started.took and round(started.took, 1),
        "phases": dict(started.phases),
    }
    return options.as_json(started.pod, started.name, started.model) | now
