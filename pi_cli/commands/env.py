"""`pi env`: what OpenAI clients need to know to use a model, as shell commands."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from pi_cli import hints
from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, ModelOnPod, OnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import forwards, state

POSIX_SHELLS = {"sh", "bash", "dash", "ash", "ksh", "zsh"}
LANGUAGES = dict.fromkeys(POSIX_SHELLS, "bash") | {"fish": "fish", "pwsh": "powershell", "powershell": "powershell"}


def env(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    pod: OnPod = None,
    shell: Annotated[
        str | None,
        typer.Option(
            metavar="SHELL", help="bash (also for sh and zsh), fish or powershell; by default the shell in $SHELL."
        ),
    ] = None,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print the key itself instead of the variable that holds it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print shell commands that point OpenAI clients to a model.

    They set OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL. pi tries the URL before it prints it: the public one, or
    that of a running `pi forward`. The key is not printed: OPENAI_API_KEY is set from the variable that holds it.

    \b
    Examples:
      eval "$(pi env qwen72b)"
      pi env qwen72b | source                             (fish)
      pi env qwen72b | Out-String | Invoke-Expression     (PowerShell)
      pi env qwen72b --json
    """
    import asyncio

    language = _language(shell)
    target = options.find_model(state.load(), name, pod)
    key = options.api_key(target.model)
    endpoint = asyncio.run(_find_endpoint(target, key))
    if as_json:
        _show_json(endpoint, target, key if show_key else None)
    else:
        _show(endpoint, target, key if show_key else None, language)


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


async def _find_endpoint(target: ModelOnPod, key: str) -> _Endpoint:
    """Try the public URL and those of running `pi forward` commands; return the first at which the model answers."""
    from pi_cli.models import health, model_status

    public = model_status.endpoint(model_status.host_of(target.pod), target.model)
    endpoints = [_Endpoint(public, is_public=True)] if public else []
    open_ports = [opened.port for opened in forwards.open_to(target.pod_name, target.name)]
    endpoints += [_Endpoint(f"http://127.0.0.1:{port}/v1", is_public=False) for port in open_ports]
    answers = [await health.look(endpoint.url, name=target.name, key=key) for endpoint in endpoints]
    if "model" in answers:
        return endpoints[answers.index("model")]
    if "locked" in answers:
        raise options.wrong_key(target.name, target.model)
    open_port = "open a port with `pi forward {pod}/{name}` in another terminal, then try again"
    raise PiError(
        f"`{target.name}` on `{target.pod_name}` does not answer from here",
        hint=fill(open_port, pod=target.pod_name, name=target.name),
    )


def _show_json(endpoint: _Endpoint, target: ModelOnPod, key: str | None) -> None:
    from pi_cli.models import clients
    from pi_cli.view import terminal

    variables = clients.openai_settings(endpoint.url, target.name) | ({"OPENAI_API_KEY": key} if key else {})
    via = "public" if endpoint.is_public else "forward"
    terminal.show_json(
        options.as_json(target.pod_name, target.name, target.model)
        | {"via": via, "api_key_env": target.model.key_variable, "env": variables}
    )


def _show(endpoint: _Endpoint, target: ModelOnPod, key: str | None, language: str) -> None:
    from pi_cli.models import clients
    from pi_cli.view import exports, terminal

    variables: dict[str, str | None] = {**clients.openai_settings(endpoint.url, target.name), "OPENAI_API_KEY": key}
    variables |= clients.past_proxies(endpoint.url, os.environ)
    for line in exports.lines(variables, language, key_variable=target.model.key_variable):
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
