"""`pi run`: run a command with a port to a model and the variables that point clients to it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts, units
from pi_cli.commands import options, resolve, run_client, run_process
from pi_cli.commands.options import NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.events import Down, Up
    from pi_cli.store.keys import ApiKey

SEPARATOR = "--"


def run(
    name: NameOfModel = None,
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND…", help="Command to run.")] = None,
    pod: OnPod = None,
    through_gateway: Annotated[
        bool, typer.Option("--gateway", help="Use the running `pi gateway` instead of a port of the command's own.")
    ] = False,
    client: Annotated[
        str | None,
        typer.Option("--for", metavar="CLIENT", help="Show what a program gets, e.g. codex, and run nothing."),
    ] = None,
    keep_env: Annotated[
        list[str] | None,
        typer.Option("--keep-env", metavar="NAME", help="Variable that the command keeps, e.g. HF_TOKEN. Repeatable."),
    ] = None,
) -> None:
    """Run a command that uses a model.

    While the command runs, pi forwards a local port to the model. OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL
    point the command to it; ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN and ANTHROPIC_MODEL do so for Anthropic clients.
    The key in them is good at that port only, until the command ends: pi swaps it for your own. Variables with keys of
    other accounts (OPENAI_*, ANTHROPIC_*, HF_TOKEN, …) and PI_API_KEY are not passed on, unless `--keep-env` names one.

    Known programs (claude, codex, opencode, aider, gptme, llm, cn, qwen, goose, crush) also get what they need beyond
    these variables: arguments before their own, limits, a configuration that is deleted afterwards. `--for` shows it.

    With `--gateway`, the command uses a running `pi gateway`.

    Exits with the command's exit code, or 128 plus the number of the signal that ended it. Ctrl+C goes to the command.
    Options go before the name. With only one model, the name may be left out, but not the `--`.

    \b
    Examples:
      pi run -- python agent.py
      pi run qwen72b -- python agent.py
      pi run dc2/qwen -- sh -c 'echo "$OPENAI_BASE_URL"'
      pi run qwen72b -- bash
      pi run qwen72b -- claude
      pi run --for codex qwen72b
      pi run --gateway qwen72b -- python agent.py
    """

    name, argv, is_separate = _parted(name, command or [])
    current = state.load()
    if argv and not is_separate and argv[0].startswith("-"):
        if name is not None:
            _require_model(name, argv, pod)
        first = fill("give them before it: `pi run {options} {name}`", options=argv, name=name or "NAME")
        raise BadUsage(f"`{argv[0]}` is after the name: there, all words are the command", hint=first)
    if client is not None:
        run_client.show(resolve.model(current, name, pod), [client, *argv])
        return
    if not argv:
        words = ["pi", "run", *([name] if name else []), "--", "python", "agent.py"]
        hint = fill("for example: `{words}`", words=words)
        raise BadUsage("there is nothing to run", hint=hint)
    if through_gateway:
        from pi_cli.commands import gateway_client

        program = _program(argv)
        with gateway_client.prepared(name, pod, argv, keep_env or []) as (words, settings):
            code = interrupts.run(run_process.run(program, words, settings))
        raise typer.Exit(code)
    if not is_separate and name is not None:
        _require_model(name, argv, pod)
    program = _program(argv)
    target = resolve.model(current, name, pod)
    key = options.api_key_of(target.name, target.model)
    outages = _Outages()
    code = interrupts.run(_run_with_model(program, argv, target, key, keep_env or [], outages))
    outages.show(f"`{target.name}` on `{target.pod_name}`")
    raise typer.Exit(code)


def _require_model(name: str, argv: Sequence[str], pod: str | None) -> None:
    """Refuse a name that is not a model: `pi run python agent.py` may lack only the `--`."""
    otherwise = fill("to name no model, put `--` before the command: `pi run -- {argv}`", argv=[name, *argv])
    resolve.model(state.load(), name, pod, otherwise=otherwise if shutil.which(name) else "")


def _program(argv: Sequence[str]) -> str:
    from pi_cli.models import client_recipes

    if reason := client_recipes.refusal(argv[0]):
        raise BadUsage(
            f"`{argv[0]}` would not use the model: {reason}", hint="see which programs do: `pi help clients`"
        )
    if not (program := shutil.which(argv[0])):
        raise BadUsage(f"there is no command `{argv[0]}` here", hint="check its name, and your PATH")
    return program


def _parted(name: str | None, command: Sequence[str]) -> tuple[str | None, list[str], bool]:
    """Return the name, if there is one, the command, and whether a `--` is before it.

    >>> _parted("q", ["--", "ls"]), _parted("--", ["ls"]), _parted("q", ["ls"])
    (('q', ['ls'], True), (None, ['ls'], True), ('q', ['ls'], False))
    """
    if name == SEPARATOR:
        return None, list(command), True
    is_separate = command[:1] == [SEPARATOR]
    return name, list(command[1:] if is_separate else command), is_separate


async def _run_with_model(
    program: str, argv: list[str], target: ModelOnPod, key: "ApiKey", keep: Sequence[str], outages: "_Outages"
) -> int:
    from pi_cli.models import client_recipes, clients, context_length, forwards, run_key
    from pi_cli.models.client_recipes import Endpoint
    from pi_cli.models.door import require_accepted
    from pi_cli.view import waiting

    forward = forwards.Target(target.pod_name, target.name, [0], run_key.new(), key.value)
    async with forwards.opened(forward, target.pod, outages.count) as (url, model):
        require_accepted(key, model)
        waiting.stop()  # from now on, the terminal is the command's
        settings = clients.environment(url, target.name, forward.run_key, os.environ, [key.variable], keep)
        context = None
        if client_recipes.recipe_for(argv[0]):
            context = await context_length.of(url, target.name, forward.run_key)
        with client_recipes.prepared(argv, Endpoint(url, target.name, context)) as (words, more):
            return await run_process.run(program, words, settings | more)


@dataclass(slots=True)
class _Outages:
    """How often the model was unreachable: shown after the command has ended, which had the terminal until then."""

    times: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def count(self, event: "Up | Down") -> None:
        from pi_cli.events import Down, Up

        match event:
            case Down(reason=reason):
                self.times += 1
                self.reasons.append(reason)
            case Up(after=after):
                self.seconds += after or 0.0

    def show(self, model: str) -> None:
        from pi_cli.view import terminal

        if self.times:
            times = "once" if self.times == 1 else f"{self.times} times"
            terminal.note(f"{model} was unreachable {times}, for {units.age(self.seconds)}: {self.reasons[-1]}")
