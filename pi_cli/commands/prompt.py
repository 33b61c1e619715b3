"""`pi prompt`: talk to a running model."""

import os
import select
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import OnPod
from pi_cli.errors import BadUsage, PiError, StateUnreadable
from pi_cli.store import state
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from pi_cli.chat.agent import Conversation
    from pi_cli.chat.client import Client
    from pi_cli.chat.lines import Lines
    from pi_cli.view.chat import Screen

PATIENCE = 1.0  # seconds until we say that we wait for stdin
LONGEST = 10_000_000  # bytes of stdin; more than any model's context
LOOK_UP_SECONDS = 5.0  # for the parser that a model should have been started with


class Api(StrEnum):
    """How the model is asked: over `/v1/chat/completions` or `/v1/responses`."""

    chat = "chat"
    responses = "responses"


Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROMPT]…", help="What to ask; several are asked one after the other. None: read stdin."),
]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Chat: go on asking until Ctrl+D.")]
Continue = Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last conversation of this directory.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="What the model is told before all else.")]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", min=0, max=2, help="How freely it chooses its words; 0: always the likeliest."),
]
MaxTokens = Annotated[
    int | None, typer.Option(metavar="COUNT", min=1, help="The most that it says in one turn, its thinking included.")
]
Tools = Annotated[bool, typer.Option(help="Let the model list, read and search files here.")]
Save = Annotated[bool, typer.Option(help="Keep the conversation for `--continue`.")]
AsEvents = Annotated[bool, typer.Option("--json", help="Print one event a line on stdout, as JSON.")]
Way = Annotated[Api, typer.Option("--api", help="How to ask it; gpt-oss knows both.")]


def prompt(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    text: Prompts = None,
    *,
    pod: OnPod = None,
    interactive: Interactive = False,
    go_on: Continue = False,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    tools: Tools = True,
    save: Save = True,
    api: Way = Api.chat,
    as_json: AsEvents = False,
) -> None:
    """Ask a model, and let it look at files here.

    Its answer streams to stdout, its thinking and its use of tools to stderr. Ctrl+C stops it.

    It may list, read and search files on this machine (ls, read, glob, rg), and only look. The last conversation of
    each directory is kept in pi's own folder, for `--continue`.

    \b
    Examples:
      pi prompt qwen72b "What is 2+2?"
      pi prompt dc2/qwen "Summarise the files here" "Which of them is the oldest?"
      git diff | pi prompt qwen72b "Review this"
      pi prompt qwen72b -c "And shorter?"
      pi prompt qwen72b -i --system "Answer in one sentence."
      pi prompt gpt-oss --api responses --json "List the files in /tmp"
    """
    import asyncio

    current = state.load()
    on, chosen, called, model = options.find_model(current, name, pod)
    key = options.api_key(model)
    prompts = _prompts(text or [], from_stdin=not interactive)
    if not prompts and not interactive:
        raise BadUsage("there is nothing to ask", hint=f'such as `pi prompt {name} "What is 2+2?"`, or `-i` for a chat')
    talk = _Talk(called, model, on, chosen, key, is_elsewhere=on != current.active)
    cwd = _working_directory()

    from pi_cli.chat.turn import Sampling
    from pi_cli.view import chat as view

    with view.shown(sys.stdout, sys.stderr, as_json=as_json) as screen:
        conversation = talk.begin(cwd, screen, api=api, use_tools=tools, go_on=go_on, system=system)
        conversation.sampling = Sampling(temperature, max_tokens)
        if interactive:
            ask = _asking(conversation, screen, save=save, quoted=len(prompts) if _somebody_types() else sys.maxsize)
            failures = asyncio.run(_chat(talk, prompts, screen, ask, save=save))
            raise typer.Exit(1 if failures and not _somebody_types() else 0)
        ask = _asking(conversation, screen, save=save, quoted=len(prompts) if len(prompts) > 1 else 0)
        try:
            asyncio.run(_ask_all(talk, prompts, ask))
        except PiError as error:
            screen.fail(error)
            raise


Ask = Callable[["Client", str], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Talk:
    """A model to talk to, and how it is reached."""

    name: str
    model: Model
    on: str
    pod: Pod
    key: str
    is_elsewhere: bool

    def begin(
        self, cwd: Path, screen: "Screen", *, api: Api, use_tools: bool, go_on: bool, system: str | None
    ) -> "Conversation":
        from pi_cli.chat import completions, responses
        from pi_cli.chat.agent import Conversation
        from pi_cli.chat.client import Served
        from pi_cli.chat.tools import toolbox
        from pi_cli.store import conversations

        kept = conversations.load(cwd) if go_on else None
        return Conversation(
            Served(self.name, self.on if self.is_elsewhere else None, self.model.key_variable),
            cwd,
            screen.draw,
            toolbox(cwd) if use_tools else {},
            responses.take_turn if api is Api.responses else completions.take_turn,
            messages=list(kept.messages) if kept else [],
            system=kept.system if kept and system is None else system,
            tool_parser=lambda: _tool_parser(self.model.model),
        )

    @asynccontextmanager
    async def reached(self) -> AsyncIterator["Client"]:
        """Connect to the pod, and give a client whose requests go through that connection."""
        import asyncio

        from pi_cli.chat import client
        from pi_cli.ssh import login

        # openai takes as long to import as SSH to connect
        warming = asyncio.create_task(asyncio.to_thread(client.warm_up))
        connected = login.connect(self.on, self.pod.ssh, connect_timeout=self.pod.connect_timeout)
        async with connected as session, session.forward(self.model.port) as socket:
            await warming
            from pi_cli.models import plain_http  # only now: it needs what was just loaded

            async with client.open_client(plain_http.over(socket), api_key=self.key) as opened:
                yield opened


async def _ask_all(talk: _Talk, prompts: Sequence[str], ask: Ask) -> None:
    async with talk.reached() as client:
        for each in prompts:
            await ask(client, each)


async def _chat(talk: _Talk, prompts: Sequence[str], screen: "Screen", ask: Ask, *, save: bool) -> int:
    from pi_cli.chat import interactive
    from pi_cli.chat.lines import KEYS

    lines = _lines(screen, save=save)
    if lines.is_typed:
        screen.note(f"talking to `{talk.name}` on `{talk.on}`: {KEYS}")
    return await interactive.chat(
        lines, first=prompts, reach=talk.reached, ask=ask, report=screen.draw, complain=screen.complain
    )


def _lines(screen: "Screen", *, save: bool) -> "Lines":
    from pi_cli.chat.lines import GivenLines, TypedLines
    from pi_cli.store import conversations

    if not _somebody_types():
        return GivenLines(sys.stdin.fileno() if sys.stdin else -1)
    history = None
    if save:
        try:
            history = conversations.history_file()
        except StateUnreadable as error:
            screen.note(error.message)
    return TypedLines(screen.draw, history=history)


def _asking(conversation: "Conversation", screen: "Screen", *, save: bool, quoted: int) -> Ask:
    """Return what asks one prompt and keeps what was said; the first ones, that nobody has just typed, are `quoted`."""
    asked = 0

    async def ask(client: "Client", prompt: str) -> None:
        nonlocal asked
        asked += 1
        if asked <= quoted:
            screen.quote(prompt)
        try:
            await conversation.ask(client, prompt)
        finally:
            screen.end_passage()
            if save and conversation.messages:
                _keep(conversation, screen)

    return ask


def _keep(conversation: "Conversation", screen: "Screen") -> None:
    from pi_cli.store import conversations

    cwd, name = str(conversation.cwd), conversation.model.name
    try:
        conversations.save(conversations.Kept(cwd, name, conversation.system, conversation.messages))
    except StateUnreadable as error:
        screen.note(f"this conversation is not kept: {error.message}")


def _somebody_types() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _prompts(words: Sequence[str], *, from_stdin: bool) -> list[str]:
    """Return the prompts given; what is piped in belongs to the first, behind it."""
    given = [word for word in words if word.strip()]
    if not from_stdin or sys.stdin is None or sys.stdin.isatty():
        return given
    if given and not select.select([sys.stdin], [], [], PATIENCE)[0]:
        from pi_cli.view import terminal

        terminal.note("waiting for the end of stdin, which belongs to the prompt; without one, add `< /dev/null`")
    piped = sys.stdin.buffer.read(LONGEST + 1)
    if len(piped) > LONGEST:
        raise BadUsage(
            f"stdin holds more than {LONGEST // 1_000_000} MB, which is too long for any model",
            hint="let the model look at it: name the file in the prompt",
        )
    first = "\n\n".join(part for part in (*given[:1], piped.decode("utf-8", "replace").strip()) if part)
    return [first, *given[1:]] if first else []


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise BadUsage("the working directory is gone", hint="`cd` into one that exists") from error


async def _tool_parser(model: str) -> str | None:
    """Return the tool-call parser of a model, as far as it is known."""
    import asyncio

    from pi_cli.planning import lookup
    from pi_cli.planning.profile import KnownModel

    token, endpoint = os.environ.get("HF_TOKEN") or None, os.environ.get("HF_ENDPOINT") or None
    with suppress(PiError, TimeoutError):
        async with asyncio.timeout(LOOK_UP_SECONDS):
            profile = await lookup.find(model, token=token, endpoint=endpoint)
            return profile.tool_call_parser if isinstance(profile, KnownModel) else None
    return None
