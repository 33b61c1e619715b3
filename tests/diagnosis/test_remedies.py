"""What to do about a failed start: for every failure we know, in real words, the command to type next."""

import re
import shlex
from typing import Any

import pytest
import typer

from pi_cli.commands import main
from pi_cli.commands.app import app
from pi_cli.demo.engine import failures
from pi_cli.diagnosis import causes, log_statements
from pi_cli.diagnosis.causes import Cause
from pi_cli.diagnosis.known_cause import REFUSED_ARGUMENTS, KnownCause
from pi_cli.diagnosis.start_command import StartCommand
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import MODEL, ROWS, START, TYPED, Row, simulated

OWN = StartCommand(
    MODEL,
    "q",
    pod="dc1",
    own_arguments=("-tp", "2", "--max_model_len=131072", "--gpu-memory-utilization", "0.95"),
    pod_gpus=4,
)


def cause_of(error: str, typed: StartCommand | None = TYPED) -> Cause:
    cause = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=typed)
    assert cause is not None
    return cause


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_known_failure_is_told_in_words_and_with_what_to_type(row: Row) -> None:
    """Fault 20."""
    assert (cause_of(row.error).summary, cause_of(row.error).hint) == (row.summary, row.hint)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_without_what_was_typed_there_is_still_a_hint(row: Row) -> None:
    cause = cause_of(row.error, None)
    assert cause.summary == row.summary
    assert cause.hint
    assert "{" not in cause.hint
    assert START not in cause.hint


@pytest.mark.parametrize("known", causes.KNOWN_CAUSES, ids=lambda known: known.summary)
def test_every_failure_that_we_know_has_its_row(known: KnownCause) -> None:
    texts = [each.text for row in ROWS for each in log_statements.parse(row.error)]
    assert any(re.search(known.pattern, text) for text in texts)


def test_what_vllm_refuses_in_general_is_told_with_its_reason() -> None:
    error = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, "
        "`decode_context_parallel_size` must divide `tensor_parallel_size`. [type=value_error, input_value=…]"
    )
    assert re.search(REFUSED_ARGUMENTS.pattern, error)
    told = "`decode_context_parallel_size` must divide `tensor_parallel_size`."
    assert cause_of(error).summary == f"vLLM refused its arguments (ParallelConfig): {told}"


# The user's own arguments: one of them is replaced, added or taken out, the others stay as they are

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
            ("see what holds it with `pi list` and `pi ssh dc1 nvidia-smi`, or start it with what is free: "
            f"`{OWN_START} -tp 2 --max_model_len=131072 --gpu-memory-utilization 0.52`"),
        ),
        (
            simulated("fp8-block"),
            ("leave its experts whole: `"
            f"{OWN_START} -tp 2 --max_model_len=131072 --gpu-memory-utilization 0.95 --enable-expert-parallel`; "
            f"or use half the GPUs: `{OWN_START} --tensor-parallel-size 1 --max_model_len=131072 "
            "--gpu-memory-utilization 0.95`"),
        ),
    ],
    ids=["context", "memory", "experts"],
)  # fmt: skip
def test_own_arguments_stay_but_for_one(error: str, hint: str) -> None:
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
            (f"take float16: `{START} --vllm --override-generation-config "
            """'{"a": "it'"'"'s $HOME"}' --dtype half`"""),
        ),
    ],
)  # fmt: skip
def test_what_was_typed_after_vllm_is_mended(own: list[str], error: str, hint: str) -> None:
    assert cause_of(error, StartCommand(MODEL, "q", own_arguments=tuple(own), pod_gpus=4)).hint == hint


# Everything else that was typed stays


def test_the_command_is_the_one_that_was_typed() -> None:
    typed = StartCommand(
        "a b/c", "q", pod="dc1", gpus=2, memory="50%", context="64k", other_options=("--detach", "--timeout", "20m")
    )
    command = "pi start 'a b/c' --name q --pod dc1 --gpus 2 --memory 50% --context 64k --detach --timeout 20m"
    assert typed.command == command
    assert typed.with_context(16256).command == command.replace("64k", "16256")
    assert StartCommand("m", "q", own_arguments=()).command == "pi start m --name q --vllm"


def test_a_share_of_the_memory_is_given_up_before_more_gpus_are_taken() -> None:
    shared = StartCommand(MODEL, "q", memory="30%", planned_arguments=("--gpu-memory-utilization", "0.30"), pod_gpus=4)
    assert cause_of(simulated("oom"), shared).hint == f"start it with all of the memory: `{START}`"


def test_a_gpu_that_is_full_is_not_started_on() -> None:
    full = failures.GPU_BUSY.text.replace("{free}", "1.25").replace("{total}", "79.65").replace("{device}", "cuda:0")
    assert START not in (cause_of(full).hint or "")


def test_on_a_cpu_pod_there_are_no_gpus_to_offer_and_no_nightly_build() -> None:
    cpu = StartCommand(MODEL, "q", planned_arguments=("--max-model-len", "auto"))
    busy = next(row.error for row in ROWS if "Available memory on node" in row.error)
    told = f"start it with what is free: `{START} --vllm --max-model-len auto --gpu-memory-utilization 0.24`"
    assert cause_of(busy, cpu).hint == told
    assert cause_of(simulated("no-kv"), cpu).hint == "choose a smaller or quantised model: `pi models` shows what fits"
    assert cause_of(simulated("unknown-arch"), cpu).hint == "get a newer vLLM with `pi pods setup dc1 --vllm nightly`"


def test_a_damaged_folder_of_the_users_own_is_not_deleted() -> None:
    damaged = "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"
    hint = cause_of(damaged, StartCommand("/models/my own", "q", pod_gpus=1)).hint or ""
    assert hint == "copy '/models/my own' to `dc1` again, then `pi start '/models/my own' --name q`"


# pi understands what it tells people to type


def commands(hint: str) -> list[list[str]]:
    return [shlex.split(each)[1:] for each in re.findall(r"`(pi [^`]*)`", hint)]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("typed", [TYPED, OWN, None], ids=["planned", "own", "nothing"])
def test_what_is_to_be_typed_is_understood(row: Row, typed: StartCommand | None) -> None:
    for words in commands(cause_of(row.error, typed).hint or ""):
        command: Any = typer.main.get_command(app)
        rest = main.open_vllm_arguments(words)
        while rest and rest[0] in getattr(command, "commands", ()):
            command, rest = command.get_command(None, rest[0]), rest[1:]
        parsed = command.make_context(command.name, rest).params
        if words[0] == "start":
            assert (parsed["model"], parsed["name"]) == (MODEL, "q")
