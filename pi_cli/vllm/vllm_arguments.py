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
    "--model": "the model comes before `--vllm`",
    "--device-ids": "pi chooses the GPUs",
}
_TLS = "pi reaches vLLM through SSH, and sends it HTTP without TLS"
# Options with which a model could not be planned or reached, and why.
UNSUPPORTED = {
    "--config": "pi does not read that file, and plans by the options themselves",
    "--grpc": "pi and its clients send HTTP requests",
    **dict.fromkeys(("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs", "--ssl-ciphers"), _TLS),
    "--enable-ssl-refresh": _TLS,
}
REFUSED = SET_BY_PI | UNSUPPORTED

# The names of options, the one that pi uses first.
TENSOR_PARALLEL = ("--tensor-parallel-size", "-tp")
PIPELINE_PARALLEL = ("--pipeline-parallel-size", "-pp")
DATA_PARALLEL = ("--data-parallel-size", "-dp")
DATA_PARALLEL_LOCAL = ("--data-parallel-size-local", "-dpl")
CONTEXT_PARALLEL = ("--prefill-context-parallel-size", "-pcp")
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
    *(TENSOR_PARALLEL, PIPELINE_PARALLEL, DATA_PARALLEL, DATA_PARALLEL_LOCAL, CONTEXT_PARALLEL, EXPERT_PARALLEL),
    *(MEMORY_SHARE, CONTEXT_LENGTH, KV_CACHE_TYPE, BATCHED_TOKENS, SEQUENCES, KERNELS),
)

DEFAULT_MEMORY = 0.92  # of a GPU's memory: vLLM 0.32, config/cache.py
# As vLLM reads `128k` and `128K`.
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)")


@dataclass(frozen=True, slots=True)
class Options:
    """What a list of arguments says about memory and parallelism.

    `data` is the number of replicas on this machine, `prefill` the number of groups of GPUs that share a prompt.
    `memory` is the share of each GPU's memory, `context` is in tokens (None: the model's own, or `auto`), `kv_bytes`
    the size of an element of the KV cache, `batched_tokens` and `sequences` are None where vLLM chooses. `is_eager`:
    without CUDA graphs; `is_text_only`: without the encoder of images.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    prefill: int = 1
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
        """Return the number of GPUs: vLLM's world size (0.32, config/parallel.py) of each replica."""
        return self.tensor * self.pipeline * self.prefill * self.data


def parse(arguments: Sequence[str]) -> Options:
    """Read the options that a plan depends on. Invalid values count as absent: vLLM itself refuses them.

    >>> options = parse(["-tp", "2", "--max-model-len=32K"])
    >>> options.gpus, options.context, options.memory
    (2, 32768, 0.92)
    """
    return _parse(tuple(arguments))


@functools.lru_cache(maxsize=1024)  # `pi models` parses the same few lists thousands of times
def _parse(arguments: tuple[str, ...]) -> Options:
    context = value(arguments, CONTEXT_LENGTH)
    return Options(
        tensor=_count(arguments, TENSOR_PARALLEL),
        pipeline=_count(arguments, PIPELINE_PARALLEL),
        data=_count(arguments, DATA_PARALLEL_LOCAL, _count(arguments, DATA_PARALLEL)),
        prefill=_count(arguments, CONTEXT_PARALLEL),
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
    """Raise `BadUsage` for a vLLM option that pi sets itself or does not support."""
    for argument in arguments:
        if reason := set_by_pi(argument):
            raise BadUsage(f"`{name_of(argument)}` cannot be given after `--vllm`: {reason}", hint="leave it out")


def set_by_pi(argument: str) -> str | None:
    """Return why pi refuses an option; None if it does not. vLLM's parser takes a prefix of an option for it.

    >>> set_by_pi("--hos=0.0.0.0")
    'vLLM reads it as `--host`, and pi chooses the address on which vLLM listens'
    """
    name = name_of(argument)
    if name in REFUSED:
        return REFUSED[name]
    if len(name) <= len("--"):
        return None
    meant = next((option for option in REFUSED if option.startswith(name)), None)
    return f"vLLM reads it as `{meant}`, and {REFUSED[meant]}" if meant else None


def gpus_requested(arguments: Sequence[str]) -> int:
    """Return how many GPUs vLLM arguments request: the product of the parallel sizes.

    >>> gpus_requested(["-tp", "2", "--pipeline-parallel-size=2"]), gpus_requested(["-tp", "4", "-pcp", "2"])
    (4, 8)
    """
    return parse(arguments).gpus


def _is_set(arguments: Sequence[str], names: Sequence[str]) -> bool:
    return any(name_of(argument) in names for argument in arguments)


def _count(arguments: Sequence[str], names: Sequence[str], default: int = 1) -> int:
    size = value(arguments, names) or ""
    return max(1, int(size)) if size.isdecimal() else default


def is_share(text: str) -> bool:
    """Return whether a text is a share of the memory as vLLM takes it."""
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def _share(text: str | None) -> float:
    return float(text) if text and is_share(text) else DEFAULT_MEMORY
