"""The kinds of failures that people have reported: other numbers, other frames, the words of other versions.

They hold the general rules: a rule that knows only the reported text fails here.
"""

from typing import NamedTuple

from pi_cli.diagnosis import causes
from tests.diagnosis.engine_log import BEGIN, LAUNCHER, of_the_engine, of_the_server, of_workers, raw, traceback
from tests.diagnosis.failure_rows import COMMAND, MODEL
from tests.every import every


class Variant(NamedTuple):
    """An error with the process that logs it, a part of what has to be shown, and of the remedy."""

    name: str
    where: str
    text: str
    line: str
    remedy: str

    def __str__(self) -> str:
        return self.name

    @property
    def log(self) -> str:
        match self.where:
            case "engine":
                return of_the_engine(self.text)
            case "server":
                return of_the_server(self.text)
            case "workers":
                return of_workers([self.text] * 2)
            case "crash":
                return BEGIN + self.text + raw("APIServer pid=7", traceback(LAUNCHER))
        return self.text


VARIANTS = [
    Variant(
        "802 old wording",
        "workers",
        (
            "RuntimeError: CUDA unexpected error from cudaGetDeviceCount: Error 802: system not "
            "yet initialized (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)"
        ),
        "802",
        "nvidia-fabricmanager",
    ),
    Variant(
        "ptx cublas",
        "engine",
        (
            "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an "
            "unsupported toolchain.\nSearch for `cudaErrorUnsupportedPtxVersion' in "
            "https://docs.nvidia.com"
        ),
        "PTX",
        "driver",
    ),
    Variant(
        "ptxas sm_103a",
        "engine",
        (
            "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen "
            "error\n`ptxas` stderr:\nptxas fatal   : Value 'sm_103a' is not defined for option "
            "'gpu-name'\n\nRepro command: ptxas -lineinfo"
        ),
        "sm_103a",
        "TRITON_PTXAS_PATH",
    ),
    Variant(
        "smem 99328",
        "engine",
        (
            "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: "
            "115712, Hardware limit: 101376. Reducing block sizes or `num_stages` may help."
        ),
        "115712",
        "attention backend",
    ),
    Variant(
        "fp8e4b8",
        "engine",
        (
            "triton.compiler.errors.CompilationError: at 1:0:\ndef "
            'fused_moe_kernel_gptq_awq(\n^\nValueError("type fp8e5 not supported in this '
            "architecture. The supported fp8 dtypes are ('fp8e4b15',)\")"
        ),
        "not supported in this architecture",
        "marlin",
    ),
    Variant(
        "cutlass sm_89",
        "engine",
        (
            "NotImplementedError: No compiled cutlass_scaled_mm for a compute capability less "
            "than CUDA device capability: 75"
        ),
        "No compiled",
        "form",
    ),
    Variant(
        "mxfp4 backend",
        "workers",
        ("NotImplementedError: No MXFP4 MoE backend supports the deployment configuration. weight_key=kMxfp4Static"),
        "No MXFP4",
        "marlin",
    ),
    Variant(
        "only w8a8",
        "engine",
        "AssertionError: Only supports int8_w8a8",
        "int8_w8a8",
        "form",
    ),
    Variant(
        "flashinfer arch 12",
        "engine",
        "RuntimeError: No supported CUDA architectures found for major versions [9, 10].",
        "No supported",
        "attention backend",
    ),
    Variant(
        "jit-cache mismatch",
        "engine",
        (
            "RuntimeError: flashinfer-jit-cache version (0.6.16+cu130) does not match flashinfer "
            "version (0.6.17). Please install the same version of both packages. Set "
            "FLASHINFER_DISABLE_VERSION_CHECK=1 to bypass this check."
        ),
        "jit-cache",
        "pi pods setup",
    ),
    Variant(
        "nvcc colon",
        "engine",
        (
            "RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory "
            "`/r'\n[1/2] :/opt/cuda/bin/nvcc -x\nFAILED: [code=127] a.o\n/bin/sh: line 1: "
            ":/opt/cuda/bin/nvcc: No such file or directory"
        ),
        "nvcc",
        "CUDA_HOME",
    ),
    Variant(
        "deep_gemm jit",
        "engine",
        ("RuntimeError: Failed: CUDA runtime error csrc/jit/compiler.hpp:99 'DeepGEMM NVCC compilation failed'"),
        "DeepGEMM",
        "VLLM_USE_DEEP_GEMM=0",
    ),
    Variant(
        "deep_gemm missing 2",
        "engine",
        ("ImportError: DeepGEMM is not installed. Please install it with tools/install_deepgemm.sh"),
        "DeepGEMM",
        "VLLM_USE_DEEP_GEMM=0",
    ),
    Variant(
        "custom ar 2",
        "crash",
        (
            "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:455 'resource already "
            "mapped'\n(EngineCore_DP0 pid=12) ERROR 02-03 10:00:00 [core.py:946] Worker proc "
            "VllmWorker-0 died unexpectedly, shutting down executor.\n"
        ),
        "resource already mapped",
        "--disable-custom-all-reduce",
    ),
    Variant(
        "nccl watchdog 2",
        "crash",
        (
            "[rank3]:[E203 10:00:00.1 ProcessGroupNCCL.cpp:688] [Rank 3] Watchdog caught "
            "collective operation timeout: WorkNCCL(SeqNum=81, OpType=_ALLGATHER_BASE, "
            "Timeout(ms)=1800000) ran for 1800042 milliseconds before timing out.\n"
        ),
        "Watchdog",
        "NCCL_P2P_DISABLE=1",
    ),
    Variant(
        "segv code only",
        "crash",
        (
            "(EngineCore_DP0 pid=12) ERROR 02-03 10:00:00 [core.py:946] Worker proc VllmWorker-3 "
            "died unexpectedly (exit code: -11), shutting down executor.\n"
        ),
        "exit code: -11",
        "another driver",
    ),
    Variant(
        "fatal python error",
        "crash",
        (
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call "
            'first):\n  File "/x/vllm/distributed/device_communicators/pynccl.py", line 99 in '
            "__init__\n"
        ),
        "pynccl.py",
        "--env NCCL_DEBUG=INFO",
    ),
    Variant(
        "graph capture oom hip",
        "engine",
        ("RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        "out of memory",
        "--gpus 2",
    ),
    Variant(
        "inductor",
        "engine",
        (
            "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please "
            "specify via CC environment variable or set triton.knobs.build.impl."
        ),
        "C compiler",
        "pi pods setup",
    ),
    Variant(
        "lora 2",
        "engine",
        "ValueError: LoRA rank 128 is greater than max_lora_rank 64.",
        "128",
        "--max-lora-rank 128",
    ),
    Variant(
        "mm item 2",
        "engine",
        (
            "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (16384) is larger "
            "than max_num_batched_tokens (8192). Please increase max_num_batched_tokens."
        ),
        "16384",
        "--max-num-batched-tokens 16384",
    ),
    Variant(
        "gguf qwen35",
        "server",
        "ValueError: GGUF model with architecture qwen35moe is not supported yet.",
        "qwen35moe",
        "safetensors",
    ),
    Variant(
        "unknown quant",
        "server",
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  "
            "Value error, Unknown quantization method: exl3. Must be one of ['awq']. "
            "[type=value_error, input_value=ArgsKwargs()]"
        ),
        "exl3",
        "form",
    ),
    Variant(
        "undefined symbol vllm",
        "server",
        (
            "ImportError: /root/venv/lib/python3.12/site-packages/vllm/_moe_C.abi3.so: undefined "
            "symbol: cuTensorMapEncodeTiled"
        ),
        "undefined symbol",
        "pi pods setup",
    ),
    Variant(
        "xet 2",
        "download",
        (
            "RuntimeError: Data processing error: CAS service error : Reqwest Error: HTTP status "
            "server error (503 Service Unavailable), domain: "
            "https://cas-server.xethub.hf.co/reconstructions/abc\n"
        ),
        "CAS",
        "HF_HUB_DISABLE_XET=1",
    ),
    Variant(
        "ima",
        "workers",
        (
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\nCUDA "
            "kernel errors might be asynchronously reported"
        ),
        "illegal memory",
        "--enforce-eager",
    ),
    Variant(
        "assertion spec",
        "crash",
        (
            "Traceback (most recent call last):\n  File "
            '"/root/venv/lib/python3.12/site-packages/vllm/v1/spec_decode/eagle.py", line 5, in '
            "propose\n    assert x\nAssertionError\n"
        ),
        "AssertionError",
        "speculative",
    ),
    Variant(
        "free invalid",
        "crash",
        (
            "free(): invalid pointer\n(EngineCore_DP0 pid=12) ERROR 02-03 10:00:00 [core.py:946] "
            "Worker proc VllmWorker-1 died unexpectedly, shutting down executor.\n"
        ),
        "free()",
        "nightly",
    ),
]


@every(VARIANTS)
def test_the_line_and_the_remedy(variant: Variant) -> None:
    cause = causes.find(variant.log, pod="dc1", model=MODEL, command=COMMAND)
    assert cause
    assert variant.line in f"{cause.line}{cause.summary}", cause.line
    assert variant.remedy in (cause.hint or ""), cause.hint
