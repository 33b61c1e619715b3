"""`pi gateway`: one URL for the models of several pods."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pi_cli import interrupts
from pi_cli.commands import options, resolve
from pi_cli.commands.names import complete_model, complete_pod
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pi_cli.gateway.replicas import Wanted
    from pi_cli.store.keys import ApiKey
    from pi_cli.store.records import Pod
    from pi_cli.store.state import State

PORT = 8000


def gateway(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME…]",
            help="Names of models, each on every pod that has it, or POD/NAME.",
            autocompletion=complete_model,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Serve all models, also those that are started later.")] = False,
    pods: OnPods = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            help=f"Port of the gateway: {PORT}, or with `--on` the next free one, if none is given.",
        ),
    ] = None,
    policy: Annotated[
        Literal["cache_aware", "power_of_two", "round_robin"],
        typer.Option(
            metavar="POLICY",
            help="How a replica is chosen: cache_aware (the one that knows the beginning of the prompt), power_of_two "
            "(the less busy one of two), or round_robin.",
        ),
    ] = "cache_aware",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Install the balancer without being asked, if it is missing.")
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(metavar="POD", help="Run it on this pod, where it stays.", autocompletion=complete_pod),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="With `--on`: take in what has been started and stopped since.")
    ] = False,
    public: Annotated[
        bool,
        typer.Option("--public", help="With `--on`: listen on all addresses of the pod, not on its loopback."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the models of several pods at one URL.

    A name on several pods is one model with replicas: requests are spread over them, also while one of them is
    stopped, restarted or unreachable. The port is open to programs on this machine only, and its key is that of the
    models. pi holds the SSH connections; the balancer behind the port is smg, which pi installs after asking.

    Runs until Ctrl+C, which lets answers in progress end for up to 10 seconds. With `--json`, prints a line each time
    something changes.

    With `--on`, the gateway runs on a pod, also when this machine sleeps, like a model called `gateway`: `pi forward
    gateway` reaches it, `pi list` shows it, `pi stop gateway` ends it. It uses models that prove themselves to that pod
    at private addresses. `pi start` and `pi stop` on this machine tell it what has changed; after those of other
    machines, repeat the command with `--refresh`.

    \b
    Examples:
      pi gateway --all
      pi gateway qwen72b glm
      pi gateway dc1/qwen72b dc2/qwen72b --port 9000
      pi gateway qwen72b --policy round_robin
      pi gateway --all --on dc1
      pi gateway --all --on dc1 --refresh
    """
    if on is None and (refresh or public):
        raise BadUsage("`--refresh` and `--public` are for a gateway on a pod", hint="name the pod with `--on POD`")
    if every and names:
        raise BadUsage("`--all` and names of models exclude each other", hint="leave one of them out")
    current = state.load()
    wanted = _wanted(current, names or [], pods or [], every=every)
    key = _key(current, wanted)
    if on is not None:
        from pi_cli.commands import gateway_on_pod
        from pi_cli.gateway.on_pod import Options

        options_there = Options(on, policy, port, public, "refresh" if refresh else "start")
        gateway_on_pod.start(current, wanted, key, options_there, yes=yes, as_json=as_json)
        return
    python = _balancer(yes=yes)
    from pi_cli.gateway import serving
    from pi_cli.view import gateways as view

    report = view.show_as_json if as_json else view.GatewayPrinter().show
    raise_any(interrupts.run(serving.serve(wanted, key, python, port or PORT, policy, report)))


def _wanted(current: "State", names: list[str], pods: list[str], *, every: bool) -> "Wanted":
    """Return what is to be served: a name without a pod is one on every pod that has it."""
    from pi_cli.gateway.replicas import Wanted

    chosen = current.select(pods) if pods else current.pods
    if not chosen:
        current.select()  # says how to add one
    within = frozenset(chosen) if pods else None
    if every:
        return Wanted(chosen, is_all=True, within=within)
    having = {name for pod, name, model in current.models() if pod in chosen and model.kind == "model"}
    if not names:
        if len(having) != 1:
            what = "no model is named, and none runs" if not having else "no model is named, and several run"
            raise BadUsage(what, hint=resolve.TO_START if not having else "name some of them, or give `--all`")
        names = list(having)
    places = frozenset(place for typed in names for place in _places(current, typed, chosen, pods))
    everywhere = frozenset(typed for typed in names if typed in having)
    return Wanted({pod: chosen[pod] for pod, _ in sorted(places)}, places, names=everywhere, within=within)


def _places(current: "State", typed: str, chosen: "Mapping[str, Pod]", pods: list[str]) -> list[tuple[str, str]]:
    having = [pod for pod, name, _ in current.models() if name == typed and pod in chosen]
    if having:
        return [(pod, typed) for pod in having]
    found = [resolve.model(current, typed, pod) for pod in pods] if pods else [resolve.model(current, typed, None)]
    return [(each.pod_name, each.name) for each in found]


def _key(current: "State", wanted: "Wanted") -> "ApiKey":
    """Return the key of the gateway: that of most of its models; it can only serve those that accept the same one."""
    models = [(name, model) for pod, name, model in current.models() if wanted.has(pod, name)]
    if not models:
        return options.api_key()
    variables = [model.key_variable for _, model in models]
    most = max(dict.fromkeys(variables), key=variables.count)
    return options.api_key_of(*next((name, model) for name, model in models if model.key_variable == most))


def _balancer(*, yes: bool) -> str:
    """Return the Python that has the balancer, which is installed first if the user wants that."""
    from pi_cli.gateway import engine, install
    from pi_cli.view import terminal

    if python := install.find():
        return python
    require_consent("into `~/.pi/gateway`", yes=yes)
    terminal.note(f"installing {engine.PACKAGE} {engine.VERSION}; Ctrl+C removes what is there by then")
    return install.install()


def require_consent(where: str, *, yes: bool) -> None:
    """Raise `PiError` unless the user wants the balancer to be installed."""
    from pi_cli.gateway import engine, install
    from pi_cli.view import terminal

    what = f"{engine.PACKAGE} {engine.VERSION} ({engine.SIZE} MB)"
    if yes:
        return
    if not sys.stdin.isatty():
        raise PiError(
            f"{what} is not installed, and stdin is not a terminal, so pi cannot ask",
            hint="give `--yes` to install the balancer without being asked",
        )
    terminal.err().print(f"Install the balancer, {what}, {where}? [y/N]", end=" ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PiError(f"{what} was not installed", hint=f"install it yourself: {install.TO_INSTALL}")
