"""`pi prompt`: talk to a running model."""

import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from pi_cli import interrupts
from pi_cli.commands import options, prompt_batch, prompt_options, resolve
from pi_cli.commands.options import NameOfModel, OnPod
from pi_cli.commands.prompt_options import Api
from pi_cli.commands.prompt_target import Target
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError, StateUnreadable
from pi_cli.hints import fill
from pi_cli.store import records, state

if TYPE_CHECKING:
    from pi_cli.chat.access import Ask
    from pi_cli.chat.agent import Conversation
    from pi_cli.chat.client import Client
    from pi_cli.chat.images import Image
    from pi_cli.chat.interactive import AskModel
    from pi_cli.chat.prompts import PromptSource
    from pi_cli.store.state import State
    from pi_cli.view.chat import Screen

STDIN_WAIT = 1.0  # seconds without input on stdin until a note is shown
OTHER_FILE = "give another file to `--out`"
MAX_STDIN = 10_000_000  # bytes; more than any model's context


def prompt(
    name: NameOfModel = None,
    text: prompt_options.Prompts = None,
    *,
    pod: OnPod = None,
    interactive: prompt_options.Interactive = False,
    continues: prompt_options.Continue = False,
    system: prompt_options.System = None,
    temperature: prompt_options.Temperature = None,
    max_tokens: prompt_options.MaxTokens = None,
    reasoning: prompt_options.Reasoning = None,
    json_schema: prompt_options.Schema = None,
    image: prompt_options.Images = None,
    tools: prompt_options.Tools = True,
    tool_choice: prompt_options.ToolChoice = None,
    allow: prompt_options.Allow = None,
    save: prompt_options.Save = True,
    api: prompt_options.ApiOption = Api.chat,
    out: prompt_options.Out = None,
    batch: prompt_options.BatchFile = None,
    parallel: prompt_options.Parallel = prompt_batch.PARALLEL,
    as_json: prompt_options.AsEvents = False,
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

    A batch is a file with a question on each line, as JSON: a text, or an object with `prompt` or `messages`. Its
    answers are lines of JSON in the same order; there are no tools, and nothing is saved for `--continue`.

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
      pi prompt qwen-vl --image plot.png "What does this show?"
      pi prompt qwen72b --json-schema schema.json "Who wrote Faust, and when?"
      pi prompt qwen72b --batch questions.jsonl -j 32 --out answers.jsonl
    """

    from pi_cli.chat.turn import Sampling

    current = state.load()
    found, words = _addressed(current, name, text or [], pod)
    use_tools = tools and json_schema is None
    sampling = Sampling(temperature, max_tokens, reasoning, _schema(json_schema), _tool_choice(tool_choice, use_tools))
    key = options.api_key_of(found.name, found.model)
    if batch is not None:
        others = {"PROMPT": words, "-i": interactive, "-c": continues, "--image": image, "--tool-choice": tool_choice}
        others |= {"--allow": allow, "--api": api is not Api.chat, "--json": as_json}
        target = Target(*found, key, spelled=current.spelled(found.pod_name, found.name))
        prompt_batch.ask(target, batch, out, sampling, system=system, parallel=parallel, others=others)
        return
    interactive = interactive or (not (words or as_json) and _is_on_a_terminal() and sys.stdout.isatty())
    prompts = _prompts(words, from_stdin=not interactive)
    target = Target(*found, key, spelled=current.spelled(found.pod_name, found.name))
    if not prompts and not interactive:
        hint = fill('for example: `pi prompt {name} "What is 2+2?"`, or `-i` for a chat', name=target.spelled)
        raise BadUsage("no prompt is given", hint=hint)
    cwd = _working_directory()

    from pi_cli.chat import images
    from pi_cli.chat.access import Access
    from pi_cli.view import chat as view

    access = Access(
        cwd,
        allowed=allow or [],
        ask=_asker_of_permission(as_json=as_json),
        ssh_commands=[pod.ssh for pod in current.pods.values()],
    )
    seen = [images.read(path) for path in image or ()]
    with _output(out) as stream, view.showing(stream, sys.stderr, as_json=as_json) as screen:
        conversation = target.conversation(
            access, screen, api=api, use_tools=use_tools, continues=continues, system=system
        )
        conversation.sampling = sampling
        if interactive:
            quoted = len(prompts) if _is_on_a_terminal() else sys.maxsize
            ask = _asker(conversation, screen, seen, save=save, quoted=quoted)
            failures = interrupts.run(_chat(target, prompts, screen, ask, save=save))
            raise typer.Exit(1 if failures and not _is_on_a_terminal() else 0)
        ask = _asker(conversation, screen, seen, save=save, quoted=len(prompts) if len(prompts) > 1 else 0)
        try:
            interrupts.run(_ask_all(target, prompts, ask))
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


async def _ask_all(target: Target, prompts: Sequence[str], ask: "AskModel") -> None:
    async with target.connected() as client:
        for prompt in prompts:
            await ask(client, prompt)


async def _chat(target: Target, prompts: Sequence[str], screen: "Screen", ask: "AskModel", *, save: bool) -> int:
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


def _asker(
    conversation: "Conversation", screen: "Screen", images: "Sequence[Image]", *, save: bool, quoted: int
) -> "AskModel":
    """Return a function that asks one prompt and saves the conversation; it shows the first `quoted` prompts.

    Those are the prompts that the user did not just type on this screen. The first is asked with the images.
    """
    asked = 0

    async def ask(client: "Client", prompt: str) -> None:
        nonlocal asked
        asked += 1
        if asked <= quoted:
            screen.quote(prompt)
        try:
            await conversation.ask(client, prompt, images if asked == 1 else ())
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


def _schema(given: str | None) -> dict[str, Any] | None:
    from pi_cli.chat import requirements

    return None if given is None else requirements.read_schema(given)


def _tool_choice(choice: str | None, tools: bool) -> str | None:
    from pi_cli.chat.requirements import TOOL_CHOICES
    from pi_cli.chat.tools import DESCRIPTIONS

    if choice is None or choice in (known := [*sorted(TOOL_CHOICES), *DESCRIPTIONS]):
        if choice not in (None, "none", "auto") and not tools:
            why = "with `--no-tools` or `--json-schema`, the model has no tool to choose"
            raise BadUsage(why, hint="leave that out, or `--tool-choice`")
        return choice
    raise BadUsage(f"there is no tool `{choice}`", hint=f"choose one of {', '.join(known)}")


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """Give the stream for answers: stdout, or a file that gets its name when it is complete."""
    if path is None:
        yield sys.stdout
        return
    from pi_cli.view import terminal

    partial = Path(f"{path}.partial")
    try:
        file = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise PiError(f"cannot write `{partial}`: {error.strerror or error}", hint=OTHER_FILE) from error
    is_whole = False
    try:
        with file:
            yield file
        is_whole = True
    finally:
        if not is_whole:
            terminal.note(f"the answer is not complete: what arrived is in `{partial}`")
    try:
        partial.replace(path)
    except OSError as error:
        raise PiError(f"cannot write `{path}`: {error.strerror or error}", hint=OTHER_FILE) from error


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise BadUsage("the working directory no longer exists", hint="`cd` to one that exists") from error
