"""What vLLM advises in a message of its own is handed on, as the next command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.diagnosis import advice, causes
from pi_cli.diagnosis.advice import Advice
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import AS_OWN, COMMAND, MODEL, START
from tests.properties import PROPERTY

WITHOUT_TOOLS = f"{START} --vllm --tool-call-parser hermes --max-model-len auto"


def in_env(assignment: str) -> str:
    return f"as vLLM advises: `{START} --env {assignment}`"


def hint_of(error: str, *, with_command: bool = True) -> str | None:
    command = COMMAND if with_command else None
    cause = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=command)
    assert cause
    assert not cause.is_known
    return cause.hint


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "RuntimeError: the cache is full. Set VLLM_CPU_KVCACHE_SPACE=40 to make it larger.",
            in_env("VLLM_CPU_KVCACHE_SPACE=40"),
        ),
        (
            "ValueError: Disable this check by setting `VLLM_ALLOW_LONG_MAX_MODEL_LEN=1`",
            in_env("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"),
        ),
        (
            "ValueError: this layer has no kernel for float16. Please use --dtype bfloat16 instead.",
            f"as vLLM advises: `{AS_OWN} --dtype bfloat16`",
        ),
        (
            "ValueError: prefix caching is not supported here, please disable it by passing --no-enable-prefix-caching",
            f"as vLLM advises: `{AS_OWN} --no-enable-prefix-caching`",
        ),
        (
            "ValueError: no caching of prefixes here. Disable prefix caching with --no-enable-prefix-caching.",
            f"as vLLM advises: `{AS_OWN} --no-enable-prefix-caching`",
        ),
        (
            "ValueError: this attention cannot do that. Use --attention-backend FLASH_ATTN or TRITON_ATTN instead.",
            f"as vLLM advises: `{AS_OWN} --attention-backend FLASH_ATTN`",
        ),
        (
            "ValueError: x is not supported with y. Use `--quantization fp8_per_tensor` instead",
            f"as vLLM advises: `{AS_OWN} --quantization fp8_per_tensor`",
        ),
        (
            "ValueError: MLA has no such cache, use a different --kv-cache-dtype",
            "change `--kv-cache-dtype` after `--vllm`, as vLLM advises",
        ),
        (
            "NotImplementedError: no parser reads these calls. Disable --enable-auto-tool-choice or wait",
            f"leave out `--enable-auto-tool-choice`, as vLLM advises: `{WITHOUT_TOOLS}`",
        ),
        (
            "ValueError: no hybrids here, pass --disable-hybrid-kv-cache-manager",
            f"as vLLM advises: `{AS_OWN} --disable-hybrid-kv-cache-manager`",
        ),
        (
            "ValueError: the graphs are too large: try decreasing `max_num_seqs` when initializing the engine",
            "lower `--max-num-seqs` after `--vllm`, as vLLM advises",
        ),
        (
            "ValueError: no room for the cache. Try increasing `gpu_memory_utilization`.",
            "raise `--memory`, as vLLM advises",
        ),
        (
            "ValueError: the prompt's budget (4096) is larger than max_num_batched_tokens (2048)",
            f"as vLLM advises: `{AS_OWN} --max-num-batched-tokens 4096`",
        ),
        (
            "ValueError: the adapter's rank 48 is greater than max_lora_rank 16, which is not enough",
            f"as vLLM advises: `{AS_OWN} --max-lora-rank 64`",
        ),
    ],
    ids=lambda text: text[:40] if text.startswith(("R", "V")) else "",
)
def test_advice_is_the_next_command(error: str, hint: str) -> None:
    assert hint_of(error) == hint
    without_command = hint_of(error, with_command=False)
    assert without_command
    assert START not in without_command


@pytest.mark.parametrize(
    "message",
    [
        "Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace, or TORCH_LOGS=+dynamo",
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1",
        "set HF_ENDPOINT=mirror to use another Hub",  # a model's own code writes to the log too
        "please set HF_TOKEN=abc",
        "set LD_PRELOAD=/tmp/x.so",
        "use --no-such-option 3",
        "please set the_thing_in_question to 4",
        "please do not specify `--enable-mamba-cache-stochastic-rounding`",
        "max_long_partial_prefills can only be set with --enable-prefix-caching",
        "specify only one of 'block_size' or 'blocks_per_chunk'",
        "passing worker_cls is no longer supported",
        "use the default --load-format",
        "set --nnodes 2 and --node-rank 1",
        "start it with another `--api-key`, or set --port 8000",
        "max_num_seqs (4) is larger than max_num_batched_tokens (8)",  # it is not
    ],
)
def test_what_repairs_nothing_is_not_advised(message: str) -> None:
    assert advice.find(message) is None


def test_a_word_behind_an_option_is_not_its_value() -> None:
    assert advice.find("use --max-num-seqs instead") == Advice("--max-num-seqs")
    assert advice.find("please set --dtype correctly") == Advice("--dtype")


@PROPERTY
@given(st.text())
def test_any_message_can_be_searched(message: str) -> None:
    found = advice.find(f"set {message} use --dtype {message}")
    if found:
        assert advice.offered(found, COMMAND).hint


@pytest.mark.parametrize(
    "error",
    [
        "AssertionError: the size should be set as the default (1) for VLLM_RAY_DP_PACK_STRATEGY=span.",
        "ValueError: pass the body in the standard 'chat_template' request field instead",
        "ValueError: Set VLLM_USE_RAY_V2_EXECUTOR_BACKEND=1 to use the other executor",
    ],
    ids=["the present value", "of a request", "set by pi"],
)
def test_what_pi_cannot_or_must_not_do_is_not_handed_on(error: str) -> None:
    assert hint_of(error) is None
