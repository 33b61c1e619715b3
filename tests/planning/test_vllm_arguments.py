"""vLLM's argument lists, as the planner reads and changes them."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import vllm_arguments
from pi_cli.planning.vllm_arguments import Options


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", Options()),
        ("-tp 2 -pp 2 -dp 4 -ep", Options(tensor=2, pipeline=2, data=4, is_expert_parallel=True)),
        ("--tensor_parallel_size=2 --tensor-parallel-size 4", Options(tensor=4)),
        ("--max-model-len 128k", Options(context=128_000)),
        ("--max-model-len=128K", Options(context=131_072)),
        ("--max-model-len auto", Options(is_context_auto=True)),
        ("--max-model-len -1", Options(is_context_auto=True)),
        ("--gpu-memory-utilization 0.5 --kv-cache-dtype fp8_e4m3", Options(memory=0.5, kv_bytes=1)),
        ("--device-memory-utilization 0.7 --max-num-batched-tokens 16K", Options(memory=0.7, batched_tokens=16384)),
        ("-tp two --gpu-memory-utilization 7 --max-model-len", Options()),
    ],
)
def test_what_they_say_about_memory_and_parallelism_is_read(words: str, options: Options) -> None:
    assert vllm_arguments.parse(words.split()) == options


def test_options_are_taken_out_with_their_values_in_any_spelling() -> None:
    words = ["--a", "1", "-tp", "2", "--max_model_len=9", "--list", "x", "y", "--max-model-len", "-1", "--b"]
    assert vllm_arguments.without(words, vllm_arguments.TENSOR_PARALLEL, vllm_arguments.CONTEXT_LENGTH) == (
        "--a",
        "1",
        "--list",
        "x",
        "y",
        "--b",
    )


@pytest.mark.parametrize("word", ["--port", "--port=1", "--api_key", "--api-key=x", "--served_model_name", "--uds"])
def test_what_pi_sets_itself_is_refused_in_any_spelling(word: str) -> None:
    with pytest.raises(BadUsage, match="cannot be given after `--vllm`"):
        vllm_arguments.refuse_options_of_pi(["--enforce-eager", word, "1"])
    vllm_arguments.refuse_options_of_pi(["--portable", "--hosts", "--api-keys"])
