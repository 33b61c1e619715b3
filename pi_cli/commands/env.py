"""`pi env`: what OpenAI clients need to know to use a model, as shell commands."""

import os
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import hints, interrupts
from pi_cli.commands import options, resolve
from pi_cli.commands.names import complete_language
from pi_cli.commands.options import AsJson, NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import forwards, paths, state

if TYPE_CHECKING:
    from pi_cli.models.client_recipes import Setup
    from pi_cli.models.public_ports import PublicPorts
    from pi_cli.pods.reports import RunningModel
    from pi_cli.store.keys import ApiKey
    from pi_cli.store.records import Model

POSIX_SHELLS = {"sh", "bash", "dash", "ash", "ksh", "zsh"}
LANGUAGES = dict.fromkeys(POSIX_SHELLS, "bash") | {"fish": "fish", "pwsh": "powershell", "powershell": "powershell"}


def env(
    name: NameOfModel = None,
    pod: OnPod = None,
    shell: Annotated[
        str | None,
        typer.Option(
            metavar="SHELL",
            help="bash (also for sh and zsh), fish or powershell; by default the shell in $SHELL.",
            autocompletion=complete_language,
        ),
    ] = None,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the key itself instead of where it is.")] = False,
    through_gateway: Annotated[
        bool, typer.Option("--gateway", help="Point to the running `pi gateway` instead of one model's own port.")
    ] = False,
    client: Annotated[
        str | None,
        typer.Option("--for", metavar="CLIENT", help="Also set what a known program needs, e.g. codex; see `pi run`."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print shell commands that point OpenAI clients to a model.

    They set what `pi run` sets: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL, and the same for Anthropic's clients.
    The URL is that of a running `pi forward`, or else the public one. pi prints it only if it leads to the model that
    runs on the pod, and sends no key to find out.

    With `pi forward`, the key is one that is good at that port only, until `pi forward` ends. Otherwise it is your own,
    which is not printed: it is set from the variable that holds it, or by `pi key show`.

    With `--for`, they also set what `pi run` gives to a known program (claude, codex, opencode, aider, …). Arguments
    become a function of the shell with the name of the program, and its files are in pi's own folder.

    With `--gateway`, they point to a running `pi gateway`, and PI_CONTEXT_LENGTH is the model's context in tokens,
    which the gateway itself does not tell its clients.

    \b
    Examples:
      eval "$(pi env qwen72b)"
      eval "$(pi env qwen72b --for codex)"
      pi env qwen72b | source                             (fish)
      pi env qwen72b | Out-String | Invoke-Expression     (PowerShell)
      pi env qwen72b --json
      eval "$(pi env --gateway qwen72b)"
    """

    language = _language(shell)
    if client and through_gateway:
        raise BadUsage("`--for` is for one model's port, and not for a gateway", hint="leave one of them out")
    if client and (reason := _refusal(client)):
        raise BadUsage(f"`{client}` would not use the model: {reason}", hint="see which programs do: `pi help clients`")
    if through_gateway:
        from pi_cli.commands import gateway_client

        gateway_client.show_settings(name, pod, language, show_key=show_key, as_json=as_json)
        return
    target = resolve.model(state.load(), name, pod)
    key = options.api_key_of(target.name, target.model)
    endpoint, running = interrupts.run(_find_endpoint(target, key))
    setup = interrupts.run(_setup_for(client, endpoint, target, key)) if client else None
    if as_json:
        _show_json(endpoint, target, running.entry, key, setup, show_key=show_key)
    else:
        _show(endpoint, target, key, language, setup, client, show_key=show_key)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A URL at which the model has answered from this machine; `run_key` is a key that is good at that URL only."""

    url: str
    is_public: bool
    run_key: str = field(default="", repr=False)


def _language(shell: str | None) -> str:
    name = shell or os.path.basename(os.environ.get("SHELL") or "sh")  # noqa: PTH119 - $SHELL may hold a bare name
    if name not in LANGUAGES:
        shell_name = f"`{shell}`" if shell else f"`{name}` (your $SHELL)"
        raise BadUsage(f"`pi env` does not support {shell_name}", hint="choose `--shell bash`, `fish` or `powershell`")
    return LANGUAGES[name]


async def _find_endpoint(target: ModelOnPod, key: "ApiKey") -> tuple[_Endpoint, "RunningModel"]:
    """Return the URL of a running `pi forward` or the public one: the first that leads to the model, and the model.

    The pod is asked over SSH: its address may be another machine's by now. The challenge to the public port is under
    way meanwhile, and judged by what the pod says: a client is going to send the key there, so an earlier verdict does
    not count.
    """
    from pi_cli.models.public_ports import PublicPorts

    ports = PublicPorts()
    try:
        async with ports.asking({target.pod_name: replace(target.pod, models={target.name: target.model})}):
            return await _proven_endpoint(target, key, ports)
    finally:
        ports.remember()


async def _proven_endpoint(target: ModelOnPod, key: "ApiKey", ports: "PublicPorts") -> tuple[_Endpoint, "RunningModel"]:
    from pi_cli.hold import connecting
    from pi_cli.models import identity, listing, model_status, public_ports
    from pi_cli.models.door import out_of_reach, require_accepted, why_not
    from pi_cli.models.forwards import proof_of
    from pi_cli.models.identity import Identity

    async with connecting.connect(
        target.pod_name, target.pod.ssh, connect_timeout=target.pod.connect_timeout
    ) as session:
        running, host = (await listing.alive(session)).get(target.name), session.host
    if reason := why_not(running):
        raise out_of_reach(target.pod_name, target.name, reason)
    assert running
    require_accepted(key, running)
    for forward in forwards.open_to(target.pod_name, target.name):
        local = _Endpoint(f"http://127.0.0.1:{forward.port}/v1", is_public=False, run_key=forward.run_key)
        # A port that pi forwards leads to the model or nowhere: each connection is proven there.
        if await identity.prove_at(local.url, proof_of(forward), route=identity.FORWARD_ROUTE):
            return local, running
    public = model_status.endpoint(host, running.entry)
    place = public_ports.place_of(target.pod_name, host, running.entry)
    if public and await ports.answers_now(place, Identity(running.port, running.proof_keys)):
        return _Endpoint(public, is_public=True), running
    open_port = "open a port with `pi forward {pod}/{name}` in another terminal, then try again"
    raise PiError(
        f"`{target.name}` on `{target.pod_name}` does not answer from here",
        hint=fill(open_port, pod=target.pod_name, name=target.name),
    )


def _refusal(client: str) -> str | None:
    from pi_cli.models import client_recipes

    return client_recipes.refusal(client)


async def _setup_for(client: str, endpoint: _Endpoint, target: ModelOnPod, key: "ApiKey") -> "Setup":
    """Return what a known program needs; its files stay in pi's own folder, since nothing tells when it ends."""
    from pi_cli.models import client_recipes, context_length
    from pi_cli.models.client_recipes import Endpoint

    context = await context_length.of(endpoint.url, target.name, endpoint.run_key) if endpoint.run_key else None
    del key  # of a public URL: it is not sent to find this out
    folder = paths.config_dir().absolute() / "clients" / f"{target.pod_name}-{target.name}" / os.path.basename(client)  # noqa: PTH119
    return client_recipes.kept(client, Endpoint(endpoint.url, target.name, context), folder)


def _show_json(
    endpoint: _Endpoint,
    target: ModelOnPod,
    model: "Model",
    key: "ApiKey",
    setup: "Setup | None",
    *,
    show_key: bool,
) -> None:
    from pi_cli.models import clients
    from pi_cli.view import terminal

    known_key = endpoint.run_key or (key.value if show_key else None)
    settings = clients.settings(endpoint.url, target.name, known_key)
    variables = {each: value for each, value in settings.items() if value is not None}
    more = {"arguments": list(setup.arguments)} if setup else {}
    variables |= setup.variables if setup else {}
    place = {"api_key_env": None if key.file else key.variable, "api_key_file": key.file}
    via = "public" if endpoint.is_public else "forward"
    about = options.as_json(target.pod_name, target.name, model) | {"via": via, "env": variables}
    terminal.show_json(about | more | place)


def _show(
    endpoint: _Endpoint,
    target: ModelOnPod,
    key: "ApiKey",
    language: str,
    setup: "Setup | None",
    client: str | None,
    *,
    show_key: bool,
) -> None:
    from pi_cli.models import clients
    from pi_cli.view import exports, terminal

    known_key = endpoint.run_key or (key.value if show_key else None)
    variables = clients.settings(endpoint.url, target.name, known_key) | clients.past_proxies(endpoint.url, os.environ)
    folder = str(paths.config_dir().absolute()) if os.environ.get("PI_CONFIG_DIR") else None
    reference = exports.kept_key(folder, language) if key.file else exports.variable(key.variable, language)
    variables |= setup.variables if setup else {}
    for line in exports.lines(variables, language, key=reference):
        terminal.say(line)
    for name in (each for each in clients.CONFLICTING if os.environ.get(each)):
        terminal.say(exports.removal(name, language))
    if setup and client and setup.arguments:
        terminal.say(exports.function(os.path.basename(client), setup.arguments, language))  # noqa: PTH119
    if sys.stdout.isatty():
        this_command = hints.command("pi", "env", f"{target.pod_name}/{target.name}")
        terminal.note(fill("set them with `{command}`", command=exports.eval_command(this_command, language)))
    if endpoint.is_public:
        unencrypted = (
            "that URL is plain HTTP: others on the network can read the key and the conversation; "
            "`pi forward {pod}/{name}` encrypts them"
        )
        terminal.note(fill(unencrypted, pod=target.pod_name, name=target.name))
