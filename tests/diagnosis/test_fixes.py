"""Which of the offered commands are tried without the user: never another model, key, or access to it."""

from dataclasses import replace

import pytest

from pi_cli.diagnosis import causes, fixes
from pi_cli.diagnosis.start_command import StartCommand
from tests.diagnosis import failure_rows, kernel_rows
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import COMMAND, MODEL, Row
from tests.every import every

OWN = replace(COMMAND, own_arguments=("--max-model-len", "8k"), planned_arguments=())


def offered(error: str, command: StartCommand = COMMAND) -> StartCommand | None:
    cause = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=command)
    return fixes.choose(command, cause.starts, []) if cause else None


@every([*failure_rows.ROWS, *kernel_rows.ROWS])
def test_a_fix_is_a_command_of_the_hint_and_serves_the_same(row: Row) -> None:
    start = offered(row.error)
    if start is None:
        return
    assert f"`{' '.join(start.argv)}`" in row.hint.replace("'", "")
    assert (start.model, start.name, start.pod, start.other_options) == (
        *(COMMAND.model, COMMAND.name, COMMAND.pod, COMMAND.other_options),
    )
    assert "--trust-remote-code" not in start.argv


@pytest.mark.parametrize(
    "start",
    [
        replace(COMMAND, model="other/model"),
        replace(COMMAND, name="x"),
        replace(COMMAND, pod="dc2"),
        replace(COMMAND, other_options=("--private",)),
        COMMAND.with_vllm_option(["--trust-remote-code"]),
        COMMAND.with_vllm_option(["--api-key"], "x"),
        COMMAND.with_vllm_option(["--host"], "0.0.0.0"),
        COMMAND.with_vllm_option(["--allowed-origins"], '["*"]'),
        COMMAND.with_vllm_option(["--quantization"], "fp8"),
        COMMAND.with_vllm_option(["--tool-parser-plugin"], "/tmp/x.py"),
        COMMAND.with_variables(["VLLM_ALLOW_INSECURE_SERIALIZATION=1"]),
        COMMAND.with_variables(["VLLM_SERVER_DEV_MODE=1"]),
        COMMAND.with_variables(["FLASHINFER_DISABLE_VERSION_CHECK=1"]),
        COMMAND.with_variables(["HF_HUB_OFFLINE=0"]),
        COMMAND.with_variables(["HF_ENDPOINT=http://10.0.0.1"]),
        OWN.with_vllm_option(["--trust-remote-code"]),
    ],
    ids=lambda start: " ".join(start.argv[3:]),
)
def test_what_is_served_and_to_whom_does_not_change(start: StartCommand) -> None:
    typed = OWN if start.own_arguments and "8k" in start.own_arguments else COMMAND
    assert not fixes.is_safe(typed, start)
    assert fixes.choose(typed, [start, typed.with_context(4096)], []) == typed.with_context(4096)


def test_an_advice_of_a_log_opens_nothing() -> None:
    """A model's own code writes to the log too."""
    for said in ("set VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "pass `--trust-remote-code`", "use --allow-credentials"):
        assert offered(f"ValueError: it does not work; {said} to go on") is None, said


def test_what_was_tried_is_not_tried_again() -> None:
    first, second = COMMAND.with_context(4096), COMMAND.with_variables(["VLLM_USE_DEEP_GEMM=0"])
    assert fixes.choose(COMMAND, [first, second], []) == first
    assert fixes.choose(COMMAND, [first, second], [first]) == second
    assert fixes.choose(COMMAND, [first, second], [first, second]) is None


def test_a_start_after_a_setup_is_not_a_fix() -> None:
    assert offered("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'") is None
    assert offered("RuntimeError: CUDA error: no kernel image is available for execution on the device") is None
