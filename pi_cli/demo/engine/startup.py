"""What the log of vLLM 0.32 says on the way to readiness, milestone by milestone, at the pace of a real start."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from pi_cli.demo.engine.checks import DERIVED_CONTEXT, Fit
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.voice import Voice

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
    """How long a start takes in all, in seconds."""

    seconds: float

    async def pause(self, share: float) -> float:
        """Let a share of the whole time pass, and return how much that was."""
        await asyncio.sleep(self.seconds * share)
        return self.seconds * share


def pace(settings: Settings) -> Pace:
    return Pace(float(settings.simulated("slow") or _usual_seconds()))


def _usual_seconds() -> float:
    try:
        wishes = json.loads((Path.home() / ".demo" / "vllm.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return READY_SECONDS
    return float(wishes.get("seconds", READY_SECONDS))


def introduce(voice: Voice, settings: Settings, version: str) -> None:
    for line in LOGO:
        voice.info("utils.py:299", line.format(version=version, model=settings.model))
    voice.info("utils.py:233", f"non-default args: {_said(settings)}")
    voice.warning("demo.py:1", "This vLLM is SIMULATED by `pi demo`: it uses no GPU, and its answers are a script.")


def _said(settings: Settings) -> dict[str, object]:
    """Return the arguments as vLLM logs them: without secrets."""
    said: dict[str, object] = {"model_tag": settings.model, "model": settings.model}
    for name, values in settings.given.items():
        if name not in SECRETS:
            is_list = name in ("served-model-name", "middleware", "simulate")
            said[name.replace("-", "_")] = values if is_list else values[0] if values else True
    return said


def resolve(voice: Voice, settings: Settings, fit: Fit) -> None:
    family = next((name for key, name in ARCHITECTURES.items() if key in settings.model.lower()), "Llama")
    voice.info("model.py:733", f"Resolved architecture: {family}ForCausalLM")
    voice.info("model.py:2152", f"Using max model len {fit.context}")


def initialize(voice: Voice, settings: Settings, version: str, fit: Fit) -> None:
    config = f"model='{settings.model}', dtype=torch.bfloat16, max_seq_len={fit.context}"
    config += f", tensor_parallel_size={len(fit.memory)}, served_model_name={settings.names[0]}"
    voice.info("core.py:134", f"Initializing a V1 LLM engine (v{version}) with config: {config}")


async def load(voice: Voice, settings: Settings, fit: Fit, pace: Pace) -> None:
    """Load the weights, a bar for the shards on stderr."""
    voice.info("gpu_model_runner.py:5040", f"Starting to load model {settings.model}...")
    total = f"Checkpoint size: {fit.weights * len(fit.memory):.2f} GiB. Available RAM 503.21 GiB."
    voice.info("weight_utils.py:1109", f"Filesystem type for checkpoints: EXT4. {total}")
    shards = min(max(round(fit.weights * len(fit.memory) / 5), 1), 8)
    seconds = 0.0
    for done in range(shards + 1):
        if done:
            seconds += await pace.pause(0.3 / shards)
        left = seconds / done * (shards - done) if done else 0.0
        clock = f"{_clock(seconds)}<{_clock(left) if done else '?'}, {done / seconds if seconds else 0:5.2f}it/s"
        voice.raw(
            f"\rLoading safetensors checkpoint shards: {100 * done // shards:3d}% Completed | {done}/{shards} [{clock}]"
        )
    voice.info("default_loader.py:502", f"Loading weights took {seconds:.2f} seconds")
    voice.info(
        "model_runner.py:425", f"Model loading took {fit.weights:.2f} GiB memory and {seconds + 0.4:.6f} seconds"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


async def compile_graph(voice: Voice, pace: Pace) -> None:
    cache = Path.home() / ".cache/vllm/torch_compile_cache/simulated/rank_0_0/backbone"
    voice.info("backends.py:1105", f"Using cache directory: {cache} for vLLM's torch.compile")
    tracing = await pace.pause(0.07)
    voice.info("backends.py:1167", f"Dynamo bytecode transform time: {tracing:.2f} s")
    compiling = await pace.pause(0.15)
    voice.info("backends.py:399", f"Compiling a graph for compile range (1, 8192) takes {compiling:.2f} s")
    voice.info("monitor.py:20", f"torch.compile took {tracing + compiling:.2f} s in total")


def allocate(worker: Voice, core: Voice, settings: Settings, fit: Fit) -> None:
    worker.info("gpu_worker.py:760", f"Available KV cache memory: {fit.kv_cache:.2f} GiB")
    if settings.text("max-model-len") in ("auto", "-1"):
        text = f"Auto-fit max_model_len: full model context length {DERIVED_CONTEXT} fits in available GPU memory"
        core.info("kv_cache_utils.py:2469", text)
    per_request = f"Maximum concurrency for {fit.context:,} tokens per request: {fit.kv_tokens / fit.context:.2f}x"
    core.info("kv_cache_utils.py:2327", f"GPU KV cache size: {fit.kv_tokens:,} tokens, {per_request}")


async def capture(worker: Voice, core: Voice, settings: Settings, pace: Pace) -> None:
    """Capture CUDA graphs, with another bar, and finish the engine."""
    if not settings.has("enforce-eager"):
        seconds = 0.0
        for done in (0, 17, 34, 51):
            seconds += await pace.pause(0.04)
            bar = f"{100 * done // 51:3d}%|{'█' * (done * 10 // 51):<10}| {done}/51"
            worker.raw(f"\rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE): {bar}")
        worker.info("model_runner.py:1128", f"Graph capturing finished in {seconds:.0f} secs, took 0.61 GiB")
    core.info("core.py:386", f"init engine (profile, create kv cache, warmup model) took {pace.seconds * 0.4:.2f} s")


def announce(voice: Voice, settings: Settings) -> None:
    host = settings.text("host", "0.0.0.0")  # noqa: S104 - vLLM's default, said and not done
    voice.info("entry.py:140", f"Starting vLLM server on http://{host}:{settings.text('port', '8000')}")


async def spam(voice: Voice, settings: Settings) -> None:
    """Fill the log as a busy server does, as fast as `--simulate spam=LINES` says."""
    lines_per_second = float(settings.simulated("spam") or 0)
    batch = max(round(lines_per_second / 20), 1)
    count = 0
    while lines_per_second:
        for _ in range(batch):
            count += 1
            voice.info("loggers.py:259", f"Engine 000: line {count}, Avg generation throughput: 100.0 tokens/s")
        await asyncio.sleep(batch / lines_per_second)


def say_goodbye(voice: Voice) -> None:
    voice.uvicorn("Shutting down")
    voice.uvicorn("Waiting for application shutdown.")
    voice.uvicorn("Application shutdown complete.")
    voice.uvicorn(f"Finished server process [{os.getpid()}]")
    sys.stdout.flush()
