"""`pi start`: start a model, and wait until its endpoint answers."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pi_cli import hints, interrupts
from pi_cli.commands import gateway_members, options, resolve, start_across, start_arguments, start_plan
from pi_cli.commands.names import complete_catalogue, complete_model, complete_pod
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, NotSet, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import quantities

if TYPE_CHECKING:
    from pi_cli.commands.start_arguments import OwnArguments
    from pi_cli.errors import PiError
    from pi_cli.events import Report
    from pi_cli.models.start_options import Across, Secrets, StartOptions
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
Lease = Annotated[
    str | None,
    typer.Option("--lease", metavar="TIME", help="Stop the model after this long without work, e.g. 45m or 2h."),
]
Then = Annotated[
    Literal["stop-pod"] | None,
    typer.Option(
        "--then",
        metavar="ACTION",
        help="With --lease: stop-pod stops the pod too, once the last lease on it has ended.",
    ),
]
Cors = Annotated[
    list[str] | None,
    typer.Option(
        "--cors",
        metavar="ORIGIN",
        help="Let pages of this origin use the model from a browser, e.g. http://localhost:3000; repeatable.",
    ),
]
CleanCache = Annotated[
    bool,
    typer.Option(
        "--clean-cache",
        help="First delete what earlier starts have compiled on the pod: vLLM's caches of compiled code, never models.",
    ),
]
NoWarmUp = Annotated[
    bool,
    typer.Option("--no-warm-up", help="Do not let vLLM compile while the model is downloaded."),
]
Fix = Annotated[
    bool,
    typer.Option(
        "--fix",
        help="If it does not start, try what its diagnosis offers, at most twice; never another model, key or access.",
    ),
]
AcrossPods = Annotated[
    str | None,
    typer.Option(
        "--across",
        metavar="POD,POD",
        help="One model over several pods of a private network; the first has the server. `pi help several-pods`.",
        autocompletion=complete_pod,
    ),
]
Anyway = Annotated[bool, typer.Option("--anyway", help="With --across: start over a network that is too slow.")]
InsecureNetwork = Annotated[
    bool, typer.Option("--insecure-network", help="With --across: start without a private network between the pods.")
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
    lease: Lease = None,
    then: Then = None,
    cors: Cors = None,
    clean_cache: CleanCache = False,
    no_warm_up: NoWarmUp = False,
    fix: Fix = False,
    across: AcrossPods = None,
    anyway: Anyway = False,
    insecure_network: InsecureNetwork = False,
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
      pi start zai-org/GLM-4.6 --name glm --across dc1,dc2
      pi start --attach q
      URL=$(pi start Qwen/Qwen3-8B --name q -q)
    """
    from pi_cli.commands import models
    from pi_cli.store import state
    from pi_cli.view import terminal

    current = state.load()
    if quiet:
        terminal.be_quiet()
    parts = start_across.checked(current, across, pod, anyway=anyway, insecure=insecure_network, model=model)
    time_limit = quantities.seconds(timeout, "--timeout") if timeout else None
    lease_time = quantities.lease(lease, then)
    if attach is not None:
        given = (model, name, arguments, gpus, memory, context, detach, private, api_key_env, env, dry_run, vllm)
        if any((*given, lease, cors, clean_cache, no_warm_up, fix, across)):
            hint = fill("leave the others out: `pi start --attach {name}`", name=attach)
            raise BadUsage("`--attach` cannot be combined with options that start a model", hint=hint)
        places = [resolve.with_server(current, place) for place in resolve.places(current, [attach], pod or [])]
        name = state.check_name("model", places[0].name)
        pods = current.select(place.pod for place in places)
        _attach(name, pods, time_limit=time_limit, quiet=quiet, as_json=as_json)
        return
    _refuse_on_one_pod_only(parts, {"--lease": lease, "--fix": fix, "--clean-cache": clean_cache}, name)
    if fix and detach:
        raise BadUsage("`--fix` waits for the model, and `--detach` does not", hint="leave one of them out")
    pods = current.select(parts.pods if parts else pod or [])
    if model is None and not vllm and not arguments:
        models.suggest(pods, as_json=as_json)
        return
    model = _checked_model(call, model, arguments, vllm=vllm)
    own = start_arguments.check(call, model, arguments or [], pods) if vllm else None
    constraints = replace(
        constraints_of(gpus, memory, context, own),
        environment=variables_of(env or [], pods),
        origins=_origins(cors or [], own),
    )
    name = _checked_name(name, model)
    secrets = None if dry_run else secrets_of(api_key_env or [])
    model = start_plan.resolve(model)
    if secrets is None:
        if parts:
            start_across.show(model, name, constraints, pods, private=private, as_json=as_json)
        else:
            warm_up = not no_warm_up
            start_plan.show(model, name, constraints, pods, private=private, warm_up=warm_up, as_json=as_json)
        return
    from pi_cli.diagnosis.start_command import StartCommand
    from pi_cli.models.start_options import StartOptions

    rest = [*(["--detach"] if detach else []), *(["--timeout", timeout] if timeout else [])]
    rest += [*(["--private"] if private else []), *(f"--api-key-env={variable}" for variable in api_key_env or ())]
    rest += [*(["--lease", lease] if lease else []), *(["--then", then] if then else [])]
    rest += [f"--cors={origin}" for origin in cors or ()]
    rest += [*(["--no-warm-up"] if no_warm_up else []), *(["--fix"] if fix else []), *start_across.words(parts)]
    on = None if parts else _pod_to_type(current, pod or [])
    command = StartCommand(
        *(model, name, on, gpus, memory, context, own.arguments if own else None, tuple(rest)), has_cleaned=clean_cache
    ).with_variables(env or ())
    if lease and own and "--disable-log-stats" in own.arguments:
        raise BadUsage(
            "a lease goes by the counters that `--disable-log-stats` turns off", hint="leave one of them out"
        )
    uploads = own.uploads if own else ()
    start_options = StartOptions(
        command, constraints, secrets, not detach, time_limit, private, uploads, clean_cache, fix
    )
    start_options = replace(
        start_options, lease=lease_time, then=then, across=parts, needs_url=quiet, warm_up=not no_warm_up
    )
    _start(start_options, pods, quiet=quiet, as_json=as_json)


def _refuse_on_one_pod_only(parts: "Across | None", given: Mapping[str, object], name: str | None) -> None:
    """Refuse the options that are given, if the model is to run over several pods."""
    for option in (option for option, value in given.items() if parts and value):
        hint = "leave one of them out"
        if option == "--lease":
            hint = fill("leave it out, and stop the model with `pi stop {name}`", name=name or "NAME")
        raise BadUsage(f"`{option}` is for models on one pod, and `--across` names several", hint=hint)


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


def constraints_of(
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


def variables_of(given: Sequence[str], pods: "Mapping[str, Pod]") -> tuple[tuple[str, str], ...]:
    if not given:
        return ()
    import os

    from pi_cli.vllm import abilities, own_variables

    found = own_variables.read(given, os.environ)
    for pod in pods.values():
        own_variables.refuse_misspelt(list(found), abilities.of(pod.vllm, pod.abilities).abilities)
    return tuple(found.items())


def _origins(given: Sequence[str], own: "OwnArguments | None") -> tuple[str, ...]:
    if not given:
        return ()
    from pi_cli.planning import browsers

    return browsers.read(given, own.arguments if own else None)


def secrets_of(key_variables: Sequence[str]) -> "Secrets":
    from pi_cli.models.start_options import Secrets

    try:
        key, *others = options.api_keys(key_variables)
    except NotSet as error:
        if not options.hub_settings()[0]:
            error.with_hint(f"{error.hint}; gated and private models also need HF_TOKEN")
        raise
    return Secrets(key, *options.hub_settings(), other_keys=tuple(other.value for other in others))


def _start(start_options: "StartOptions", pods: "Mapping[str, Pod]", *, quiet: bool, as_json: bool) -> None:
    from pi_cli.models import fixing, starting
    from pi_cli.ssh import sockets
    from pi_cli.store import state
    from pi_cli.view import attention, terminal

    for remark in start_options.constraints.remarks:
        terminal.note(remark)
    state.require_writable()
    sockets.require()
    command, constraints = start_options.command, start_options.constraints

    async def plan_and_start() -> _Results:
        if start_options.across:
            began = time.monotonic()
            started = await start_across.start(start_options, pods, quiet=quiet)
            return _Results([started], {started.pod: time.monotonic() - began})
        profile = await start_plan.find_profile(command.model, constraints, pods, name=command.name)

        async def start_on(session: "PodSession", report: "Report") -> "Started":
            make_plan = start_plan.planner(profile, constraints, pods, session.pod)
            options_for_pod = replace(start_options, command=replace(command, pod=command.pod and session.pod))
            if not start_options.fix:
                return await starting.start(session, options_for_pod, make_plan, report)
            pod = {session.pod: pods[session.pod]}
            replan = partial(start_plan.changed, pods=pod, remarks=constraints.remarks)
            return await fixing.start(session, options_for_pod, make_plan, report, replan=replan)

        return await _on_all(pods, start_on, quiet=quiet)

    with attention.afterwards("start", list(pods), command.name):
        results = interrupts.run(plan_and_start())
        _show_all(results, quiet=quiet, as_json=as_json, lease=start_options.lease, then=start_options.then)


def _attach(name: str, pods: "Mapping[str, Pod]", *, time_limit: float | None, quiet: bool, as_json: bool) -> None:
    from pi_cli.models import starting
    from pi_cli.store import state
    from pi_cli.view import attention

    keys = {pod_name: options.api_key_of(name, pod.models.get(name)) for pod_name, pod in pods.items()}

    async def attach_on(session: "PodSession", report: "Report") -> "Started":
        key = keys[session.pod]
        return await starting.attach(session, name, key=key, report=report, timeout=time_limit, needs_url=quiet)

    with attention.afterwards("start", list(pods), name):
        results = interrupts.run(_on_all(pods, attach_on, quiet=quiet))
        for pod_name, error in results.failures.items():
            start_across.say_what_is_left(pods[pod_name].models.get(name), pod_name, name, error)
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


def _show_all(
    results: _Results, *, quiet: bool, as_json: bool, lease: float | None = None, then: str | None = None
) -> None:
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
        view.show_lease(results.started, lease, then)
    view.note_fixes(results.started)
    gateway_members.tell([(each.pod, each.name) for each in results.started if each.is_ready])
    raise_any(results.failures)


def _as_json(started: "Started") -> dict[str, object]:
    result = {
        "ready": started.is_ready,
        "url": started.url,
        "answers_from_here": started.answers_here,
        "seconds": started.took and round(started.took, 1),
        "phases": dict(started.phases),
        "downloading": started.downloading and round(started.downloading, 1),
        "compiling": started.compiling and round(started.compiling, 1),
        "fixes": [{"cause": fix.cause, "command": hints.command(*fix.command.argv)} for fix in started.fixes],
    }
    return options.as_json(started.pod, started.name, started.model) | result | {"pods": list(started.pods) or None}
