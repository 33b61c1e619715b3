"""The command line of `vllm serve`: its flags, and the error messages of argparse."""

from collections.abc import Callable
from typing import NamedTuple


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Each switch also exists as --no-X.
SWITCHES = _names("""
    aggregate-engine-logging allow-credentials allow-deprecated-quantization async-scheduling calculate-kv-scales
    data-parallel-external-lb data-parallel-hybrid-lb kv-sharing-fast-prefill scheduler-reserve-full-isl
    cudagraph-metrics disable-access-log disable-cascade-attn disable-chunked-mm-input disable-custom-all-reduce
    disable-fastapi-docs disable-frontend-multiprocessing disable-hybrid-kv-cache-manager disable-log-stats
    disable-nccl-for-dp-synchronization disable-sliding-window disable-uvicorn-access-log enable-auto-tool-choice
    enable-chunked-prefill enable-dbo enable-elastic-ep enable-eplb enable-expert-parallel enable-flashinfer-autotune
    enable-force-include-usage enable-log-deltas enable-log-outputs enable-log-requests enable-lora enable-lora-bias
    enable-mfu-metrics enable-mm-embeds enable-nccl-comm-suspend enable-prefix-caching enable-prompt-embeds
    enable-prompt-tokens-details enable-request-id-headers enable-return-routed-experts enable-server-load-tracking
    enable-sleep-mode enable-ssl-refresh enable-tokenizer-info-endpoint enable-log-streaming-outputs enforce-eager
    exclude-tools-when-tool-choice-none fail-on-environ-validation fully-sharded-loras headless interleave-mm-strings
    kv-cache-metrics language-model-only log-error-stack multi-step-stream-outputs return-tokens-as-token-ids
    skip-mm-profiling skip-tokenizer-init sleep-mode-offload-cudagraph trust-remote-code trust-request-chat-template
    use-tqdm-on-load
""")

VALUES = _names("""
    additional-config all2all-backend allowed-local-media-path api-server-count attention-backend attention-config
    block-size chat-template chat-template-content-format code-revision compilation-config config config-format
    convert cpu-offload-gb data-parallel-address data-parallel-backend data-parallel-rank data-parallel-rpc-port
    data-parallel-size data-parallel-size-local data-parallel-start-rank dcp-kv-cache-interleave-size
    decode-context-parallel-size default-chat-template-kwargs device-ids device-memory-utilization
    disable-access-log-for-endpoints distributed-executor-backend download-dir dtype ec-transfer-config eplb-config
    expert-placement-strategy generation-config gpu-memory-utilization h11-max-header-count
    h11-max-incomplete-event-size hf-config-path hf-overrides hf-token host io-processor-plugin kernel-config
    kv-cache-dtype kv-cache-memory-bytes kv-events-config kv-offloading-backend kv-offloading-size kv-transfer-config
    linear-backend load-format log-config-file logits-processor-pattern logprobs-mode long-prefill-token-threshold
    lora-dtype lora-modules mamba-backend mamba-block-size mamba-cache-dtype mamba-cache-mode mamba-ssm-cache-dtype
    master-addr master-port max-cudagraph-capture-size max-log-len max-logprobs max-long-partial-prefills
    max-lora-rank max-loras max-cpu-loras max-model-len max-num-batched-tokens max-num-partial-prefills max-num-seqs
    max-parallel-loading-workers media-io-kwargs mm-encoder-attn-backend mm-encoder-tp-mode mm-processor-cache-gb
    mm-processor-cache-type mm-processor-kwargs model-impl model-loader-extra-config moe-backend nnodes node-rank
    num-gpu-blocks-override optimization-level otlp-traces-endpoint override-attention-dtype
    override-generation-config performance-mode pipeline-parallel-size pooler-config port
    prefill-context-parallel-size prefix-caching-hash-algo profiler-config quantization reasoning-parser
    reasoning-parser-plugin renderer response-role revision root-path runner safetensors-load-strategy
    safetensors-prefetch-num-threads scheduler-cls scheduler-reserve-full-isl scheduling-policy seed shutdown-timeout
    spec-method spec-model spec-tokens speculative-config ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-keyfile
    stream-interval structured-outputs-config tensor-parallel-size tokenizer tokenizer-mode tokenizer-revision
    tool-call-parser tool-parser-plugin tool-server uds uvicorn-log-level video-pruning-rate worker-cls
    worker-extension-cls
""")

# Flags with any number of values, up to the next flag.
LISTS = _names("""
    allowed-headers allowed-methods allowed-origins api-key cudagraph-capture-sizes limit-mm-per-prompt
    logits-processors middleware served-model-name simulate
""")

SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-dpl": "data-parallel-size-local",
    "-dpr": "data-parallel-start-rank",
    "-dpa": "data-parallel-address",
    "-dpp": "data-parallel-rpc-port",
    "-dpb": "data-parallel-backend",
    "-dcp": "decode-context-parallel-size",
    "-ep": "enable-expert-parallel",
    "-asc": "api-server-count",
    "-q": "quantization",
    "-cc": "compilation-config",
    "-sc": "speculative-config",
    "-O": "optimization-level",
}

REPEATABLE = ("middleware", "simulate", "api-key")


def _human_number(text: str) -> int:
    """Parse `128k` = 128,000, `128K` = 131,072 and plain numbers, as vLLM does; `auto` is -1.

    >>> [_human_number(text) for text in ("4096", "25.6k", "32K", "auto")]
    [4096, 25600, 32768, -1]
    """
    if text == "auto":
        return -1
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    if text[-1:] in units:
        number = text[:-1]
        return round(float(number) * units[text[-1]]) if text[-1].islower() else int(number) * units[text[-1]]
    return int(text)


TYPES: dict[str, tuple[str, Callable[[str], object]]] = {
    "port": ("int", int),
    "tensor-parallel-size": ("int", int),
    "pipeline-parallel-size": ("int", int),
    "data-parallel-size": ("int", int),
    "max-num-seqs": ("int", int),
    "seed": ("int", int),
    "gpu-memory-utilization": ("float", float),
    "max-model-len": ("human_readable_int_or_auto", _human_number),
    "kv-cache-memory-bytes": ("human_readable_int", _human_number),
}


class BadCommandLine(Exception):
    """The error that argparse would print before it exits with status 2."""


class Settings(NamedTuple):
    """A parsed command line. `given` has the values by flag name, in the order of the command line."""

    model: str
    given: dict[str, list[str]]

    def has(self, name: str) -> bool:
        return name in self.given

    def text(self, name: str, default: str = "") -> str:
        return self.given[name][-1] if self.given.get(name) else default

    def number(self, name: str, default: int) -> int:
        return _human_number(self.text(name, str(default)))

    @property
    def utilization(self) -> float:
        return float(self.text("gpu-memory-utilization") or self.text("device-memory-utilization") or "0.92")

    @property
    def names(self) -> list[str]:
        return self.given.get("served-model-name") or [self.model]

    def simulated(self, name: str) -> str | None:
        """Return the value of `--simulate name=value` (empty for a bare `name`), or None."""
        for option in self.given.get("simulate", []):
            option_name, _, value = option.partition("=")
            if option_name == name:
                return value
        return None


def parse(argv: list[str]) -> Settings:
    """Parse the arguments after `vllm serve`."""
    words, positional, unknown = list(argv), [], []
    given: dict[str, list[str]] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        name, separator, value = _split(word)
        kind = _kind(name)
        if kind is None:
            unknown.append(word)
            while not separator and words and not words[0].startswith("-"):
                unknown.append(words.pop(0))
            continue
        values = [value] if separator else _take(words, kind)
        if kind == "value" and len(values) != 1:
            raise BadCommandLine(f"argument --{name}: expected one argument")
        _check_type(name, values)
        given[name] = given.get(name, []) + values if name in REPEATABLE else values
    if unknown or len(positional) > 1:
        raise BadCommandLine(f"unrecognized arguments: {' '.join(unknown + positional[1:])}")
    if not positional and "model" not in given:
        positional = ["Qwen/Qwen3-0.6B"]  # vLLM's own default
    return Settings(positional[0], given)


def _split(word: str) -> tuple[str, str, str]:
    """Return the flag name without dashes, the separator and the value; `-O3` is `-O 3`, underscores are dashes."""
    if word.startswith("-O") and word[2:].isdecimal():
        return "optimization-level", "=", word[2:]
    name, separator, value = word.partition("=")
    if name in SHORT:
        return SHORT[name], separator, value
    return name.lstrip("-").replace("_", "-") if name.startswith("--") else name, separator, value


def _kind(name: str) -> str | None:
    if name in SWITCHES or name.removeprefix("no-") in SWITCHES:
        return "switch"
    if name in LISTS:
        return "list"
    outer, dot, _ = name.partition(".")  # --compilation-config.cudagraph_mode NONE
    return "value" if name in VALUES or (dot and outer in VALUES) else None


def _take(words: list[str], kind: str) -> list[str]:
    taken: list[str] = []
    while kind != "switch" and words and not (words[0].startswith("--") or words[0] in SHORT):
        taken.append(words.pop(0))
        if kind == "value":
            break
    return taken


def _check_type(name: str, values: list[str]) -> None:
    if name in TYPES:
        kind, read = TYPES[name]
        for value in values:
            try:
                read(value)
            except ValueError:
                raise BadCommandLine(f"argument --{name}: invalid {kind} value: {value!r}") from None
