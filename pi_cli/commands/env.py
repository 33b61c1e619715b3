"""`pi env`: what OpenAI clients need to know to use a model, as shell commands."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import hints
from pi_cli.commands import options, resolve
from pi_cli.commands.names import complete_language
from pi_cli.commands.options import AsJson, NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import forwards, paths, state

if TYPE_CHECKING:
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
    as_json: AsJson = False,
) -> None:
    """Print shell commands that point OpenAI clients to a model.

    They set OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL. The URL is the public one, or that of a running
    `pi forward`. pi prints it only if it leads to the model that runs on the pod, and sends no key to find out. The key
    is not printed either: OPENAI_API_KEY is set from the variable that holds it, or by `pi key show`.

    \b
    Examples:
      eval "$(pi env qwen72b)"
      pi env qwen72b | source                             (fish)
      pi env qwen72b | Out-String | Invoke-Expression     (PowerShell)
      pi env qwen72b --json
    """
    import asyncio

    language = _language(shell)
    target = resolve.model(state.load(), name, pod)
    key = options.api_key_of(target.name, target.model)
    endpoint, running = asyncio.run(_find_endpoint(target, key))
    if as_json:
        _show_json(endpoint, target, running.entry, key, show_key=show_key)
    else:
        _show(endpoint, target, key, language, show_key=show_key)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A URL at which the model has answered from this machine."""

    url: str
    is_public: bool


def _language(shell: str | None) -> str:
    name = shell or os.path.basename(os.environ.get("SHELL") or "sh")  # noqa: PTH119 - $SHELL may hold a bare name
    if name not in LANGUAGES:
        shell_name = f"`{shell}`" if shell else f"`{name}` (your $SHELL)"
        raise BadUsage(f"`pi env` does not support {shell_name}", hint="choose `--shell bash`, `fish` or `powershell`")
    return LANGUAGES[name]


async def _find_endpoint(target: ModelOnPod, key: "ApiKey") -> tuple[_Endpoint, "RunningModel"]:
    """Return the public URL or that of a running `pi forward`: the first that leads to the model, and the model.

    The pod is asked first, over SSH: its address may be another machine's by now.
    """
    from pi_cli.models import identity, listing, model_status
    from pi_cli.models.door import out_of_reach, require_accepted, why_not
    from pi_cli.models.forwards import proof_of
    from pi_cli.ssh import login

    async with login.connect(target.pod_name, target.pod.ssh, connect_timeout=target.pod.connect_timeout) as session:
        running, host = (await listing.alive(session)).get(target.name), session.host
    if reason := why_not(running):
        raise out_of_reach(target.pod_name, target.name, reason)
    assert running
    require_accepted(key, running)
    public = model_status.endpoint(host, running.entry)
    if public and await identity.leads_to(public, running, timeout=identity.PROOF_TIMEOUT):
        return _Endpoint(public, is_public=True), running
    for forward in forwards.open_to(target.pod_name, target.name):
        local = _Endpoint(f"http://127.0.0.1:{forward.port}/v1", is_public=False)
        # A port that pi forwards leads to the model or nowhere: each connection is proven there.
        if await identity.prove_at(local.url, proof_of(forward), route=identity.FORWARD_ROUTE):
            return local, running
    open_port = "open a port with `pi forward {pod}/{name}` in another terminal, then try again"
    raise PiError(
        f"`{target.name}` on `{target.pod_name}` does not answer from here",
        hint=fill(open_port, pod=target.pod_name, name=target.name),
    )


def _show_json(endpoint: _Endpoint, target: ModelOnPod, model: "Model", key: "ApiKey", *, show_key: bool) -> None:
    from pi_cli.models import clients
    from pi_cli.view import terminal

    variables = clients.openai_settings(endpoint.url, target.name)
    variables |= {"OPENAI_API_KEY": key.value} if show_key else {}
    place = {"api_key_env": None if key.file else key.variable, "api_key_file": key.file}
    via = "public" if endpoint.is_public else "forward"
    terminal.show_json(options.as_json(target.pod_name, target.name, model) | {"via": via, "env": variables} | place)


def _show(endpoint: _Endpoint, target: ModelOnPod, key: "ApiKey", language: str, *, show_key: bool) -> None:
    from pi_cli.models import clients
    from pi_cli.view import exports, terminal

    variables: dict[str, str | None] = {**clients.openai_settings(endpoint.url, target.name)}
    variables |= {"OPENAI_API_KEY": key.value if show_key else None} | clients.past_proxies(endpoint.url, os.environ)
    folder = str(paths.config_dir().absolute()) if os.environ.get("PI_CONFIG_DIR") else None
    reference = exports.kept_key(folder, language) if key.file else exports.variable(key.variable, language)
    for line in exports.lines(variables, language, key=reference):
        terminal.say(line)
    if sys.stdout.isatty():
        this_command = hints.command("pi", "env", f"{target.pod_name}/{target.name}")
        terminal.note(fill("set them with `{command}`", command=exports.eval_command(this_command, language)))
    if endpoint.is_public:
        unencrypted = (
            "that URL is plain HTTP: others on the network can read the key and the conversation; "
            "`pi forward {pod}/{name}` encrypts them"
        )
        terminal.note(fill(unencrypted, pod=target.pod_name, name=target.name))
