"""The order of remedies knows the generation of the pod's GPUs, and which options its vLLM has."""

from dataclasses import replace

import pytest

from pi_cli.diagnosis import causes
from pi_cli.diagnosis.causes import Cause
from pi_cli.models import start_errors
from pi_cli.store.records import Gpu, Pod
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import COMMAND, MODEL

FP8_EXPERTS = (
    "triton.compiler.errors.CompilationError: at 1:0:\ndef fused_moe_kernel(\n^\n"
    "ValueError(\"type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15')\")"
)
NO_IMAGE = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
FLASHINFER = "RuntimeError: No supported CUDA architectures found for major versions [10]."
SHARED_MEMORY = (
    "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: {}"
)
ONLY_W4A16 = "AssertionError: Supports only mxfp4_w4a16"


def hint(error: str, capability: tuple[int, int] | None, *, lacking: tuple[str, ...] = ()) -> str:
    command = replace(COMMAND, capability=capability, lacking=lacking)
    cause: Cause | None = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=command)
    assert cause
    assert cause.hint
    return cause.hint


@pytest.mark.parametrize(
    ("error", "capability", "begins", "without"),
    [
        (FP8_EXPERTS, (7, 0), "choose another form of the model, for this GPU GPTQ, or one in 16 bits", "marlin"),
        (FP8_EXPERTS, (7, 5), "use the kernels that need no newer GPU", "nightly"),
        (FP8_EXPERTS, (8, 6), "use the kernels that need no newer GPU", "nightly"),
        (NO_IMAGE, (12, 0), "install a newer vLLM with `pi pods setup dc1 --vllm nightly`", "NVFP4"),
        (NO_IMAGE, (10, 0), "install a newer vLLM", "AWQ"),
        (NO_IMAGE, (7, 0), "choose another form of the model", "nightly"),
        (NO_IMAGE, (9, 0), "choose another form of the model, for this GPU FP8, AWQ or GPTQ", "NVFP4"),
        (ONLY_W4A16, (8, 0), "choose another form of the model, for this GPU AWQ or GPTQ", "NVFP4"),
        (ONLY_W4A16, (7, 0), "choose another form of the model", "nightly"),
        (FLASHINFER, (12, 1), "use another attention backend", "FLASH_ATTN`"),
        (SHARED_MEMORY.format(101376), (8, 9), "use another attention backend", "TRITON_ATTN"),
        (SHARED_MEMORY.format(65536), None, "use another attention backend", "FLASH_ATTN`"),
        (SHARED_MEMORY.format(98304), (7, 0), "use another attention backend", "FLASHINFER"),
    ],
)
def test_what_helps_this_generation_comes_first(
    error: str, capability: tuple[int, int] | None, begins: str, without: str
) -> None:
    found = hint(error, capability)
    assert found.startswith(begins), found
    assert without not in found, found


def test_an_older_vllm_has_a_variable_in_place_of_the_option() -> None:
    found = hint(FLASHINFER, (12, 0), lacking=("--attention-backend", "--moe-backend"))
    assert "--env VLLM_ATTENTION_BACKEND=TRITON_ATTN" in found
    assert "--attention-backend" not in found
    assert "--moe-backend" not in hint(FP8_EXPERTS, (8, 6), lacking=("--moe-backend",))


def test_what_was_tried_is_not_offered_again() -> None:
    command = replace(COMMAND, capability=(8, 0)).with_vllm_option(["--attention-backend"], "TRITON_ATTN")
    cause = causes.find(of_the_engine(FLASHINFER), pod="dc1", model=MODEL, command=command)
    assert cause
    assert "--attention-backend FLASH_ATTN" in (cause.hint or "")


def test_the_oldest_gpu_of_the_pod_counts() -> None:
    gpus = [Gpu(0, "NVIDIA H100 80GB HBM3", "80GB"), Gpu(1, "NVIDIA A100-SXM4-80GB", "80GB")]
    assert start_errors.on_pod(COMMAND, Pod("ssh x", gpus=gpus)).capability == (8, 0)
    unknown = [*gpus, Gpu(2, "NVIDIA Z1000", "1GB")]
    assert start_errors.on_pod(COMMAND, Pod("ssh x", gpus=unknown)).capability is None
