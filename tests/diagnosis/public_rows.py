"""Errors of many versions of vLLM as people have reported them in public, shortened: a part of the line that tells, and
of the remedy. `source` is the repository and the number of the report."""

from typing import NamedTuple

SITE = "/usr/local/lib/python3.12/dist-packages"


class PublicRow(NamedTuple):
    """An error, with where it was reported, the innermost places of its traceback, and what is expected."""

    source: str
    error: str
    line: str
    remedy: str
    frames: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.source}: {self.error[:50]}"


ROWS = [
    PublicRow(
        "vllm 8841",
        f"ImportError: {SITE}/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c105ErrorC2E",
        "undefined symbol",
        "uv pip uninstall -p ~/venv flash_attn",
    ),
    PublicRow(
        "Qwen3-VL 2058",
        "AttributeError: Qwen2Tokenizer has no attribute all_special_tokens_extended. Did you mean: "
        "'num_special_tokens_to_add'?",
        "all_special_tokens_extended",
        "pi pods setup dc1 --vllm release",
    ),
    PublicRow(
        "vllm 18995",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might "
        "be asynchronously reported at some other API call, so the stacktrace below might be incorrect.\nFor debugging "
        "consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "no kernel image",
        "pi pods setup dc1 --vllm nightly",
    ),
    PublicRow(
        "vllm 20226",
        "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "NCCL error",
        "--env NCCL_DEBUG=INFO",
    ),
    PublicRow(
        "edutelligence 579",
        "AssertionError: Expected tensors only, but got: <class 'int'>",
        "Expected tensors only",
        "--clean-cache",
        (
            ("vllm/compilation/caching.py", "optimized_call"),
            ("torch/_inductor/standalone_compile.py", "_compiled_fn"),
            ("torch/_inductor/utils.py", "copy_misaligned_inputs"),
        ),
    ),
    PublicRow(
        "vllm 9913",
        "ValueError: Weight input_size_per_partition = 10944 is not divisible by min_thread_k = 128. Consider reducing "
        "tensor_parallel_size or running with --quantization gptq.",
        "is not divisible by min_thread_k",
        "choose another form of the model",
    ),
    PublicRow(
        "vllm 41477",
        "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n`ptxas` stderr:\nptxas "
        "/tmp/tmp1.ptx, line 812; error   : Feature '.tile::scatter4' not supported on .target 'sm_121a'",
        "Feature '.tile::scatter4' not supported",
        "--moe-backend marlin",
    ),
    PublicRow(
        "vllm 40358",
        "KeyError: 'layers.0.mlp.experts.w13_bias'",
        "layers.0.mlp.experts.w13_bias",
        "choose another version of the model",
        (("vllm/model_executor/models/gpt_oss.py", "load_weights"),),
    ),
    PublicRow(
        "LlamaFactory 10275",
        "KeyError: 'layers.0.mlp.down_proj.g_idx'",
        "g_idx",
        "choose another version of the model",
        (("vllm/model_executor/models/qwen2.py", "load_weights"),),
    ),
    PublicRow(
        "flashinfer 1658",
        "RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory `/root/.cache/flashinfer/90a'\n"
        "[1/9] /usr/local/cuda/bin/nvcc --generate-dependencies-with-compile\nFAILED: [code=1] x.cuda.o\nnvcc fatal   "
        ": Unsupported gpu architecture 'compute_90a'\nninja: build stopped: subcommand failed.",
        "Unsupported gpu architecture",
        "pi pods setup dc1 --cuda full",
    ),
    PublicRow(
        "flashinfer 5445",
        "tvm.error.InternalError: Error in function 'TllmGenFmhaRunner' at "
        f"{SITE}/flashinfer/data/include/flashinfer/trtllm/fmha/fmhaRunner.cuh:37: Unsupported architecture",
        "Unsupported architecture",
        "--attention-backend TRITON_ATTN",
    ),
    PublicRow(
        "vllm 8189",
        "RuntimeError: FlashAttention only supports Ampere GPUs or newer.",
        "FlashAttention only supports Ampere",
        "--attention-backend TRITON_ATTN",
    ),
    PublicRow(
        "vllm 13398",
        "AssertionError",
        "AssertionError",
        "--attention-backend TRITON_ATTN",
        (("vllm/v1/attention/backends/flash_attn.py", "__init__"),),
    ),
    PublicRow(
        "vllm 15276",
        "FileNotFoundError: [Errno 2] No such file or directory: "
        "'/root/.cache/vllm/torch_compile_cache/b7c9e1f2a3/rank_0_0/inductor_cache/xy/cxyz.py'",
        "torch_compile_cache",
        "--clean-cache",
    ),
    PublicRow(
        "vllm 17604",
        "RuntimeError: size_k must divisible by BLOCK_SIZE_K",
        "size_k must divisible",
        "choose another form of the model",
    ),
]
