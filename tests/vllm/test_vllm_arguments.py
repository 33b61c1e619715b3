"""How the planner parses and changes vLLM's arguments."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.vllm_arguments import Options


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("", Options()),
        ("-tp 2 -pp 2 -dp 4 -ep", Options(tensor=2, pipeline=2, data=4, is_expert_parallel=True)),
        ("--tensor_parallel_size=2 --tensor-parallel-size 4", Options(tensor=4)),
        ("-tp 4 -pcp 2", Options(tensor=4, prefill=2)),
        ("-dp 4 --data-parallel-size-local=2", Options(data=2)),
        ("--max-model-len 128k", Options(context=128_000)),
        ("--max-model-len=128K", Options(context=131_072)),
        ("--max-model-len auto", Options(is_context_auto=True)),
        ("--max-model-len -1", Options(is_context_auto=True)),
        ("--gpu-memory-utilization 0.5 --kv-cache-dtype fp8_e4m3", Options(memory=0.5, kv_bytes=1)),
        ("--device-memory-utilization 0.7 --max-num-batched-tokens 16K", Options(memory=0.7, batched_tokens=16384)),
        ("-tp two --gpu-memory-utilization 7 --max-model-len", Options()),
    ],
)
def test_memory_and_parallelism_are_parsed(arguments: str, options: Options) -> None:
    assert vllm_arguments.parse(arguments.split()) == options


def test_options_are_removed_with_their_values_in_any_spelling() -> None:
    arguments = ["--a", "1", "-tp", "2", "--max_model_len=9", "--list", "x", "y", "--max-model-len", "-1", "--b"]
    assert vllm_arguments.without(arguments, vllm_arguments.TENSOR_PARALLEL, vllm_arguments.CONTEXT_LENGTH) == (
        "--a",
        "1",
        "--list",
        "x",
        "y",
        "--b",
    )


@pytest.mark.parametrize(
    "option",
    [
        "--port",
        "--port=1",
        "--api_key",
        "--api-key=x",
        "--served_model_name",
        "--uds",
        "--api-k",
        "--hos=0.0.0.0",
        "--po",
    ],
)
def test_options_that_pi_sets_itself_are_refused_in_any_spelling(option: str) -> None:
    with pytest.raises(BadUsage, match="cannot be given after `--vllm`"):
        vllm_arguments.refuse_options_of_pi(["--enforce-eager", option, "1"])
    vllm_arguments.refuse_options_of_pi(["--portable", "--hosts", "--api-keys"])
