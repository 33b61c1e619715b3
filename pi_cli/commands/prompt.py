"""`pi prompt`: talk to a running model."""

import select
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options, resolve
from pi_cli.commands.options import NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError, StateUnreadable
from pi_cli.hints import fill
from pi_cli.store import records, state
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from pi_cli.chat.access import Access, Ask
    from pi_cli.chat.agent import Conversation
    from pi_cli.chat.client import Client
    from pi_cli.chat.interactive import AskModel
    from pi_cli.chat.prompts import PromptSource
    from pi_cli.store.keys import ApiKey
    from pi_cli.store.state import State
    from pi_cli.view.chat import Screen

STDIN_WAIT = 1.0  # seconds without input on stdin until a note is shown
MAX_STDIN = 10_000_000  # bytes; more than any model's context
LOOKUP_SECONDS = 5.0  # for the tool-call parser of a model that was started without one


class Api(StrEnum):
    """The API to use: `/v1/chat/completions` or `/v1/responses`."""

    chat = "chat"
    responses = "responses"


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROMPT]…",
        help="Questions, asked one after the other. Without any: a chat on a terminal, else stdin is the prompt.",
    ),
]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Chat until Ctrl+D or `/bye`.")]
Continue = Annotated[bool, typer.Option("--continue", "-c", help="Continue the last conversation of this directory.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")]
Temperature = Annotated[
    float | None, typer.Option(metavar="NUMBER", min=0, max=2, help="Sampling temperature; 0 is deterministic.")
]
MaxTokens = Annotated[
    int | None, typer.Option(metavar="COUNT", min=1, help="Maximum tokens per turn, including reasoning.")
]
Tools = Annotated[bool, typer.Option(help="Let the model list, read and search files on this machine.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="PATH", help="Folder or file that the model may read, too. Repeatable."),
]
Save = Annotated[bool, typer.Option(help="Save the conversation for `--continue`.")]
AsEvents = Annotated[bool, typer.Option("--json", help="Print events as JSON on stdout, one per line.")]
ApiOption = Annotated[Api, typer.Option("--api", help="API to use: chat completions or responses.")]


def prompt(
    name: NameOfModel = None,
    text: Prompts = None,
    *,
    pod: OnPod = None,
    interactive: Interactive = False,
    continues: Continue = False,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    tools: Tools = True,
    allow: Allow = None,
    save: Save = True,
    api: ApiOption = Api.chat,
    as_json: AsEvents = False,
) -> None:
    """Ask a model; it can read files on this machine.

    The answer streams to stdout, reasoning and tool calls to stderr. Ctrl+C stops the answer. With only one model, the
    name may be left out before a prompt that cannot be a name, for example one with a space.

    The model can list, read and search files in the working directory (ls, read, glob, rg), but not change them. For
    another folder pi asks on a terminal, once in a conversation: `yes` allows the files in that folder (for a search
    also the folders below it), `always here` also all folders below it, both until pi ends. Without a terminal and
    with `--json` other folders are refused. `--allow` allows a folder with all that is below it, or a file, without
    a question. Files with credentials (keys, tokens, `.env`, pi's own folder) are closed everywhere, unless `--allow`
    names the file.

    The last conversation of each directory is saved in pi's own folder, for `--continue`. `pi chat NAME` is `pi prompt
    NAME -i`.

    \b
    Examples:
      pi prompt qwen72b "What is 2+2?"
      pi prompt dc2/qwen "Summarise the files here" "Which of them is the oldest?"
      pi prompt "Which files are here?"
      git diff | pi prompt qwen72b "Review this"
      pi prompt qwen72b -c "And shorter?"
      pi prompt qwen72b -i --system "Answer in one sentence."
      pi prompt qwen72b --allow /var/log "Why did nginx stop?"
      pi prompt gpt-oss --api responses --json "List the files here"
    """
    import asyncio

    current = state.load()
    found, words = _addressed(current, name, text or [], pod)
    key = options.api_key_of(found.name, found.model)
    interactive = interactive or (not (words or as_json) and _is_on_a_terminal() and sys.stdout.isatty())
    prompts = _prompts(words, from_stdin=not interactive)
    target = _Target(*found, key, spelled=current.spelled(found.pod_name, found.name))
    if not prompts and not interactive:
        hint = fill('for example: `pi prompt {name} "What is 2+2?"`, or `-i` for a chat', name=target.spelled)
        raise BadUsage("no prompt is given", hint=hint)
    cwd = _working_directory()

    from pi_cli.chat.access import Access
    from pi_cli.chat.turn import Sampling
    from pi_cli.view import chat as view

    access = Access(
        cwd,
        allowed=allow or [],
        ask=_asker_of_permission(as_json=as_json),
        ssh_commands=[pod.ssh for pod in current.pods.values()],
    )
    with view.showing(sys.stdout, sys.stderr, as_json=as_json) as screen:
        conversation = target.conversation(access, screen, api=api, use_tools=tools, continues=continues, system=system)
        conversation.sampling = Sampling(temperature, max_tokens)
        if interactive:
            ask = _asker(conversation, screen, save=save, quoted=len(prompts) if _is_on_a_terminal() else sys.maxsize)
            failures = asyncio.run(_chat(target, prompts, screen, ask, save=save))
            raise typer.Exit(1 if failures and not _is_on_a_terminal() else 0)
        ask = _asker(conversation, screen, save=save, quoted=len(prompts) if len(prompts) > 1 else 0)
        try:
            asyncio.run(_ask_all(target, prompts, ask))
        except PiError as error:
            screen.fail(error)
            raise


def _addressed(
    current: "State", name: str | None, text: Sequence[str], pod: str | None
) -> tuple[ModelOnPod, Sequence[str]]:
    """Return the model that is asked, and the prompts: all words if the first cannot be the name of a model."""
    if name is None or _is_prompt(current, name):
        return resolve.model(current, None, pod), [*([] if name is None else [name]), *text]
    otherwise = ""
    if len(listed := list(current.models())) == 1:
        [(on, only, _)] = listed
        ask = "to ask `{only}`: `pi prompt {only} {words}`"
        otherwise = fill(ask, only=current.spelled(on, only), words=[name, *text])
    return resolve.model(current, name, pod, otherwise=otherwise), text


def _is_prompt(current: "State", word: str) -> bool:
    """Return whether a text is a prompt: not blank, and neither NAME nor POD/NAME.

    A name on pi's list that breaks pi's rule for names is a name.
    """
    is_name = all(map(records.is_name, word.split("/", 1)))
    return bool(word.strip()) and not is_name and all(word != each for _, each, _ in current.models())


@dataclass(frozen=True, slots=True)
class _Target:
    """The model to ask, and how to connect to it."""

    pod_name: str
    pod: Pod
    name: str
    model: Model
    key: "ApiKey"
    spelled: str

    def conversation(
        self, access: "Access", screen: "Screen", *, api: Api, use_tools: bool, continues: bool, system: str | None
    ) -> "Conversation":
        from pi_cli.chat import completions, responses
        from pi_cli.chat.agent import Conversation
        from pi_cli.chat.client import ServedModel
        from pi_cli.chat.tools import toolbox
        from pi_cli.store import conversations

        cwd = access.cwd
        kept = conversations.load(cwd) if continues else None
        return Conversation(
            ServedModel(self.name, None if self.spelled == self.name else self.pod_name, self.model.key_variable),
            cwd,
            screen.draw,
            toolbox(cwd, access) if use_tools else {},
            responses.take_turn if api is Api.responses else completions.take_turn,
            messages=list(kept.messages) if kept else [],
            system=kept.system if kept and system is None else system,
            reach=access.description(),
            tool_parser=lambda: _tool_parser(self.model.model),
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Client"]:
        """Connect to the pod and give a client whose requests go through that connection."""
        import asyncio

        from pi_cli.chat import client
        from pi_cli.models.door import Door
        from pi_cli.ssh import login

        # importing openai takes as long as connecting over SSH
        importing = asyncio.create_task(asyncio.to_thread(client.warm_up))
        connecting = login.connect(self.pod_name, self.pod.ssh, connect_timeout=self.pod.connect_timeout)
        async with connecting as session:
            door = Door(session, self.name, key=self.key)
            door.expect(self.model)
            async with door.socket() as socket:
                await importing
                from pi_cli.models import plain_http  # not earlier: it imports what was just loaded in the thread

                async with client.open_client(plain_http.over(socket), api_key=self.key.value) as http:
                    yield http


async def _ask_all(target: _Target, prompts: Sequence[str], ask: "AskModel") -> None:
    async with target.connected() as client:
        for prompt in prompts:
            await ask(client, prompt)


async def _chat(target: _Target, prompts: Sequence[str], screen: "Screen", ask: "AskModel", *, save: bool) -> int:
    from pi_cli.chat import interactive
    from pi_cli.chat.prompts import KEY_HELP

    source = _prompt_source(screen, save=save)
    if source.is_typed:
        screen.note(f"chatting with `{target.name}` on `{target.pod_name}`: {KEY_HELP}")
    return await interactive.chat(
        source, first=prompts, connect=target.connected, ask=ask, report=screen.draw, show_error=screen.show_error
    )


def _prompt_source(screen: "Screen", *, save: bool) -> "PromptSource":
    from pi_cli.chat.prompts import PipedPrompts, TypedPrompts
    from pi_cli.store import conversations

    if not _is_on_a_terminal():
        return PipedPrompts(sys.stdin.fileno() if sys.stdin else -1)
    history = None
    if save:
        try:
            history = conversations.history_file()
        except StateUnreadable as error:
            screen.note(error.message)
    return TypedPrompts(screen.draw, history=history)


def _asker(conversation: "Conversation", screen: "Screen", *, save: bool, quoted: int) -> "AskModel":
    """Return a function that asks one prompt and saves the conversation; it shows the first `quoted` prompts.

    Those are the prompts that the user did not just type on this screen.
    """
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
                _save(conversation, screen)

    return ask


def _save(conversation: "Conversation", screen: "Screen") -> None:
    from pi_cli.store import conversations

    cwd, name = str(conversation.cwd), conversation.model.name
    try:
        conversations.save(conversations.SavedConversation(cwd, name, conversation.system, conversation.messages))
    except StateUnreadable as error:
        screen.note(f"this conversation was not saved: {error.message}")


def _is_on_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _asker_of_permission(*, as_json: bool) -> "Ask | None":
    """Return what asks the user about other folders; None if stdin or stderr is not a terminal, or for events."""
    from pi_cli.view import permission, questions

    return permission.ask if not as_json and _is_on_a_terminal() and questions.can_ask() else None


def _prompts(arguments: Sequence[str], *, from_stdin: bool) -> list[str]:
    """Return the prompts; text from a pipe is appended to the first."""
    given = [argument for argument in arguments if argument.strip()]
    if not from_stdin or sys.stdin is None or sys.stdin.isatty():
        return given
    if given and not select.select([sys.stdin], [], [], STDIN_WAIT)[0]:
        from pi_cli.view import terminal

        terminal.note("reading the rest of the prompt from stdin; to prompt without it, add `< /dev/null`")
    piped = sys.stdin.buffer.read(MAX_STDIN + 1)
    if len(piped) > MAX_STDIN:
        raise BadUsage(
            f"stdin has more than {MAX_STDIN // 1_000_000} MB, which is too long for any model",
            hint="name the file in the prompt: the model can read files here, and others with `--allow PATH`",
        )
    first = "\n\n".join(part for part in (*given[:1], piped.decode("utf-8", "replace").strip()) if part)
    return [first, *given[1:]] if first else []


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise BadUsage("the working directory no longer exists", hint="`cd` to one that exists") from error


async def _tool_parser(model: str) -> str | None:
    """Return the tool-call parser for a model; None if it is unknown or the lookup failed."""
    import asyncio

    from pi_cli.planning import lookup
    from pi_cli.planning.profile import KnownModel

    with suppress(PiError, TimeoutError):
        async with asyncio.timeout(LOOKUP_SECONDS):
            token, endpoint = await asyncio.to_thread(options.hub_settings)  # the Hub may have to refresh a token
            profile = await lookup.find(model, token=token, endpoint=endpoint)
            return profile.tool_call_parser if isinstance(profile, KnownModel) else None
    return None
