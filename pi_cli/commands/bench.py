"""`pi bench`: measure how fast a model answers one, and many at a time."""

from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import options, resolve
from pi_cli.commands.options import AsJson, NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.models.bench import Load, OnLevel
    from pi_cli.store.benchmarks import Benchmark, Level

MAX_LEVELS, MAX_STREAMS = 12, 4096
MAX_TOKENS = 1 << 21
EXAMPLE = "for example: `--streams 1,8,32`"


def bench(
    name: NameOfModel = None,
    pod: OnPod = None,
    *,
    streams: Annotated[
        str, typer.Option("--streams", metavar="N,N…", help="Numbers of requests at a time, one after the other.")
    ] = "1,8,32,128",
    input_tokens: Annotated[
        int, typer.Option("--input", metavar="TOKENS", help="Tokens of each request.", min=1, max=MAX_TOKENS)
    ] = 512,
    output_tokens: Annotated[
        int, typer.Option("--output", metavar="TOKENS", help="Tokens of each answer.", min=1, max=MAX_TOKENS)
    ] = 128,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a model answers one request, and many.

    Runs vLLM's own benchmark, `vllm bench serve`, on the pod against the running model: random text, and no
    network in the figures. It loads the model: while it runs, other clients wait longer. With a lease, it is work.

    Shows the tokens per second of all answers, the time to the first token (TTFT) and between two tokens (ITL) in
    milliseconds. The result is kept, and compared with the last one of the same model and size of requests.

    \b
    Examples:
      pi bench qwen
      pi bench dc2/glm --streams 1,16 --input 4096 --output 256
      pi bench qwen --json
    """
    from pi_cli.models import bench as work
    from pi_cli.store import benchmarks
    from pi_cli.view import bench as view
    from pi_cli.view import terminal

    load = work.Load(_numbers(streams), input_tokens, output_tokens)
    target = resolve.model(state.load(), name, pod)
    if target.model.kind == "gateway":
        hint = "measure one of its models: `pi list` shows them"
        raise PiError(f"`{target.name}` is a gateway, not a model", hint=hint)
    before = benchmarks.last(target.model.model, input_tokens, output_tokens)
    if not as_json:
        terminal.note(
            f"{load.prompts} requests load `{target.name}` on `{target.pod_name}`: its other clients wait longer; "
            "Ctrl+C ends it"
        )

    def show(level: "Level") -> None:
        if not as_json:
            view.show(level, before, is_first=level.streams == load.streams[0])

    new = interrupts.run(_measure(target, load, show))
    try:
        benchmarks.add(new)
    except PiError as error:
        terminal.note(f"the result is not kept: {error}")
    if as_json:
        terminal.show_json(options.as_json(target.pod_name, target.name, target.model) | view.as_json(new, before))
    else:
        view.show_end(new, before)


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of streams, in the order typed."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        raise BadUsage(f"`{text}` is not a list of whole numbers for `--streams`", hint=EXAMPLE)
    numbers = tuple(dict.fromkeys(map(int, words)))
    if len(numbers) > MAX_LEVELS or not all(1 <= number <= MAX_STREAMS for number in numbers):
        raise BadUsage(
            f"`--streams` takes at most {MAX_LEVELS} numbers from 1 to {MAX_STREAMS}",
            hint=EXAMPLE,
        )
    return numbers


async def _measure(target: ModelOnPod, load: "Load", on_level: "OnLevel") -> "Benchmark":
    from pi_cli.models import bench as work
    from pi_cli.ssh import login

    async with login.connect(target.pod_name, target.pod.ssh, connect_timeout=target.pod.connect_timeout) as session:
        return await work.run(session, target.name, target.model, target.pod, load, on_level)
