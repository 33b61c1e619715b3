"""`pi prompt`: talk to a running model."""

import asyncio
import select
import sys
from pathlib import Path
from typing import Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import OnPod, complete_model
from pi_cli.errors import BadUsage
from pi_cli.store import state
from pi_cli.store.records import Model, Pod

PATIENCE = 1.0  # seconds until we say that we wait for stdin


def prompt(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    text: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]", help="What to ask; none: read stdin.")] = None,
    pod: OnPod = None,
    tools: Annotated[bool, typer.Option(help="Let the model list, read and search files here.")] = True,
) -> None:
    """Ask a model, and let it look at files here.

    Its answer streams to stdout, its thinking and its use of tools to stderr.

    It may list, read and search files on this machine (ls, read, glob, rg), and only look. Ctrl+C stops the answer.

    \b
    Examples:
      pi prompt qwen72b "What is 2+2?"
      pi prompt dc2/qwen "Summarise the files here"
      git diff | pi prompt qwen72b "Review this"
    """
    key = options.api_key()
    question = _question(text or [])
    on, chosen, called, model = _find(state.load(), name, pod)
    from pi_cli.pods import login

    async def ask() -> None:
        from pi_cli.chat import agent, client
        from pi_cli.view import chat as view

        warming = asyncio.create_task(
            asyncio.to_thread(client.warm_up)
        )  # openai takes as long to import as SSH to connect
        connected = login.connect(on, chosen.ssh, connect_timeout=chosen.connect_timeout)
        async with connected as session, session.forward(model.port) as socket:
            await warming
            transport = client.transport_over(socket)
            with view.transcript(sys.stdout, sys.stderr) as report:
                async with client.open_client(transport, api_key=key) as opened:
                    await agent.answer(
                        question, client=opened, model=called, cwd=Path.cwd(), report=report, use_tools=tools
                    )

    asyncio.run(ask())


def _question(words: list[str]) -> str:
    """Return the prompt: the words given, and what is piped in behind them."""
    from pi_cli.view import terminal

    parts = [" ".join(words)] if words else []
    if not sys.stdin.isatty():
        if words and not select.select([sys.stdin], [], [], PATIENCE)[0]:
            terminal.note("waiting for the end of stdin, which belongs to the prompt; without one, add `< /dev/null`")
        parts.append(sys.stdin.read().strip())
    question = "\n\n".join(part for part in parts if part)
    if not question:
        raise BadUsage("there is nothing to ask", hint='such as `pi prompt NAME "What is 2+2?"`')
    return question


def _find(current: state.State, name: str, pod: str | None) -> tuple[str, Pod, str, Model]:
    """Find a model by NAME or POD/NAME: on the pod given, the active one, or the only one that has it."""
    if "/" in name:
        prefix, _, name = name.partition("/")
        if pod not in (None, prefix):
            raise BadUsage(f"`{prefix}/{name}` is not on `{pod}`", hint="give the pod once")
        pod = prefix
    if pod:
        current.pod(pod)
    found = [(on, model) for on, each, model in current.models() if each == name and pod in (None, on)]
    best = [(on, model) for on, model in found if on == current.active] or found
    if not best:
        raise BadUsage(
            f"there is no model `{name}`{f' on `{pod}`' if pod else ''}", hint="see them with `pi list --all`"
        )
    if len(best) > 1:
        places = ", ".join(f"`{on}/{name}`" for on, _ in best)
        raise BadUsage(f"`{name}` runs on several pods", hint=f"say which: {places}")
    [(on, model)] = best
    return on, current.pod(on), name, model
