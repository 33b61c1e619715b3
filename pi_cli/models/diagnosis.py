"""Say why a model did not start: the cause in words, vLLM's own causal line, and what to do about it.

Texts are vLLM 0.32's. vLLM prints the root cause first, from the engine; the API server's last error only says that the
engine failed, so the first match counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

NOISE = re.compile(r"Engine core initialization failed|EngineCore failed to start|WorkerProc initialization failed")
PREFIX = re.compile(
    r"^\((?:APIServer|EngineCore\S*|Worker\S*)[^)]*\)\s?(?:(?:INFO|WARNING|ERROR) [\d-]+ [\d:]+ \[[^\]]*\] ?)?"
)
ERROR_LINE = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a start failed; `line` is the line of the log that says it, `hint` what the user can do."""

    words: str
    line: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A failure we recognise: a pattern, the cause in words, and a hint; both may name groups of the pattern."""

    pattern: str
    words: str
    hint: str


KNOWN = (
    Known(
        r"error: unrecognized arguments: (?P<what>.*)",
        "vLLM does not know the argument `{what}`",
        "check it with `pi ssh {pod} '~/venv/bin/vllm serve --help=all'`, and start again",
    ),
    Known(
        r"vllm(?: serve)?: error: (?P<what>.*)",
        "vLLM refused its arguments: {what}",
        "correct what follows `--vllm` and start again",
    ),
    Known(
        r"invalid tool call parser: (?P<what>\S+)",
        "vLLM has no tool-call parser `{what}`",
        "choose one of those in the line above, after `--vllm`",
    ),
    Known(
        r"Reasoning parser '(?P<what>[^']+)' not found",
        "vLLM has no reasoning parser `{what}`",
        "choose one of those in the line above, after `--vllm`",
    ),
    Known(
        r"--enable-auto-tool-choice requires --tool-call-parser",
        "`--enable-auto-tool-choice` needs a parser",
        "add `--tool-call-parser NAME` after `--vllm`",
    ),
    Known(
        r"chat template string .* appears path-like, but doesn't exist",
        "the chat template file is not on the pod",
        "give a path that exists on the pod",
    ),
    Known(
        r"To serve at least one request .*? \((?P<need>[\d.]+) GiB KV cache is needed, which is larger than the "
        r"available KV cache memory \((?P<have>[\d.]+) GiB\)(?:.*?estimated maximum model length is (?P<fits>\d+))?",
        "the context is too long for the GPU memory: one request needs {need} GiB of KV cache and {have} GiB are left",
        "start with `--vllm … --max-model-len {fits}`, or on more GPUs with `--tensor-parallel-size`",
    ),
    Known(
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len",
        "the weights leave no GPU memory for the KV cache",
        "start it on more GPUs with `--vllm … --tensor-parallel-size N`, or choose a smaller or quantised model",
    ),
    Known(
        r"Free memory on device \S+ \((?P<have>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup is less than",
        "the GPU is in use: {have} of {all} GiB are free",
        "see what holds it with `pi list` and `pi ssh {pod} nvidia-smi`, or lower `--gpu-memory-utilization`",
    ),
    Known(
        r"CUDA out of memory|Failed to load model - not enough GPU memory",
        "the model does not fit the GPU memory",
        "start it on more GPUs with `--vllm … --tensor-parallel-size N`, or choose a smaller or quantised model",
    ),
    Known(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\(\S*?=(?P<most>\d+)",
        "the model's context is at most {most} tokens, and {asked} were asked for",
        "start with `--vllm … --max-model-len {most}`",
    ),
    Known(
        r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<size>\d+)\)",
        "{heads} attention heads cannot be split over {size} GPUs",
        "choose a `--tensor-parallel-size` that divides {heads}",
    ),
    Known(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<have>\d+)\)",
        "{size} GPUs were asked for and {have} are there",
        "lower `--tensor-parallel-size` or `--data-parallel-size`",
    ),
    Known(
        r"not divisible by weight quantization block_n = (?P<block>\d+)",
        "the quantised weights cannot be split over so many GPUs (blocks of {block})",
        "halve `--tensor-parallel-size`, or add `--enable-expert-parallel`",
    ),
    Known(
        r"Model architectures \['(?P<what>[^']+)'\] are not supported",
        "this vLLM does not know the architecture `{what}`",
        'get a newer vLLM with `pi pods setup {pod} "…" --vllm nightly`',
    ),
    Known(
        r"model type `(?P<what>[^`]+)` but Transformers does not recognize",
        "this vLLM does not know the model type `{what}`",
        'get a newer vLLM with `pi pods setup {pod} "…" --vllm nightly`',
    ),
    Known(
        r"contains custom code which must be executed|Please pass the argument `trust_remote_code=True`",
        "the model brings code of its own, which vLLM runs only when told to",
        "if you trust its authors, add `--trust-remote-code` after `--vllm`",
    ),
    Known(
        r"requires approval|gated repo|GatedRepo|Access to model \S+ is restricted|not in the authorized list",
        "the model is gated and HF_TOKEN has no access to it",
        "request access at https://huggingface.co/{model} with the account of your HF_TOKEN",
    ),
    Known(
        r"Error: Model '[^']*' not found|Repository [Nn]ot [Ff]ound|RepositoryNotFound|is not a valid model identifier",
        "there is no model `{model}` on the Hugging Face Hub, or it is private",
        "check the name, and that HF_TOKEN may read it",
    ),
    Known(
        r"Invalid credentials in Authorization header|Invalid user token",
        "the Hugging Face Hub does not accept HF_TOKEN",
        "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`",
    ),
    Known(
        r"No space left on device|Disk quota exceeded",
        "the pod's disk is full",
        "see what fills it with `pi ssh {pod} df -h`, and delete models you do not need from ~/.cache/huggingface",
    ),
    Known(
        r"429 (?:Client Error: )?Too Many Requests",
        "the Hugging Face Hub limits our rate",
        "wait a few minutes, then start again",
    ),
    Known(
        r"couldn't connect to '|Failed to resolve|Name or service not known|ConnectError|Local entry not found|"
        r"LocalEntryNotFoundError",
        "the pod cannot reach the Hugging Face Hub, and the model is not complete in its cache",
        "check the pod's network with `pi ssh {pod} curl -I https://huggingface.co`",
    ),
    Known(
        r"Address already in use",
        "somebody took the port meanwhile",
        "start again: another port will be chosen",
    ),
    Known(
        r"NVIDIA driver on your system is too old",
        "the pod's NVIDIA driver is too old for this vLLM",
        "rent a machine with a newer driver, or set up an older vLLM with `--vllm VERSION`",
    ),
    Known(
        r"Bfloat16 is only supported on GPUs with compute capability of at least",
        "the GPU is too old for bfloat16",
        "add `--dtype half` after `--vllm`",
    ),
)  # fmt: skip


def find_cause(log: str, *, pod: str, model: str) -> Cause | None:
    """Return the first cause that a log tells, known or not; None when it holds no error at all."""
    first = _first_known(log)
    if first is None:
        line = _first_error(log)
        return Cause(_shorten(line), line) if line else None
    known, match = first
    names = {"pod": pod, "model": model} | {name: value or "N" for name, value in match.groupdict().items()}
    return Cause(known.words.format(**names), _line_around(log, match.start()), known.hint.format(**names))


def describe_end(code: int | None, signal: int | None) -> str:
    """Say in words how vLLM ended."""
    if signal == 9:
        return "vLLM was killed by signal 9 (out of host memory?)"
    return f"vLLM was killed by signal {signal}" if signal else f"vLLM ended with exit code {code}"


def last_lines(log: str, count: int = 20) -> str:
    """Return the end of a log as a person would read it: without blank lines, each as it is."""
    lines: Sequence[str] = [line.rstrip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    return "\n".join(lines[-count:])


def _first_known(log: str) -> tuple[Known, re.Match[str]] | None:
    """Return the failure on the earliest line; of several on one line the one that stands first in `KNOWN`."""
    matches = [(known, match) for known in KNOWN if (match := re.search(known.pattern, log))]
    return min(matches, key=lambda pair: log.count("\n", 0, pair[1].start()), default=None)


def _first_error(log: str) -> str:
    """Return the last line of the first traceback that is not merely the launcher's."""
    for line in log.splitlines():
        bare = PREFIX.sub("", line).strip()
        if ERROR_LINE.match(bare) and not NOISE.search(bare):
            return bare
    return ""


def _line_around(log: str, position: int) -> str:
    start = log.rfind("\n", 0, position) + 1
    end = log.find("\n", position)
    return PREFIX.sub("", log[start : end if end >= 0 else None]).strip()


def _shorten(line: str, most: int = 200) -> str:
    return line if len(line) <= most else line[:most] + "…"
