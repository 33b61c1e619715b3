"""What to do about a failed start: for every known cause, in real messages, the command to type next."""

import re
import shlex
from typing import Any

import pytest
import typer

from pi_cli import hints
from pi_cli.commands import main
from pi_cli.commands.app import app
from pi_cli.demo.engine import failures
from pi_cli.diagnosis import causes, log_statements
from pi_cli.diagnosis.causes import Cause
from pi_cli.diagnosis.known_cause import REFUSED_ARGUMENTS, KnownCause
from pi_cli.diagnosis.start_command import StartCommand
from tests.diagnosis import failure_rows, kernel_rows, public_rows
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import COMMAND, MODEL, START, Row, simulated
from tests.every import every

ROWS = (*failure_rows.ROWS, *kernel_rows.ROWS)
OWN = StartCommand(
    MODEL,
    "q",
    pod="dc1",
    own_arguments=("-tp", "2", "--max_model_len=131072", "--gpu-memory-utilization", "0.95"),
    pod_gpus=4,
)


def cause_of(error: str, command: StartCommand | None = COMMAND) -> Cause:
    cause = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=command)
    assert cause is not None
    return cause


@every(ROWS)
def test_a_known_cause_has_a_summary_and_a_hint(row: Row) -> None:
    """Fault 20."""
    assert (cause_of(row.error).summary, cause_of(row.error).hint) == (row.summary, row.hint)


@every(ROWS)
def test_without_the_users_command_there_is_still_a_hint(row: Row) -> None:
    cause = cause_of(row.error, None)
    assert cause.summary == row.summary
    assert cause.hint
    assert "{" not in cause.hint
    assert START not in cause.hint


@every(causes.KNOWN_CAUSES, lambda known: known.summary)
def test_every_known_cause_has_a_row(known: KnownCause) -> None:
    errors = [*(row.error for row in ROWS), *(row.error for row in public_rows.ROWS)]
    texts = [each.text for error in errors for each in log_statements.parse(error)]
    assert any(re.search(known.pattern, text) for text in texts)


def test_any_rejected_setting_is_reported_with_the_reason() -> None:
    error = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, "
        "`decode_context_parallel_size` must divide `tensor_parallel_size`. [type=value_error, input_value=…]"
    )
    assert re.search(REFUSED_ARGUMENTS.pattern, error)
    reason = "'decode_context_parallel_size' must divide 'tensor_parallel_size'."
    assert cause_of(error).summary == f"vLLM rejected its arguments (ParallelConfig): {reason}"
    assert cause_of(error, OWN).hint == "correct the arguments after `--vllm` and start again"
    assert (cause_of(error).hint or "").startswith("pi chose these arguments, not you: please report it")


# The user's own arguments: one of them is replaced, added or removed, the others do not change

GPU_BUSY = next(row.error for row in ROWS if "Free memory on device" in row.error)
OWN_START = f"pi start {MODEL} --name q --pod dc1 --vllm"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            simulated("kv-cache"),
            ("start it with a shorter context: "
            f"`{OWN_START} -tp 2 --max-model-len 16256 --gpu-memory-utilization 0.95`; or start it on more GPUs: "
            f"`{OWN_START} --tensor-parallel-size 4 --max_model_len=131072 --gpu-memory-utilization 0.95`"),
        ),
        (
            GPU_BUSY,
            ("see what uses it with `pi list` and `pi ssh dc1 nvidia-smi`, or start it with the memory that is free: "
            f"`{OWN_START} -tp 2 --max_model_len=131072 --gpu-memory-utilization 0.52`"),
        ),
        (
            simulated("fp8-block"),
            ("do not split its experts: `"
            f"{OWN_START} -tp 2 --max_model_len=131072 --gpu-memory-utilization 0.95 --enable-expert-parallel`; "
            f"or use half the GPUs: `{OWN_START} --tensor-parallel-size 1 --max_model_len=131072 "
            "--gpu-memory-utilization 0.95`"),
        ),
    ],
    ids=["context", "memory", "experts"],
)  # fmt: skip
def test_only_one_of_the_users_own_arguments_changes(error: str, hint: str) -> None:
    assert cause_of(error, OWN).hint == hint


@pytest.mark.parametrize(
    ("own", "error", "hint"),
    [
        (
            ["--bogus", "1", "--max-model-len", "4096"],
            "vllm: error: unrecognized arguments: --bogus 1",
            f"leave it out: `{START} --vllm --max-model-len 4096`",
        ),
        (
            ["--disable-log-requests", "--seed", "1"],
            "vllm: error: unrecognized arguments: --disable-log-requests",
            ("it is called `--no-enable-log-requests` now: "
            f"`{START} --vllm --seed 1 --no-enable-log-requests`"),
        ),
        (
            ["--dtype=fp16"],
            "vllm serve: error: argument --dtype: invalid choice: 'fp16' (choose from 'auto', 'bfloat16', 'float16')",
            f"did you mean `float16`? `{START} --vllm --dtype float16`",
        ),
        (
            ["--reasoning-parser", "qwen"],
            "KeyError: \"Reasoning parser 'qwen' not found. Available parsers: mistral, qwen3, step3\"",
            f"did you mean `qwen3`? `{START} --vllm --reasoning-parser qwen3`",
        ),
        (
            ["--chat-template", "a b.jinja"],
            "ValueError: The supplied chat template string (a b.jinja) appears path-like, but doesn't exist! Tried: x",
            f"give a path that exists on the pod, or use the model's own: `{START} --vllm`",
        ),
        (
            ["--gpu-memory-utilization", "0.4"],
            simulated("oom"),
            f"start it with all of the memory: `{START} --vllm`",
        ),
        (
            ["-tp", "4"],
            simulated("oom"),
            "choose a smaller or quantised model: `pi models --pod dc1` shows what fits",
        ),
        (
            ["-tp", "2", "-dp", "4"],
            simulated("dp-ranks").replace("2 devices", "4 devices"),
            f"use fewer ranks: `{START} --vllm -tp 2 --data-parallel-size 2`",
        ),
        (
            ["--override-generation-config", '{"a": "it\'s $HOME"}'],
            simulated("bf16"),
            (f"use float16: `{START} --vllm --override-generation-config "
            """'{"a": "it'"'"'s $HOME"}' --dtype half`"""),
        ),
    ],
)  # fmt: skip
def test_an_argument_after_vllm_is_corrected(own: list[str], error: str, hint: str) -> None:
    assert cause_of(error, StartCommand(MODEL, "q", own_arguments=tuple(own), pod_gpus=4)).hint == hint


# Everything else in the command stays


def test_the_command_has_all_that_the_user_typed() -> None:
    start = StartCommand(
        "a b/c", "q", pod="dc1", gpus=2, memory="50%", context="64k", other_options=("--detach", "--timeout", "20m")
    )
    pasted = "pi start 'a b/c' --name q --pod dc1 --gpus 2 --memory 50% --context 64k --detach --timeout 20m"
    assert hints.command(*start.argv) == pasted
    assert hints.command(*start.with_context(16256).argv) == pasted.replace("64k", "16256")
    assert hints.command(*StartCommand("m", "q", own_arguments=()).argv) == "pi start m --name q --vllm"


def test_all_of_the_memory_is_offered_before_more_gpus() -> None:
    shared = StartCommand(MODEL, "q", memory="30%", planned_arguments=("--gpu-memory-utilization", "0.30"), pod_gpus=4)
    assert cause_of(simulated("oom"), shared).hint == f"start it with all of the memory: `{START}`"


def test_no_start_on_a_full_gpu_is_offered() -> None:
    full = failures.GPU_BUSY.text.replace("{free}", "1.25").replace("{total}", "79.65").replace("{device}", "cuda:0")
    assert START not in (cause_of(full).hint or "")


def test_on_a_cpu_pod_neither_gpus_nor_a_nightly_build_are_offered() -> None:
    cpu = StartCommand(MODEL, "q", planned_arguments=("--max-model-len", "auto"))
    busy = next(row.error for row in ROWS if "Available memory on node" in row.error)
    hint = f"start it with the memory that is free: `{START} --vllm --max-model-len auto --gpu-memory-utilization 0.24`"
    assert cause_of(busy, cpu).hint == hint
    assert cause_of(simulated("no-kv"), cpu).hint == "choose a smaller or quantised model: `pi models` shows what fits"
    assert (
        cause_of(simulated("unknown-arch"), cpu).hint == "install a newer vLLM with `pi pods setup dc1 --vllm nightly`"
    )


def test_a_damaged_folder_of_the_user_is_not_deleted() -> None:
    damaged = "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"
    hint = cause_of(damaged, StartCommand("/models/my own", "q", pod_gpus=1)).hint or ""
    assert hint == "copy `/models/my own` to `dc1` again, then `pi start '/models/my own' --name q`"


# Figures and names from a log that make no sense


@pytest.mark.parametrize(
    "error",
    [
        "AssertionError: 0 is not divisible by 4",
        f"AssertionError: {10**18 + 9} is not divisible by {10**18}",
        f"AssertionError: {'9' * 10_000} is not divisible by 4",
        "ValueError: World size (8) is larger than the number of available GPUs (0)",
        "ValueError: Free memory on device cuda:0 (1.2.3/0 GiB) on startup is less than",
        "ValueError: Free memory on device cuda:0 (0/0 GiB) on startup is less than",
        f"ValueError: Free memory on device cuda:0 ({'9' * 500}/{'9' * 500} GiB) on startup is less than",
        "DP adjusted local rank 9 is out of bounds for 0 devices",
    ],
    ids=lambda error: error[:60],
)
def test_figures_that_make_no_sense_still_have_a_cause(error: str) -> None:
    assert cause_of(error).summary
    assert cause_of(error, OWN).summary


def test_an_option_that_the_log_lists_as_a_value_is_never_offered() -> None:
    error = "KeyError: 'invalid tool call parser: hermesx (chose from { --hermes,mistral })'"
    start = StartCommand(MODEL, "q", own_arguments=("--tool-call-parser", "hermesx"), pod_gpus=4)
    assert cause_of(error, start).hint == f"did you mean `hermes`? `{START} --vllm --tool-call-parser hermes`"


# pi parses the commands that it offers


def commands(hint: str) -> list[list[str]]:
    return [shlex.split(command)[1:] for command in re.findall(r"`(pi [^`]*)`", hint)]


@every([(row, start) for row in ROWS for start in (COMMAND, OWN, None)], lambda case: f"{case[0]}; typed: {case[1]}")
def test_every_offered_command_can_be_parsed(row: Row, start: StartCommand | None) -> None:
    for argv in commands(cause_of(row.error, start).hint or ""):
        command: Any = typer.main.get_command(app)
        rest = main.separate_vllm_arguments(argv)
        while rest and rest[0] in getattr(command, "commands", ()):
            command, rest = command.get_command(None, rest[0]), rest[1:]
        parsed = command.make_context(command.name, rest).params
        if argv[0] == "start":
            assert (parsed["model"], parsed["name"]) == (MODEL, "q")
