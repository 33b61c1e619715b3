"""Parse and change the arguments of `vllm serve`: `--name value`, `--name=value`, and the short forms."""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi_cli.errors import BadUsage

# Options that pi sets itself, and why.
SET_BY_PI = {
    "--port": "pi chooses a free port on the pod",
    "--host": "pi chooses the address on which vLLM listens",
    "--api-key": "the key comes from PI_API_KEY and never appears on a command line",
    "--served-model-name": "the name is the one given with `--name`",
    "--uds": "pi reaches vLLM by its port",
}

# The names of options, the one that pi uses first.
TENSOR_PARALLEL = ("--tensor-parallel-size", "-tp")
PIPELINE_PARALLEL = ("--pipeline-parallel-size", "-pp")
DATA_PARALLEL = ("--data-parallel-size", "-dp")
EXPERT_PARALLEL = ("--enable-expert-parallel", "-ep")
MEMORY_SHARE = ("--gpu-memory-utilization", "--device-memory-utilization")
CONTEXT_LENGTH = ("--max-model-len",)
KV_CACHE_TYPE = ("--kv-cache-dtype",)
REVISION = ("--revision",)
BATCHED_TOKENS = ("--max-num-batched-tokens",)
SEQUENCES = ("--max-num-seqs",)
EAGER = ("--enforce-eager",)
TEXT_ONLY = ("--language-model-only",)
KERNELS = ("--moe-backend", "--attention-backend", "--linear-backend", "--mamba-backend")  # chosen for a kind of GPU
ABOUT_HARDWARE = (
    *(TENSOR_PARALLEL, PIPELINE_PARALLEL, DATA_PARALLEL, EXPERT_PARALLEL),
    *(MEMORY_SHARE, CONTEXT_LENGTH, KV_CACHE_TYPE, BATCHED_TOKENS, SEQUENCES, KERNELS),
)

DEFAULT_MEMORY = 0.92  # of a GPU's memory: vLLM 0.32, config/cache.py
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}  # as vLLM reads `128k` and `128K`
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgKMG]?)")


@dataclass(frozen=True, slots=True)
class Options:
    """What a list of arguments says about memory and parallelism.

    `memory` is the share of each GPU's memory, `context` is in tokens (None: the model's own, or `auto`), `kv_bytes`
    the size of an element of the KV cache, `batched_tokens` and `sequences` are None where vLLM chooses. `is_eager`:
    without CUDA graphs; `is_text_only`: without the encoder of images.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    is_expert_parallel: bool = False
    memory: float = DEFAULT_MEMORY
    context: int | None = None
    is_context_auto: bool = False
    kv_bytes: int = 2
    batched_tokens: int | None = None
    sequences: int | None = None
    is_eager: bool = False
    is_text_only: bool = False

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


def parse(arguments: Sequence[str]) -> Options:
    """Read the options that a plan depends on. Invalid values count as absent: vLLM itself refuses them.

    >>> parse(["-tp", "2", "--max-model-len=32K"])
    Options(tensor=2, pipeline=1, data=1, is_expert_parallel=False, memory=0.92, context=32768, is_context_auto=False, \
kv_bytes=2, batched_tokens=None, sequences=None, is_eager=False, is_text_only=False)
    """
    return _parse(tuple(arguments))


@functools.lru_cache(maxsize=1024)  # `pi models` parses the same few lists thousands of times
def _parse(arguments: tuple[str, ...]) -> Options:
    context = value(arguments, CONTEXT_LENGTH)
    return Options(
        tensor=_count(arguments, TENSOR_PARALLEL),
        pipeline=_count(arguments, PIPELINE_PARALLEL),
        data=_count(arguments, DATA_PARALLEL),
        is_expert_parallel=_is_set(arguments, EXPERT_PARALLEL),
        memory=_share(value(arguments, MEMORY_SHARE)),
        context=number(context or "") or None,
        is_context_auto=context in ("auto", "-1"),
        kv_bytes=1 if (value(arguments, KV_CACHE_TYPE) or "").startswith("fp8") else 2,
        batched_tokens=number(value(arguments, BATCHED_TOKENS) or "") or None,
        sequences=number(value(arguments, SEQUENCES) or "") or None,
        is_eager=_is_set(arguments, EAGER),
        is_text_only=_is_set(arguments, TEXT_ONLY),
    )


def value(arguments: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the value of an option. Where it is repeated, the last one counts."""
    last = None
    for argument, following in itertools.pairwise([*arguments, ""]):
        if name_of(argument) in names:
            _, equals, after = argument.partition("=")
            last = after if equals else following
    return last


def without(arguments: Sequence[str], *options: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without some options and their values."""
    names = list(itertools.chain(*options))
    return tuple(itertools.chain(*(group for group in groups(arguments) if name_of(group[0]) not in names)))


def replaced(arguments: Sequence[str], option: Sequence[str], value: str) -> tuple[str, ...]:
    """Return the arguments with one option set to this value, at their end.

    >>> replaced(["--max_model_len=1", "--enforce-eager"], CONTEXT_LENGTH, "auto")
    ('--enforce-eager', '--max-model-len', 'auto')
    """
    return (*without(arguments, option), option[0], value)


def groups(arguments: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every option with its values.

    >>> list(groups(["-tp", "2", "--enforce-eager"]))
    [('-tp', '2'), ('--enforce-eager',)]
    """
    group: list[str] = []
    for argument in arguments:
        if group and is_option(argument):
            yield tuple(group)
            group = []
        group.append(argument)
    if group:
        yield tuple(group)


def name_of(argument: str) -> str:
    """Return an option's name; vLLM accepts `--max_model_len` for `--max-model-len`.

    >>> name_of("--max_model_len=1")
    '--max-model-len'
    """
    name = argument.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def is_option(argument: str) -> bool:
    return re.match(r"--?[A-Za-z]", argument) is not None


def number(text: str) -> int | None:
    """Read a number as vLLM does: `128k` is 128,000 and `128K` is 131,072."""
    match = NUMBER.fullmatch(text)
    return int(float(match[1]) * UNITS.get(match[2], 1)) if match else None


def refuse_options_of_pi(arguments: Sequence[str]) -> None:
    """Raise `BadUsage` for a vLLM option that pi sets itself."""
    for argument in arguments:
        if reason := set_by_pi(argument):
            raise BadUsage(f"`{name_of(argument)}` cannot be given after `--vllm`: {reason}", hint="leave it out")


def set_by_pi(argument: str) -> str | None:
    """Return why pi sets an option itself; None if it does not. vLLM's parser takes a prefix of an option for it.

    >>> set_by_pi("--hos=0.0.0.0")
    'vLLM reads it as `--host`, and pi chooses the address on which vLLM listens'
    """
    name = name_of(argument)
    if name in SET_BY_PI:
        return SET_BY_PI[name]
    if len(name) <= len("--"):
        return None
    meant = next((option for option in SET_BY_PI if option.startswith(name)), None)
    return f"vLLM reads it as `{meant}`, and {SET_BY_PI[meant]}" if meant else None


def gpus_requested(arguments: Sequence[str]) -> int:
    """Return how many GPUs vLLM arguments request: tensor x pipeline x data parallel size.

    >>> gpus_requested(["-tp", "2", "--pipeline-parallel-size=2"])
    4
    """
    return parse(arguments).gpus


def _is_set(arguments: Sequence[str], names: Sequence[str]) -> bool:
    return any(name_of(argument) in names for argument in arguments)


def _count(arguments: Sequence[str], names: Sequence[str]) -> int:
    size = value(arguments, names) or ""
    return max(1, int(size)) if size.isdecimal() else 1


def _share(text: str | None) -> float:
    try:
        share = float(text or DEFAULT_MEMORY)
    except ValueError:
        return DEFAULT_MEMORY
    return share if 0 < share <= 1 else DEFAULT_MEMORY
