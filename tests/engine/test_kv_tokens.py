"""The planner's KV tokens against those of a real vLLM, for tiny models of every kind of attention."""

import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from pi_cli.planning import architecture, kv_cache
from tests.engine.conftest import Engine
from tests.lab import tiny_models

pytestmark = pytest.mark.timeout(300)

SPACE = 64 * 2**20
LITTLE = SPACE // 32
CONTEXT = 2048
BATCH = 512

# Starts vLLM's engine with each model, its weights random: the numbers are those it prints when it serves. One process
# for all, and their classes given to it, because importing vLLM and looking at a new class in a process of its own
# take most of the time. `longest` is what `--max-model-len auto` gives with little space, and `ahead` what the engine
# would have printed with the asynchronous scheduling of GPUs, both worked out by vLLM for the layers of the model.
# On a CPU with AVX512-BF16 vLLM keeps the states of linear layers in float32, as it does on no GPU (platforms/cpu.py).
# On one with AMX it calls kernels that the wheel does not have.
MEASURE = """
import json, logging, pathlib, sys, torch
torch.cpu._is_amx_tile_supported = lambda: False
torch.cpu._is_avx512_bf16_supported = lambda: False
from vllm import ModelRegistry
from vllm.engine.arg_utils import EngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.core import kv_cache_utils
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor.abstract import Executor

space, little, context, batch = map(int, sys.argv[2:])

def sizes(config, specs):
    kept = kv_cache_utils.get_kv_cache_configs(config, specs, [space])[0]
    return kv_cache_utils.get_kv_cache_capacity(config, kept)

for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    [name] = json.loads((folder / "config.json").read_text())["architectures"]
    ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())
    config = EngineArgs(
        model=str(folder), load_format="dummy", dtype="bfloat16", skip_tokenizer_init=True, enforce_eager=True,
        kv_cache_memory_bytes=space, max_model_len=context, max_num_batched_tokens=batch, max_num_seqs=8,
    ).create_engine_config(UsageContext.OPENAI_API_SERVER)
    engine = EngineCore(config, Executor.get_class(config), log_stats=False)
    cache = config.cache_config
    measured = {"block_tokens": cache.block_size, "tokens": cache.kv_cache_size_tokens}
    measured["concurrency"] = cache.kv_cache_max_concurrency
    specs = engine.model_executor.get_kv_cache_specs()
    config.scheduler_config.async_scheduling = True
    measured["ahead"] = sizes(config, specs)[0]
    config.scheduler_config.async_scheduling = False
    config.model_config.max_model_len = config.model_config.hf_text_config.max_position_embeddings
    config.model_config.original_max_model_len = -1
    kv_cache_utils.get_kv_cache_configs(config, specs, [little])
    measured["longest"] = config.model_config.max_model_len
    print("measured", json.dumps({folder.name: measured}), flush=True)
    engine.shutdown()
"""
ENVIRONMENT = "VLLM_TARGET_DEVICE=cpu VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1"


class Measured(NamedTuple):
    """What vLLM says of a model; `block_tokens` is the block size it took in the end."""

    block_tokens: int
    tokens: int
    concurrency: float
    ahead: int
    longest: int


@pytest.fixture(scope="module")
def measured(engine: Engine) -> dict[str, Measured]:
    assert engine.setup.code == 0, engine.setup.err
    tiny_models.write(engine.pod.home / "tiny-models")
    (engine.pod.home / "measure.py").write_text(MEASURE)
    command = f"{ENVIRONMENT} ~/venv/bin/python measure.py tiny-models {SPACE} {LITTLE} {CONTEXT} {BATCH}"
    done = engine.pod.run(command, timeout=280)
    lines = [line.removeprefix("measured ") for line in done.stdout.splitlines() if line.startswith("measured ")]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = {name: what for line in lines for name, what in json.loads(line).items()}
    return {name: Measured(**what) for name, what in found.items()}


@pytest.mark.parametrize("name", tiny_models.MODELS)
def test_kv_tokens_are_those_that_vllm_prints(measured: dict[str, Measured], name: str) -> None:
    """Within one block per group of layers, says the issue; they are equal."""
    real = measured[name]
    shape = architecture.from_config(tiny_models.MODELS[name])
    layout = kv_cache.Layout(block_tokens=16 if name == "mla" else 128, batched_tokens=BATCH, is_async=False)
    found = kv_cache.capacity(shape, SPACE, layout, context=CONTEXT)
    assert found == kv_cache.Capacity(real.tokens, real.concurrency)
    assert kv_cache.capacity(shape, SPACE, replace(layout, is_async=True), context=CONTEXT).tokens == real.ahead
    assert kv_cache.longest_context(shape, LITTLE, layout) == real.longest
