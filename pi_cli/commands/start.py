"""`pi start`: start a model, and wait until its endpoint answers."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options, quantities, resolve, start_arguments, start_plan
from pi_cli.commands.names import complete_catalogue, complete_model
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, NotSet, PodUnreachable, raise_any
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.commands.start_arguments import OwnArguments
    from pi_cli.errors import PiError
    from pi_cli.events import Report
    from pi_cli.models.start_options import Secrets, StartOptions
    from pi_cli.models.starting import Started
    from pi_cli.planning.candidates import Constraints
    from pi_cli.ssh.session import PodSession
    from pi_cli.store.records import Pod
    from pi_cli.store.state import State


ModelId = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="Hugging Face id, a model's name in the catalogue, or a folder on the pod.",
        autocompletion=complete_catalogue,
    ),
]
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[--vllm ARGS]…", hidden=True)]
Name = Annotated[
    str | None, typer.Option("--name", "-n", metavar="NAME", help="Name for the model; also its served model name.")
]
Gpus = Annotated[int | None, typer.Option("--gpus", "-g", metavar="COUNT", min=1, help="Use exactly this many GPUs.")]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SHARE", help="Share of each GPU's memory to use, e.g. 50%.")
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="TOKENS", help="Context length, e.g. 32k (32768) or 40000.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once vLLM is launched; the model keeps loading.")]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Give up and clean up after this time, e.g. 20m or 90s."),
]
Attach = Annotated[
    str | None,
    typer.Option(
        "--attach",
        metavar="NAME",
        help="Watch a model that is already starting; NAME or POD/NAME.",
        autocompletion=complete_model,
    ),
]
Private = Annotated[
    bool,
    typer.Option(
        "--private", help="Listen on the pod's loopback only: no public URL; other programs need `pi forward`."
    ),
]
KeyVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key-env",
        metavar="VARIABLE",
        help="Environment variable with the API key (default: PI_API_KEY, or else the key that `pi key` keeps). "
        "Repeat to accept several keys.",
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        metavar="NAME=VALUE",
        help="Environment variable for vLLM, and for the download if it is one of the Hub's; repeatable. NAME alone "
        "takes the value that is set here.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and the vLLM command; start nothing.")]
Vllm = Annotated[bool, typer.Option("--vllm", help="Pass everything after this to `vllm serve`; values stay as typed.")]

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only the URL, and nothing if the model has none that answers from here."),
]


def start(
    call: typer.Context,
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
    env: Variables = None,
    dry_run: DryRun = False,
    vllm: Vllm = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Start a model and wait until it answers.

    pi chooses the GPUs and vLLM's arguments from its catalogue, or from the model's size and architecture. It downloads
    the model to the pod, starts vLLM, and prints "ready" after the model has answered a real request. Without MODEL,
    shows models that fit the pod, like `pi models --fits`.

    Ctrl+C stops the download, or the model that is loading. With `--attach` it only stops watching. When a wait of over
    a minute ends, the terminal rings, and pi runs the command in PI_NOTIFY.

    \b
    Examples:
      pi start openai/gpt-oss-20b --name oss
      pi start Qwen/Qwen3-32B --name q --gpus 2 --context 32k --dry-run
      pi start Qwen/Qwen3-8B --name small --memory 40% --pod dc1 --pod dc2
      pi start Qwen/Qwen3-8B --name q --vllm --tensor-parallel-size 2
      pi start Qwen/Qwen3-8B --name q --private --api-key-env TEAM_KEY
      pi start --attach q
      URL=$(pi start Qwen/Qwen3-8B --name q -q)
    """
    from pi_cli.commands import models
    from pi_cli.store import state
    from pi_cli.view import terminal

    current = state.load()
    if quiet:
        terminal.be_quiet()
    time_limit = quantities.seconds(timeout, "--timeout") if timeout else None
    if attach is not None:
        if any((model, name, arguments, gpus, memory, context, detach, private, api_key_env, env, dry_run, vllm)):
            hint = fill("leave the others out: `pi start --attach {name}`", name=attach)
            raise BadUsage("`--attach` cannot be combined with options that start a model", hint=hint)
        places = resolve.places(current, [attach], pod or [])
        name = state.check_name("model", places[0].name)
        pods = current.select(place.pod for place in places)
        _attach(name, pods, time_limit=time_limit, quiet=quiet, as_json=as_json)
        return
    pods = current.select(pod or [])
    if model is None and not vllm and not arguments:
        models.suggest(pods, as_json=as_json)
        return
    model = _checked_model(call, model, arguments, vllm=vllm)
    own = start_arguments.check(call, model, arguments or [], pods) if vllm else None
    constraints = replace(_constraints(gpus, memory, context, own), environment=_variables(env or [], pods))
    name = _checked_name(name, model)
    secrets = None if dry_run else _secrets(api_key_env or [])
    model = start_plan.resolve(model)
    if secrets is None:
        start_plan.show(model, name, constraints, pods, private=private, as_json=as_json)
        return
    from pi_cli.diagnosis.start_command import StartCommand
    from pi_cli.models.start_options import StartOptions

    rest = [*(["--detach"] if detach else []), *(["--timeout", timeout] if timeout else [])]
    rest += [*(["--private"] if private else []), *(f"--api-key-env={variable}" for variable in api_key_env or ())]
    on = _pod_to_type(current, pod or [])
    command = StartCommand(
        model, name, on, gpus, memory, context, own.arguments if own else None, tuple(rest)
    ).with_variables(env or ())
    uploads = own.uploads if own else ()
    start_options = StartOptions(command, constraints, secrets, not detach, time_limit, private, uploads)
    _start(start_options, pods, quiet=quiet, as_json=as_json)


def _pod_to_type(current: "State", pods: Sequence[str]) -> str | None:
    """Return the pod that the next command has to name: what is typed later may lack PI_POD."""
    return pods[0] if pods else (current.default if current.default != current.active else None)


def _checked_model(call: typer.Context, model: str | None, arguments: list[str] | None, *, vllm: bool) -> str:
    if model is None or model.startswith("-"):
        start = start_arguments.with_model(call, [*([model] if model else []), *(arguments or [])])
        raise BadUsage("no model is given", hint=fill("give it first: `{start}`", start=start))
    if arguments and not vllm:
        raise BadUsage(f"unexpected argument `{arguments[0]}`", hint="arguments for vLLM go after `--vllm`")
    return model


def _checked_name(name: str | None, model: str) -> str:
    from pi_cli.commands import models
    from pi_cli.store import state

    if name is None:
        hint = fill("for example: `pi start {model} --name {name}`", model=model, name=models.suggested_name(model))
        raise BadUsage("no name is given", hint=hint)
    return state.check_name("model", name)


def _constraints(
    gpus: int | None, memory: str | None, context: str | None, own: "OwnArguments | None"
) -> "Constraints":
    from pi_cli.planning.candidates import Constraints

    given = [option for option, value in (("--gpus", gpus), ("--memory", memory), ("--context", context)) if value]
    if own is not None and given:
        raise BadUsage(
            f"`{given[0]}` cannot be combined with `--vllm`, whose arguments pi does not change",
            hint="use vLLM's own: `--tensor-parallel-size`, `--gpu-memory-utilization`, `--max-model-len`",
        )
    share, tokens = quantities.share(memory) if memory else None, quantities.tokens(context) if context else None
    return Constraints(own.on_pod if own else None, gpus, share, tokens, own.remarks if own else ())


def _variables(given: Sequence[str], pods: "Mapping[str, Pod]") -> tuple[tuple[str, str], ...]:
    if not given:
        return ()
    import os

    from pi_cli.vllm import abilities, own_variables

    found = own_variables.read(given, os.environ)
    for pod in pods.values():
        own_variables.refuse_misspelt(list(found), abilities.of(pod.vllm, pod.abilities).abilities)
    return tuple(found.items())


def _secrets(key_variables: Sequence[str]) -> "Secrets":
    from pi_cli.models.start_options import Secrets

    try:
        key, *others = options.api_keys(key_variables)
    except NotSet as error:
        if not options.hub_settings()[0]:
            error.with_hint(f"{error.hint}; gated and private models also need HF_TOKEN")
        raise
    return Secrets(key, *options.hub_settings(), other_keys=tuple(other.value for other in others))


def _start(start_options: "StartOptions", pods: "Mapping[str, Pod]", *, quiet: bool, as_json: bool) -> None:
    import asyncio

    from pi_cli.models import starting
    from pi_cli.ssh import sockets
    from pi_cli.store import state
    from pi_cli.view import attention, terminal

    for remark in start_options.constraints.remarks:
        terminal.note(remark)
    state.require_writable()
    sockets.require()
    command, constraints = start_options.command, start_options.constraints

    async def plan_and_start() -> _Results:
        profile = await start_plan.find_profile(command.model, constraints, pods, name=command.name)

        async def start_on(session: "PodSession", report: "Report") -> "Started":
            make_plan = start_plan.planner(profile, constraints, pods, session.pod)
            command_for_pod = replace(command, pod=command.pod and session.pod)
            return await starting.start(session, replace(start_options, command=command_for_pod), make_plan, report)

        return await _on_all(pods, start_on, quiet=quiet)

    with attention.afterwards("start", list(pods), command.name):
        _show_all(asyncio.run(plan_and_start()), quiet=quiet, as_json=as_json)


def _attach(name: str, pods: "Mapping[str, Pod]", *, time_limit: float | None, quiet: bool, as_json: bool) -> None:
    import asyncio

    from pi_cli.models import starting
    from pi_cli.store import state
    from pi_cli.view import attention

    keys = {pod_name: options.api_key_of(name, pod.models.get(name)) for pod_name, pod in pods.items()}

    async def attach_on(session: "PodSession", report: "Report") -> "Started":
        return await starting.attach(session, name, key=keys[session.pod], report=report, timeout=time_limit)

    with attention.afterwards("start", list(pods), name):
        results = asyncio.run(_on_all(pods, attach_on, quiet=quiet))
        for pod_name, error in results.failures.items():
            if isinstance(error, PodUnreachable):
                resolve.doubt(error, state.load(), pod_name, [name])
        _show_all(results, quiet=quiet, as_json=as_json)


@dataclass(slots=True)
class _Results:
    """The models that were started, how many seconds each pod took, and the errors of the others."""

    started: "list[Started]" = field(default_factory=list)
    waited: dict[str, float] = field(default_factory=dict)
    failures: "Mapping[str, PiError]" = field(default_factory=dict)


async def _on_all(
    pods: "Mapping[str, Pod]", work: "Callable[[PodSession, Report], Awaitable[Started]]", *, quiet: bool
) -> _Results:
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    results, began = _Results(), time.monotonic()
    with progress.following(pods, quiet=quiet) as report:

        async def work_on(session: "PodSession") -> None:
            results.started.append(await work(session, report))
            results.waited[session.pod] = time.monotonic() - began

        results.failures = await fleet.on_each(pods, work_on, report)
    order = list(pods)
    results.started.sort(key=lambda started: order.index(started.pod))
    return results


def _show_all(results: _Results, *, quiet: bool, as_json: bool) -> None:
    from pi_cli.store import state
    from pi_cli.view import started as view
    from pi_cli.view import terminal

    if as_json:
        terminal.show_json([_as_json(model) for model in results.started])
    elif quiet:
        view.show_urls(results.started)
    else:
        current = state.load()
        names = {each.pod: current.spelled(each.pod, each.name) for each in results.started}
        view.show(results.started, names, results.waited)
    raise_any(results.failures)


def _as_json(started: "Started") -> dict[str, object]:
    result = {
        "ready": started.is_ready,
        "url": started.url,
        "answers_from_here": started.url is not None,
        "seconds": started.took and round(started.took, 1),
        "phases": dict(started.phases),
    }
    return options.as_json(started.pod, started.name, started.model) | result
