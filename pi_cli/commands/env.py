"""`pi env`: what other programs must know to use a model, as lines for a shell."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from pi_cli import hints
from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import forwards, state
from pi_cli.store.records import Model, Pod

POSIX = {"sh", "bash", "dash", "ash", "ksh", "zsh"}
SHELLS = dict.fromkeys(POSIX, "bash") | {"fish": "fish", "pwsh": "powershell", "powershell": "powershell"}


def env(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    pod: OnPod = None,
    shell: Annotated[
        str | None,
        typer.Option(metavar="SHELL", help="bash (sh and zsh too), fish or powershell; else that of $SHELL."),
    ] = None,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print the key itself, not the variable that holds it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print lines for your shell that point OpenAI's clients to a model.

    They set OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL. The URL is one that has answered from here: the public
    one, or that of a running `pi forward`. The key is not printed: OPENAI_API_KEY is set from the variable that has it.

    \b
    Examples:
      eval "$(pi env qwen72b)"
      pi env qwen72b | source                                      (fish)
      pi env qwen72b | Out-String | Invoke-Expression              (PowerShell)
      pi env qwen72b --json
    """
    import asyncio

    language = _language(shell)
    on, chosen, called, model = options.find_model(state.load(), name, pod)
    key = options.api_key(model)
    found = asyncio.run(_found(on, chosen, called, model, key))
    if as_json:
        _show_json(found, called, model, key if show_key else None)
    else:
        _show(found, called, model, key if show_key else None, language)


@dataclass(frozen=True, slots=True)
class _Found:
    """A URL at which a model has answered from here."""

    pod: str
    url: str
    is_public: bool


def _language(shell: str | None) -> str:
    wanted = shell or os.path.basename(os.environ.get("SHELL") or "sh")  # noqa: PTH119 - no path is meant
    if wanted not in SHELLS:
        what = f"`{shell}`" if shell else f"`{wanted}`, your $SHELL,"
        raise BadUsage(
            f"{what} is no shell that `pi env` can write for", hint="choose with `--shell bash`, `fish` or `powershell`"
        )
    return SHELLS[wanted]


async def _found(on: str, pod: Pod, name: str, model: Model, key: str) -> _Found:
    """Try the ways to a model, and return one that leads there."""
    from pi_cli.models import health, model_status

    public = model_status.endpoint(model_status.host_of(pod), model)
    ways = [_Found(on, public, is_public=True)] if public else []
    ways += [_Found(on, f"http://127.0.0.1:{each.port}/v1", is_public=False) for each in forwards.open_to(on, name)]
    seen = [await health.look(way.url, name=name, key=key) for way in ways]
    if "model" in seen:
        return ways[seen.index("model")]
    if "locked" in seen:
        raise options.wrong_key(name, model)
    raise PiError(
        f"`{name}` on `{on}` does not answer from here",
        hint=fill("open a port with `pi forward {pod}/{name}` in another terminal, then try again", pod=on, name=name),
    )


def _show_json(found: _Found, name: str, model: Model, key: str | None) -> None:
    from pi_cli.models import clients
    from pi_cli.view import terminal

    settings = clients.openai_settings(found.url, name) | ({"OPENAI_API_KEY": key} if key else {})
    via = "public" if found.is_public else "forward"
    terminal.show_json(
        options.as_json(found.pod, name, model) | {"via": via, "api_key_env": model.key_variable, "env": settings}
    )


def _show(found: _Found, name: str, model: Model, key: str | None, language: str) -> None:
    from pi_cli.models import clients
    from pi_cli.view import exports, terminal

    settings: dict[str, str | None] = {**clients.openai_settings(found.url, name), "OPENAI_API_KEY": key}
    settings |= clients.past_proxies(found.url, os.environ)
    for line in exports.lines(settings, language, key_variable=model.key_variable):
        terminal.say(line)
    if sys.stdout.isatty():
        this = hints.command("pi", "env", f"{found.pod}/{name}")
        terminal.note(fill("set them with `{command}`", command=exports.eval_command(this, language)))
    if found.is_public:
        unencrypted = (
            "that URL is plain HTTP: the key and the conversation can be read on the way; "
            "`pi forward {pod}/{name}` encrypts them"
        )
        terminal.note(fill(unencrypted, pod=found.pod, name=name))
