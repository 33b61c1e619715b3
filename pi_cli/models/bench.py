"""Measure a running model with vLLM's own benchmark, on its pod, with more and more requests at a time."""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pi_cli import units, waits
from pi_cli.errors import BadUsage, ModelStalled, NoAnswer, PiError
from pi_cli.hints import fill
from pi_cli.models import door, listing
from pi_cli.pods import agent
from pi_cli.pods.reports import BenchReply
from pi_cli.ssh.session import PodSession
from pi_cli.store import benchmarks
from pi_cli.store.benchmarks import Benchmark, Level
from pi_cli.store.records import Model, Pod

OnLevel = Callable[[Level], None]

FEWEST_PROMPTS = 8
PROMPTS_PER_STREAM = 4  # so that the first and the last requests, during which fewer run, do not count for too much
MISSING = re.compile(r"No module named '([A-Za-z0-9_.-]{1,80})'")


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask: the numbers of requests at a time, and the tokens of each request and of its answer."""

    streams: tuple[int, ...]
    input_tokens: int
    output_tokens: int

    @property
    def prompts(self) -> int:
        return sum(prompts(streams) for streams in self.streams)


def prompts(streams: int) -> int:
    """Return how many requests are sent with so many at a time.

    >>> prompts(1), prompts(32)
    (8, 128)
    """
    return max(FEWEST_PROMPTS, PROMPTS_PER_STREAM * streams)


async def run(session: PodSession, name: str, model: Model, pod: Pod, load: Load, on_level: OnLevel) -> Benchmark:
    """Measure a model with each number of streams, and pass each level to `on_level` when it is done.

    Raises `PiError` if the model cannot be measured, and `BadUsage` if the requests do not fit its context.
    """
    running = (await listing.alive(session)).get(name)
    if reason := door.why_not(running):
        raise door.out_of_reach(session.pod, name, reason)
    if running and running.status == "stalled":
        raise ModelStalled(name, hint=fill("see its log with `pi logs {name} --pod {pod}`", name=name, pod=session.pod))
    levels: list[Level] = []
    vllm, arguments = None, []
    for streams in load.streams:
        what = f"measuring {streams} {'stream' if streams == 1 else 'streams'}, {prompts(streams)} requests to"
        with waits.on(what, name):
            reply = await _measure(session, name, load, streams)
        level = _level(reply, session.pod, name, load)
        vllm, arguments = reply.vllm, reply.arguments
        levels.append(level)
        on_level(level)
    return Benchmark(
        model.model,
        name,
        session.pod,
        units.gpus(gpu for gpu in pod.gpus if gpu.id in model.gpus),
        vllm,
        tuple(arguments),
        load.input_tokens,
        load.output_tokens,
        benchmarks.now(),
        tuple(levels),
    )


async def _measure(session: PodSession, name: str, load: Load, streams: int) -> BenchReply:
    # Other prompts each time: what is in vLLM's prefix cache would be fast.
    return await agent.bench(
        session,
        {
            "name": name,
            "streams": streams,
            "prompts": prompts(streams),
            "input_tokens": load.input_tokens,
            "output_tokens": load.output_tokens,
            "seed": secrets.randbelow(1 << 31),
        },
    )


def _level(reply: BenchReply, pod: str, name: str, load: Load) -> Level:
    """Return what was measured, or raise the error that says why nothing was."""
    match reply.end:
        case "not-ready":
            raise door.out_of_reach(pod, name, "it does not answer")
        case "no-text":
            hint = fill("see what it serves with `pi check {name} --pod {pod}`", name=name, pod=pod)
            raise PiError(f"`{name}` does not generate text, which is what `pi bench` measures", hint=hint)
        case "too-long":
            size = f"{load.input_tokens} tokens of input and {load.output_tokens} of output"
            raise BadUsage(
                f"{size} do not fit the context of `{name}`, {reply.context} tokens",
                hint="choose fewer with `--input` and `--output`",
            )
    if reply.level is None or not reply.level.completed:
        raise _failure(reply, pod, name)
    return reply.level


def _failure(reply: BenchReply, pod: str, name: str) -> PiError:
    """Return the error for a benchmark that failed, with the last line of its output."""
    if missing := MISSING.search(reply.output):
        return PiError(
            f"`vllm bench serve` on `{pod}` needs the Python package `{missing[1]}`",
            hint=fill(
                "install it with `pi ssh {pod} 'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv {package}'`",
                pod=pod,
                package=missing[1],
            ),
        )
    logs = fill("see whether the model runs with `pi list --pod {pod}`, and its log with ", pod=pod)
    logs += fill("`pi logs {name} --pod {pod}`", name=name, pod=pod)
    if reply.level:
        return NoAnswer(f"`{name}` on `{pod}` has answered none of the requests", hint=logs)
    lines = [line for line in reply.output.splitlines() if line.strip()]
    said = " ".join(lines[-1].split()) if lines else "it printed nothing"
    return PiError(f"`vllm bench serve` failed on `{pod}`: {said}", hint=logs)


def change(new: Level, before: Benchmark | None) -> float | None:
    """Return by how much more tokens are generated than before with as many streams, as a share; None if unknown."""
    old = before.level(new.streams) if before else None
    return new.output_rate / old.output_rate - 1 if old and old.output_rate else None


def differences(new: Benchmark, before: Benchmark) -> list[str]:
    """Return in which way the model ran differently before: vLLM, GPUs, and arguments that only one of both had."""
    found = []
    if new.vllm != before.vllm:
        found.append(f"vLLM {before.vllm or 'of an unknown version'} instead of {new.vllm or 'an unknown version'}")
    if new.gpus != before.gpus:
        found.append(f"on {before.gpus} instead of {new.gpus}")
    lacking, extra = _without(new.arguments, before.arguments), _without(before.arguments, new.arguments)
    found += [f"without {' '.join(lacking)}"] if lacking else []
    found += [f"with {' '.join(extra)}"] if extra else []
    return found


def _without(arguments: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the options, each with its values, that are not among the other arguments in the same way.

    >>> _without(["--a", "1", "--b"], ["--a", "2", "--b"])
    ['--a 1']
    """
    known = _options(others)
    return [option for option in _options(arguments) if option not in known]


def _options(arguments: Sequence[str]) -> list[str]:
    options: list[str] = []
    for word in arguments:
        if word.startswith("--") or not options:
            options.append(word)
        else:
            options[-1] += f" {word}"
    return options
