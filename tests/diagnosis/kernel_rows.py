"""Real messages of kernels, compilers and packages, with the summary and the hint for each."""

from tests.diagnosis.failure_rows import AS_OWN, START, Row

CLEAN = (
    f"delete that cache, and compile again: `{START} --clean-cache`; or start it without compiling: "
    f"`{AS_OWN} --enforce-eager`"
)

ROWS = [
    Row(
        'triton.compiler.errors.CompilationError: at 1:0:\ndef fused_moe_kernel(\n^\nValueError("type '
        "fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15', "
        "'fp8e5')\")",
        "this kind of GPU cannot compute the model's experts in FP8",
        f"use the kernels that need no newer GPU: `{AS_OWN} --moe-backend marlin`; or choose another "
        "form of the model with `pi models`",
    ),
    Row(
        "triton.compiler.errors.CompilationError: at 20:15:\n    acc = tl.dot(a, b)\n          "
        '^\nValueError("type fp8e4nv not supported in this architecture. The supported fp8 dtypes are '
        "('fp8e4b15', 'fp8e5')\")",
        "this kind of GPU cannot compute in FP8",
        "choose another form of the model: `pi models` shows what fits",
    ),
    Row(
        "NotImplementedError: No NvFp4 MoE backend supports the deployment configuration.",
        "this vLLM has no kernels for the model's experts (NvFp4) on this kind of GPU",
        f"use the kernels that need no newer GPU: `{AS_OWN} --moe-backend marlin`; or choose another "
        "form of the model with `pi models`",
    ),
    Row(
        "NotImplementedError: No Unquantized MoE backend supports the deployment configuration.",
        "this vLLM cannot compute the model's experts (Unquantized) on this kind of GPU",
        "choose another form of the model: `pi models` shows what fits; or install a newer vLLM with "
        "`pi pods setup dc1 --vllm nightly`",
    ),
    Row(
        "AssertionError: Supports only mxfp4_w4a16",
        "vLLM's kernels for this kind of GPU do not compute the model's quantisation: Supports only mxfp4_w4a16",
        "choose another form of the model: `pi models` shows what fits; or install a newer vLLM with "
        "`pi pods setup dc1 --vllm nightly`",
    ),
    Row(
        "NotImplementedError: No compiled cutlass_scaled_mm for CUDA device capability: 120. Required "
        "capability: 90 or 100",
        "this vLLM is not built for this kind of GPU: a kernel is missing",
        f"install a newer vLLM with `pi pods setup dc1 --vllm nightly`, then `{START}`; or choose another form of the "
        "model, for this GPU FP8, AWQ or GPTQ: `pi models --pod dc1` shows what fits",
    ),
    Row(
        "RuntimeError: No supported CUDA architectures found for major versions [10].",
        "FlashInfer has no kernel for this kind of GPU",
        f"use another attention backend: `{AS_OWN} --attention-backend TRITON_ATTN`",
    ),
    Row(
        "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n`ptxas` "
        "stderr:\nptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'\n\nRepro command: "
        "/root/venv/lib/python3.12/site-packages/triton/backends/nvidia/bin/ptxas -v --gpu-name=sm_121a "
        "/tmp/x.ptx",
        "the compiler for kernels is older than this kind of GPU",
        f"install CUDA's own with `pi pods setup dc1 --cuda full`, then `{START} --env "
        "TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas`",
    ),
    Row(
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 81920, "
        "Hardware limit: 65536. Reducing block sizes or `num_stages` may help.",
        "a kernel needs more of this GPU than it has: shared memory, 81920 of 65536",
        f"use another attention backend: `{AS_OWN} --attention-backend FLASHINFER`",
    ),
    Row(
        "RuntimeError: flashinfer-cubin version (0.6.13) does not match flashinfer version (0.6.14). "
        "Please install the same version of both packages. Set FLASHINFER_DISABLE_VERSION_CHECK=1 to "
        "bypass this check.",
        "FlashInfer 0.6.14 is installed with kernels of 0.6.13",
        f"install the right ones with `pi pods setup dc1`, then `{START}`; or skip the check: `{START} "
        "--env FLASHINFER_DISABLE_VERSION_CHECK=1`",
    ),
    Row(
        "RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory "
        "`/root/.cache/flashinfer/0.6.4/89/cached_ops'\nFAILED: [code=127] prefill.cuda.o\n/bin/sh: 1: "
        ":/usr/local/cuda-12.8/bin/nvcc: not found\nninja: build stopped: subcommand failed.",
        "CUDA_HOME on the pod begins with a colon: there is no `:/usr/local/cuda-12.8/bin/nvcc`",
        f"correct it: `{START} --env CUDA_HOME=/usr/local/cuda`",
    ),
    Row(
        "RuntimeError: DeepGEMM backend is not available or outdated. Please install or update the "
        "`deep_gemm` to a newer version to enable FP8 kernels.",
        "DeepGEMM, which vLLM uses for FP8, does not work on the pod",
        f"vLLM has other kernels for FP8: `{START} --env VLLM_USE_DEEP_GEMM=0`",
    ),
    Row(
        "RuntimeError: Assertion error "
        "(csrc/apis/../jit_kernels/impls/../../jit/kernel_runtime.hpp:45): exit_code == 0",
        "DeepGEMM, which vLLM uses for FP8, does not work on the pod",
        f"vLLM has other kernels for FP8: `{START} --env VLLM_USE_DEEP_GEMM=0`",
    ),
    Row(
        "RuntimeError: vLLM failed to compile the model. The most likely reason for this is that a "
        "previous compilation failed, leading to a corrupted compilation artifact. We recommend trying "
        "to remove ~/.cache/vllm/torch_compile_cache and try again to see the real issue.",
        "vLLM cannot read its cache of compiled code",
        CLEAN,
    ),
    Row(
        "torch._dynamo.exc.BackendCompilerFailed: backend='<vllm.compilation.backends.VllmBackend "
        "object at 0x7f2b>' raised:\nAssertionError: failed to get the hash of the compiled graph\n\nSet "
        "TORCHDYNAMO_VERBOSE=1 for the internal stack trace",
        "vLLM cannot read its cache of compiled code",
        CLEAN,
    ),
    Row(
        "torch._dynamo.exc.BackendCompilerFailed: backend='<vllm.compilation.backends.VllmBackend "
        "object at 0x7f2b>' raised:\nRuntimeError: a graph with no output\n\nSet TORCHDYNAMO_VERBOSE=1 for "
        "the internal stack trace",
        "the model cannot be compiled: a graph with no output",
        CLEAN,
    ),
    Row(
        "RuntimeError: FlashInfer requires GPUs with sm75 or higher",
        "FlashInfer does not know this GPU, or its CUDA toolkit is too old for it",
        "install a newer toolkit with `pi pods setup dc1 --cuda full`",
    ),
    Row(
        "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:164 'invalid argument'",
        "the exchange of data between the GPUs failed (custom all-reduce: invalid argument)",
        f"exchange it by NCCL: `{AS_OWN} --disable-custom-all-reduce`",
    ),
    Row(
        "[rank0]:[E1105 12:10:00.100000000 ProcessGroupNCCL.cpp:683] [Rank 0] Watchdog caught "
        "collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, Timeout(ms)=600000) ran for "
        "600086 milliseconds before timing out.",
        "the GPUs waited for each other in vain (NCCL's watchdog)",
        f"start it without direct access between GPUs; NCCL then logs more: `{START} --env "
        "NCCL_P2P_DISABLE=1 --env NCCL_DEBUG=INFO`",
    ),
    Row(
        '!!!!!!! Segfault encountered !!!!!!!\n  File "<unknown>", line 0, in cuMemCreate\n  File '
        '"misc/cudawrap.cc", line 92, in ncclCuMemHostEnable()',
        "a process of vLLM crashed in NCCL (signal 11)",
        f"let NCCL use CUDA's older way to memory, and log more: `{START} --env NCCL_CUMEM_ENABLE=0 "
        "--env NCCL_CUMEM_HOST_ENABLE=0 --env NCCL_DEBUG=INFO`; or use a machine with another driver",
    ),
    Row(
        '!!!!!!! Segfault encountered !!!!!!!\n  File "<unknown>", line 0, in cuMemCreate\n  File '
        '"<unknown>", line 0, in at::native::copy_kernel_cuda',
        "a process of vLLM crashed (signal 11), which is not a lack of memory",
        f"install a newer vLLM with `pi pods setup dc1 --vllm nightly`, then `{START}`",
    ),
    Row(
        "Fatal Python error: Segmentation fault",
        "a process of vLLM crashed (signal 11), which is not a lack of memory",
        f"install a newer vLLM with `pi pods setup dc1 --vllm nightly`, then `{START}`",
    ),
    Row(
        "free(): invalid pointer",
        "a process of vLLM aborted, since its memory was damaged: free(): invalid pointer",
        "install a newer vLLM with `pi pods setup dc1 --vllm nightly`, or repair it with `pi pods setup dc1`",
    ),
    Row(
        "double free or corruption (!prev)",
        "a process of vLLM aborted, since its memory was damaged: double free or corruption (!prev)",
        "install a newer vLLM with `pi pods setup dc1 --vllm nightly`, or repair it with `pi pods setup dc1`",
    ),
    Row(
        "ImportError: /root/venv/lib/python3.12/site-packages/vllm/_C.abi3.so: undefined symbol: "
        "_ZN3c106ivalue14ConstantString6createENSt7",
        "the library `_C.abi3` does not match the PyTorch on the pod",
        "repair vLLM with `pi pods setup dc1`; a package that is not vLLM's, such as flash-attn, has to "
        "be removed or built for this PyTorch",
    ),
    Row(
        "ValueError: GGUF model with architecture minimax-m2 is not supported yet.",
        "vLLM cannot read a GGUF file of the architecture `minimax-m2`",
        "choose a form of the model with safetensors files: `pi models` shows what fits",
    ),
    Row(
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value "
        "error, Unknown quantization method: bitsandbytes. Must be one of ['awq', 'fp8']. "
        "[type=value_error, input_value=…]",
        "this vLLM does not know the quantisation `bitsandbytes`",
        "choose another form of the model: `pi models` shows what fits; or install a newer vLLM with "
        "`pi pods setup dc1 --vllm nightly`",
    ),
    Row(
        "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
        "the adapter has rank 64, and vLLM allows 16",
        f"allow adapters of that rank: `{AS_OWN} --max-lora-rank 64`",
    ),
    Row(
        "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (2496) is larger than "
        "max_num_batched_tokens (512). Please increase max_num_batched_tokens.",
        "an image or a video may have 2496 tokens, but a batch at most 512",
        f"allow batches of that size: `{AS_OWN} --max-num-batched-tokens 2496`",
    ),
    Row(
        "RuntimeError: Data processing error: CAS service error : ReqwestMiddleware Error: Request "
        "failed after 5 retries",
        "the Hugging Face Hub's server of files (Xet) did not answer",
        f"start it again, the download continues where it stopped: `{START}`; if it fails again: "
        f"`{START} --env HF_HUB_DISABLE_XET=1`",
    ),
]
