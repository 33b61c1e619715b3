"""Every known way in which a start of vLLM 0.32 fails, word for word.

`--simulate fail=NAME` selects one. `KNOWN` maps the name to the stage of the start and the message, which may contain
`{model}`, `{port}`, `{device}`, `{total}`, `{free}`, `{wanted}`, `{utilization}`, `{context}`, `{size}`, `{count}`.
"""

from typing import NamedTuple

# The stages of a start, in order. In those of the second row the engine fails first, and then the server.
ARGUMENTS, BIND, CONFIG = "arguments", "bind", "config"
INIT, LOAD, MEMORY, WARMUP = "init", "load", "memory", "warmup"
READY = "ready"


class Failure(NamedTuple):
    """One way to fail: the stage, and the `text` at the end of the traceback."""

    where: str
    text: str


class Failed(Exception):
    """A failed start, with the values filled into its text."""

    def __init__(self, failure: Failure, **facts: object) -> None:
        text = failure.text
        for name, value in facts.items():
            text = text.replace("{%s}" % name, str(value))  # noqa: UP031 - the texts are full of braces
        super().__init__(text)
        self.where = failure.where
        self.text = text


def _invalid(config: str, text: str) -> str:
    """Return an error in the format of pydantic."""
    return (
        f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n"
        f"  Value error, {text} [type=value_error, input_value=ArgsKwargs((), {{'model': '{{model}}'}}), "
        "input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
    )


_OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of "
    "{total} GiB of which 361.81 MiB is free. Including non-PyTorch memory, this process has {total} GiB memory in "
    "use. Of the allocated memory 76.36 GiB is allocated by PyTorch, and 512.18 MiB is reserved by PyTorch but "
    "unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
_GATED = (
    "OSError: You are trying to access a gated repo.\n"
    "Make sure to have access to it at https://huggingface.co/{model}.\n"
)

TOOL_PARSER = Failure(ARGUMENTS, "KeyError: 'invalid tool call parser: {name} (chose from { {known} })'")
REASONING_PARSER = Failure(ARGUMENTS, "KeyError: \"Reasoning parser '{name}' not found. Available parsers: {known}\"")
NO_TOOL_PARSER = Failure(ARGUMENTS, "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
CHAT_TEMPLATE = Failure(
    ARGUMENTS,
    "ValueError: The supplied chat template string ({name}) appears path-like, but doesn't exist! Tried: {name}",
)
PORT_BUSY = Failure(BIND, "OSError: [Errno 98] Address already in use")
TOO_FEW_GPUS = Failure(
    CONFIG,
    _invalid(
        "ParallelConfig",
        "World size ({size}) is larger than the number of available GPUs ({count}) in this node. If this is "
        "intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.\n"
        "- multiprocessing, set '--nnodes' appropriately.",
    ),
)
GPU_BUSY = Failure(
    INIT,
    "ValueError: Free memory on device {device} ({free}/{total} GiB) on startup is less than desired GPU memory "
    "utilization ({utilization}, {wanted} GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
    "processes.",
)
GATED = Failure(
    CONFIG,
    _GATED + "401 Client Error. (Request ID: Root=1-6923-simulated)\n\n"
    "Cannot access gated repo for url https://huggingface.co/{model}/resolve/main/config.json.\n"
    "Access to model {model} is restricted. You must have access to it and be authenticated to access it. "
    "Please log in.",
)
MISSING_REPO = Failure(
    CONFIG,
    "OSError: {model} is not a local folder and is not a valid model identifier listed on "
    "'https://huggingface.co/models'\nIf this is a private repository, make sure to pass a token having permission to "
    "this repo either by logging in with `hf auth login` or by passing `token=<your_token>`",
)

KNOWN: dict[str, Failure] = {
    "bad-parser": TOOL_PARSER,
    "bad-reasoning-parser": REASONING_PARSER,
    "tools-without-parser": NO_TOOL_PARSER,
    "chat-template": CHAT_TEMPLATE,
    "port-busy": PORT_BUSY,
    "too-few-gpus": TOO_FEW_GPUS,
    "gpu-busy": GPU_BUSY,
    "gated": GATED,
    "gated-403": Failure(
        CONFIG,
        _GATED + "403 Client Error. (Request ID: Root=1-6923-simulated)\n\n"
        "Cannot access gated repo for url https://huggingface.co/{model}/resolve/main/config.json.\n"
        "Access to model {model} is restricted and you are not in the authorized list. Visit "
        "https://huggingface.co/{model} to ask for access.",
    ),
    "missing-repo": MISSING_REPO,
    "no-internet": Failure(
        CONFIG,
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        "cached files.\nCheck your internet connection or see how to run the library in offline mode at "
        "'https://huggingface.co/docs/transformers/installation#offline-mode'.",
    ),
    "offline": Failure(
        CONFIG,
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
        "specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and "
        "downloads online, pass 'local_files_only=False' as input.",
    ),
    "rate-limit": Failure(
        CONFIG,
        "huggingface_hub.errors.HfHubHTTPError: 429 Too Many Requests: you have reached your 'api' rate limit.\n"
        "Retry after 287 seconds (0/1000 requests remaining in current 300s window).",
    ),
    "unknown-arch": Failure(
        CONFIG,
        _invalid(
            "ModelConfig",
            "Model architectures ['NewModelForCausalLM'] are not supported for now. Supported architectures: "
            "dict_keys(['ApertusForCausalLM', 'LlamaForCausalLM', 'Qwen3ForCausalLM'])",
        ),
    ),
    "unknown-model-type": Failure(
        CONFIG,
        _invalid(
            "ModelConfig",
            "The checkpoint you are trying to load has model type `new_model` but Transformers does not recognize this "
            "architecture. This could be because of an issue with the checkpoint, or because your version of "
            "Transformers is out of date.",
        ),
    ),
    "custom-code": Failure(
        CONFIG,
        _invalid(
            "ModelConfig",
            "The repository {model} contains custom code which must be executed to correctly load the model. You can "
            "inspect the repository content at https://hf.co/{model}.\nPlease pass the argument "
            "`trust_remote_code=True` to allow custom code to be run.",
        ),
    ),
    "context": Failure(
        CONFIG,
        _invalid(
            "ModelConfig",
            "User-specified max_model_len ({context}) is greater than the derived max_model_len "
            "(max_position_embeddings=40960 or model_max_length=None in model's config.json). To allow overriding this "
            "maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with "
            "extreme caution. If the model uses relative position encoding (RoPE), positions exceeding "
            "derived_max_model_len lead to nan. If the model uses absolute position encoding, positions exceeding "
            "derived_max_model_len will cause a CUDA array out-of-bounds error.",
        ),
    ),
    "tp-heads": Failure(
        CONFIG,
        _invalid("ModelConfig", "Total number of attention heads (4) must be divisible by tensor parallel size (3)."),
    ),
    "driver": Failure(
        INIT,
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Please update your GPU "
        "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
        "Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your "
        "version of the CUDA driver.",
    ),
    "bf16": Failure(
        INIT,
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has "
        "compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for "
        "example: --dtype=half.",
    ),
    "dp-ranks": Failure(INIT, "AssertionError: DP adjusted local rank 2 is out of bounds for 2 devices."),
    "oom": Failure(LOAD, _OUT_OF_MEMORY),
    "oom-v1": Failure(
        LOAD,
        "torch.OutOfMemoryError: Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization "
        "to free memory for weights, increasing --tensor-parallel-size, or using --quantization. See "
        "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more tips. "
        "(original error: CUDA out of memory. Tried to allocate 1.16 GiB.)",
    ),
    "fp8-block": Failure(
        LOAD,
        "ValueError: The output_size of gate's and up's weight = 320 is not divisible by weight quantization "
        "block_n = 128.",
    ),
    "no-space": Failure(LOAD, "OSError: [Errno 28] No space left on device"),
    "kv-cache": Failure(
        MEMORY,
        "ValueError: To serve at least one request with the model's max seq len (131072), (8.0 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.99 GiB). Based on the available memory, the estimated "
        "maximum model length is 16256. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when "
        "initializing the engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/.",
    ),
    "no-kv": Failure(
        MEMORY,
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/.",
    ),
    "auto-fit": Failure(
        MEMORY,
        "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token. Try "
        "increasing `gpu_memory_utilization`.",
    ),
    "profiling": Failure(
        MEMORY,
        "AssertionError: Error in memory profiling. Initial free memory 22.02 GiB, current free memory 59.34 GiB. This "
        "happens when other processes sharing the same container release GPU memory while vLLM is profiling during "
        "initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own container.",
    ),
    "ready-timeout": Failure(
        READY,
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight "
        "loading for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S). To increase the timeout, "
        "set the environment variable: VLLM_ENGINE_READY_TIMEOUT_S=<seconds>",
    ),
    "oom-sampler": Failure(
        WARMUP,
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try "
        "lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.",
    ),
}

# Deaths without a message: stage, process and signal. With `killed`, the server itself dies without any output.
DEATHS = {"killed": (LOAD, "server", 9), "engine-killed": (LOAD, "engine", 9), "segfault": (WARMUP, "engine", 11)}


def engine_failed(processes: dict[str, int]) -> str:
    """Return the server's message after its engine failed; `processes` maps names to exit codes."""
    return f"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {processes}"
