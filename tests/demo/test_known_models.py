"""The numbers of the demo do not contradict the plan: the stand-in divides the memory as pi expects of a real vLLM."""

import pytest

from pi_cli.demo.engine import chat, checks, known, script
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.gpus import Gpu
from pi_cli.planning import catalogue, fit, gpu_space
from pi_cli.store import records
from pi_cli.vllm import vllm_arguments

H100 = Gpu(0, "NVIDIA H100 80GB HBM3", 81559, "9.0")


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "openai/gpt-oss-20b", "Qwen/Qwen3-30B-A3B"])
def test_the_kv_cache_has_nearly_as_many_tokens_as_the_plan_says(model: str) -> None:
    entry = catalogue.find(model)
    assert entry is not None
    shape = fit.ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture)
    spaces = gpu_space.measure([records.Gpu(0, H100.name, "80GB")], {}, {0: (0, H100.memory)})
    expected = fit.estimate(shape, spaces, vllm_arguments.parse([]))
    layout = checks.lay_out(Settings(model, {}), [H100])
    assert expected.tokens
    assert layout.kv_tokens == pytest.approx(expected.tokens, rel=0.02)
    assert layout.context == expected.context
    assert layout.weights == pytest.approx(expected.memory.weights)


def test_a_model_that_does_not_fit_or_is_not_in_the_catalogue_starts_all_the_same() -> None:
    for model in ("x/unknown-7b", "deepseek-ai/DeepSeek-R1"):
        assert checks.lay_out(Settings(model, {}), [H100]).kv_tokens > 0


def test_the_reasoning_of_gpt_oss_is_separated_without_a_parser_as_in_vllm() -> None:
    turn = script.ANSWERS["What is 2+2?"]
    oss = Settings("openai/gpt-oss-20b", {})
    assert known.thinks(oss)
    deltas = chat.pieces(turn, thinks=True, parses_thinking=known.is_harmony(oss), parses_calls=False)
    assert "".join(delta.get("content", "") for delta in deltas).strip() == "4"
    assert not known.is_harmony(Settings("Qwen/Qwen3-8B", {}))
