"""The log lines of a start of vLLM 0.32, milestone by milestone, with the timing of a real start."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from pi_cli.demo.engine.checks import MemoryLayout
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.log import LogWriter

READY_SECONDS = 1.5
SECRETS = ("api-key", "hf-token")

ARCHITECTURES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "gpt-oss": "GptOss", "glm": "Glm4Moe", "kimi": "DeepseekV3"}
ARCHITECTURES |= {"mistral": "Mistral", "gemma": "Gemma3", "deepseek": "DeepseekV3", "minimax": "MiniMaxM2"}

LOGO = (
    "",
    "       █     █     █▄   ▄█",
    " ▄▄ ▄█ █     █     █ ▀▄▀ █  version {version}",
    "  █▄█▀ █     █     █     █  model   {model}",
    "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀",
    "",
)


class Pace(NamedTuple):
    """The duration of a whole start, in seconds."""

    seconds: float

    async def pause(self, share: float) -> float:
        """Sleep for a share of the whole time, and return its seconds."""
        await asyncio.sleep(self.seconds * share)
        return self.seconds * share


def pace(settings: Settings) -> Pace:
    return Pace(float(settings.simulated("slow") or _usual_seconds()))


def _usual_seconds() -> float:
    try:
        options = json.loads((Path.home() / ".demo" / "vllm.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return READY_SECONDS
    return float(options.get("seconds", READY_SECONDS))


def print_banner(writer: LogWriter, settings: Settings, version: str) -> None:
    for line in LOGO:
        writer.info("utils.py:299", line.format(version=version, model=settings.model))
    writer.info("utils.py:233", f"non-default args: {logged_arguments(settings)}")
    writer.warning("demo.py:1", "This vLLM is SIMULATED by `pi demo`: it uses no GPU, and its answers are a script.")


def logged_arguments(settings: Settings) -> dict[str, object]:
    """Return the arguments as vLLM logs them, without secrets."""
    arguments: dict[str, object] = {"model_tag": settings.model, "model": settings.model}
    for name, values in settings.given.items():
        if name not in SECRETS:
            is_list = name in ("served-model-name", "middleware", "simulate")
            arguments[name.replace("-", "_")] = values if is_list else values[0] if values else True
    return arguments


def resolve(writer: LogWriter, settings: Settings, layout: MemoryLayout) -> None:
    family = next((name for key, name in ARCHITECTURES.items() if key in settings.model.lower()), "Llama")
    writer.info("model.py:733", f"Resolved architecture: {family}ForCausalLM")
    writer.info("model.py:2152", f"Using max model len {layout.context}")


def initialize(writer: LogWriter, settings: Settings, version: str, layout: MemoryLayout) -> None:
    config = f"model='{settings.model}', dtype=torch.bfloat16, max_seq_len={layout.context}"
    config += f", tensor_parallel_size={len(layout.memory)}, served_model_name={settings.names[0]}"
    writer.info("core.py:134", f"Initializing a V1 LLM engine (v{version}) with config: {config}")


async def load(writer: LogWriter, settings: Settings, layout: MemoryLayout, pace: Pace) -> None:
    """Load the weights, with a progress bar for the shards on stderr."""
    writer.info("gpu_model_runner.py:5040", f"Starting to load model {settings.model}...")
    total = f"Checkpoint size: {layout.weights * len(layout.memory):.2f} GiB. Available RAM 503.21 GiB."
    writer.info("weight_utils.py:1109", f"Filesystem type for checkpoints: EXT4. {total}")
    shards = min(max(round(layout.weights * len(layout.memory) / 5), 1), 8)
    seconds = 0.0
    for done in range(shards + 1):
        if done:
            seconds += await pace.pause(0.3 / shards)
        left = seconds / done * (shards - done) if done else 0.0
        clock = f"{_clock(seconds)}<{_clock(left) if done else '?'}, {done / seconds if seconds else 0:5.2f}it/s"
        writer.raw(
            f"\rLoading safetensors checkpoint shards: {100 * done // shards:3d}% Completed | {done}/{shards} [{clock}]"
        )
    writer.info("default_loader.py:502", f"Loading weights took {seconds:.2f} seconds")
    writer.info(
        "model_runner.py:425", f"Model loading took {layout.weights:.2f} GiB memory and {seconds + 0.4:.6f} seconds"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


async def compile_graph(writer: LogWriter, pace: Pace) -> None:
    cache = Path.home() / ".cache/vllm/torch_compile_cache/simulated/rank_0_0/backbone"
    writer.info("backends.py:1105", f"Using cache directory: {cache} for vLLM's torch.compile")
    tracing = await pace.pause(0.07)
    writer.info("backends.py:1167", f"Dynamo bytecode transform time: {tracing:.2f} s")
    compiling = await pace.pause(0.15)
    writer.info("backends.py:399", f"Compiling a graph for compile range (1, 8192) takes {compiling:.2f} s")
    writer.info("monitor.py:20", f"torch.compile took {tracing + compiling:.2f} s in total")


def allocate(worker: LogWriter, core: LogWriter, settings: Settings, layout: MemoryLayout) -> None:
    if given := settings.text("kv-cache-memory-bytes"):
        text = f"reserved {int(given) / 2**30:.2f} GiB memory for KV Cache as specified by kv_cache_memory_bytes config"
        worker.info("gpu_worker.py:668", f"{text} and skipped memory profiling. …")
    else:
        worker.info("gpu_worker.py:760", f"Available KV cache memory: {layout.kv_cache:.2f} GiB")
    if settings.text("max-model-len") in ("auto", "-1"):
        text = f"Auto-fit max_model_len: full model context length {layout.context} fits in available GPU memory"
        core.info("kv_cache_utils.py:2469", text)
    concurrency = f"{layout.kv_tokens / layout.context:.2f}x"
    per_request = f"Maximum concurrency for {layout.context:,} tokens per request: {concurrency}"
    core.info("kv_cache_utils.py:2327", f"GPU KV cache size: {layout.kv_tokens:,} tokens, {per_request}")


async def capture(worker: LogWriter, core: LogWriter, settings: Settings, layout: MemoryLayout, pace: Pace) -> None:
    """Capture CUDA graphs, with another progress bar, and finish the start of the engine."""
    if not settings.has("enforce-eager"):
        seconds = 0.0
        for done in (0, 17, 34, 51):
            seconds += await pace.pause(0.04)
            bar = f"{100 * done // 51:3d}%|{'█' * (done * 10 // 51):<10}| {done}/51"
            worker.raw(f"\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE): {bar}")
        worker.info("model_runner.py:1128", f"Graph capturing finished in {seconds:.0f} secs, took 0.61 GiB")
    if not settings.has("kv-cache-memory-bytes"):
        size = int(layout.kv_cache * 2**30)
        fitting = f"`--kv-cache-memory={size}` ({layout.kv_cache:.2f} GiB) to fit into requested memory"
        worker.info("gpu_worker.py:1033", f"… Replace gpu_memory_utilization config with {fitting}, or …")
    core.info("core.py:386", f"init engine (profile, create kv cache, warmup model) took {pace.seconds * 0.4:.2f} s")


def print_address(writer: LogWriter, settings: Settings) -> None:
    host = settings.text("host", "0.0.0.0")  # noqa: S104 - vLLM's default, which is only printed here
    writer.info("entry.py:140", f"Starting vLLM server on http://{host}:{settings.text('port', '8000')}")


async def spam(writer: LogWriter, settings: Settings) -> None:
    """Fill the log like a busy server, at the rate of `--simulate spam=LINES`."""
    lines_per_second = float(settings.simulated("spam") or 0)
    batch = max(round(lines_per_second / 20), 1)
    count = 0
    while lines_per_second:
        for _ in range(batch):
            count += 1
            writer.info("loggers.py:259", f"Engine 000: line {count}, Avg generation throughput: 100.0 tokens/s")
        await asyncio.sleep(batch / lines_per_second)


def print_shutdown(writer: LogWriter) -> None:
    writer.uvicorn("Shutting down")
    writer.uvicorn("Waiting for application shutdown.")
    writer.uvicorn("Application shutdown complete.")
    writer.uvicorn(f"Finished server process [{os.getpid()}]")
    sys.stdout.flush()
