"""Known causes in the kernels: kinds of GPUs for which there is none, compilers that fail, processes that crash in one.

The messages are those of vLLM 0.32, PyTorch, Triton, FlashInfer, DeepGEMM and NCCL, as people have reported them.
"""

from pi_cli.diagnosis import remedies
from pi_cli.diagnosis.known_cause import KnownCause

ANOTHER_FORM = "choose another form of the model: `pi models` shows what fits"
CLEAN_CACHE = "start it again with `--clean-cache`, or add `--enforce-eager` after `--vllm`"
NEWER_VLLM = "install a newer vLLM with `pi pods setup {pod} --vllm nightly`"

# In the order of what helps most: a kernel of another kind, another form of the model, a newer vLLM.
GENERATIONS = (
    KnownCause(
        r"^(?=(?s:.*)moe)(?s:.*?)(?P<what>type fp8\w+ not supported in this architecture)",
        "this kind of GPU cannot compute the model's experts in FP8",
        f"add `--moe-backend marlin` after `--vllm`, or {ANOTHER_FORM}",
        remedies.another_moe_backend,
    ),
    KnownCause(
        r"(?P<what>type fp8\w+ not supported in this architecture)",
        "this kind of GPU cannot compute in FP8",
        ANOTHER_FORM,
        remedies.another_form,
    ),
    KnownCause(
        r"No (?P<what>(?i:nvfp4|mxfp4|fp8|wna16)) MoE backend supports the deployment configuration",
        "this vLLM has no kernels for the model's experts ({what}) on this kind of GPU",
        f"add `--moe-backend marlin` after `--vllm`, or {ANOTHER_FORM}",
        remedies.another_moe_backend,
    ),
    KnownCause(
        r"No (?P<what>\w+) MoE backend supports the deployment configuration",
        "this vLLM cannot compute the model's experts ({what}) on this kind of GPU",
        f"{ANOTHER_FORM}; or {NEWER_VLLM}",
        remedies.any_moe_backend,
    ),
    KnownCause(
        r"Error: (?P<what>(?:Only supports|Supports only|Only) \w*(?:fp4|fp8|int4|int8|w4a|w8a)\w*)",
        "vLLM's kernels for this kind of GPU do not compute the model's quantisation: {what}",
        f"{ANOTHER_FORM}; or {NEWER_VLLM}",
        remedies.other_form_first,
    ),
    KnownCause(
        r"No compiled (?P<what>\w+) for (?:CUDA device|a compute) capability"
        r"(?: less than CUDA device capability)?[: ]{1,3}(?P<have>\d{1,4})"
        r"|\b(?P<kernel>\w{1,80}) (?:kernels? )?(?:is|are) not (?:supported|available|implemented) (?:on|for) "
        r"(?:sm_?|SM|compute capability )(?P<capability>\d[\d.]*)",
        "this vLLM is not built for this kind of GPU: a kernel is missing",
        f"{NEWER_VLLM}, or {ANOTHER_FORM}",
        remedies.missing_kernel,
    ),
    KnownCause(
        r"ptxas[^\n]{0,200}?(?:Feature|Instruction|Modifier) '(?P<what>[^']{1,80})' (?:not supported|requires)",
        "a kernel uses an instruction that this kind of GPU does not have: {what}",
        "add `--moe-backend marlin` or `--attention-backend TRITON_ATTN` after `--vllm`, or use another kind of GPU",
        remedies.another_kernel,
    ),
    KnownCause(
        r"FlashAttention only supports Ampere GPUs or newer"
        r"|FlashAttention[- ]?\d? (?:is|requires) [^\n]{0,80}capability",
        "this kind of GPU is too old for FlashAttention",
        "add `--attention-backend TRITON_ATTN` after `--vllm`",
        remedies.another_attention,
    ),
    KnownCause(
        r"No supported CUDA architectures found for major versions"
        r"|\bTllmGen\w{1,80}'?(?s:.{0,500}?)Unsupported architecture",
        "FlashInfer has no kernel for this kind of GPU",
        "add `--attention-backend TRITON_ATTN` after `--vllm`",
        remedies.another_attention,
    ),
    KnownCause(
        r"Unsupported gpu architecture '(?P<what>\w+)'",
        "the pod's CUDA toolkit is older than this kind of GPU: nvcc does not know {what}",
        "install a newer one with `pi pods setup {pod} --cuda full`",
    ),
    KnownCause(
        r"Value 'sm_(?P<what>\w+)' is not defined for option 'gpu-name'",
        "the compiler for kernels is older than this kind of GPU",
        "install CUDA's own with `pi pods setup {pod} --cuda full`, and start it with "
        "`--env TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas`",
        remedies.setting(
            "TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas",
            hint="install CUDA's own with `pi pods setup {pod} --cuda full`, then `{then}`",
        ),
    ),
    KnownCause(
        r"out of resources?: (?P<what>[\w ]+), Required: (?P<need>\d+), Hardware limit: (?P<have>\d+)",
        "a kernel needs more of this GPU than it has: {what}, {need} of {have}",
        "add `--attention-backend FLASH_ATTN` after `--vllm`, for a mixture of experts `--moe-backend marlin`, or use "
        "another kind of GPU",
        remedies.another_moe_backend,
        within=r"moe|experts",
    ),
    KnownCause(
        r"out of resources?: (?P<what>[\w ]+), Required: (?P<need>\d+), Hardware limit: (?P<have>\d+)",
        "a kernel needs more of this GPU than it has: {what}, {need} of {have}",
        "add `--attention-backend FLASH_ATTN` after `--vllm`, for a mixture of experts `--moe-backend marlin`, or use "
        "another kind of GPU",
        remedies.attention_without_triton,
    ),
)  # fmt: skip

COMPILERS = (
    KnownCause(
        r"flashinfer-(?:cubin|jit-cache) version \((?P<have>[^)]*)\) does not match flashinfer version "
        r"\((?P<need>[^)]*)\)",
        "FlashInfer {need} is installed with kernels of {have}",
        "install the right ones with `pi pods setup {pod}`, or skip the check with "
        "`--env FLASHINFER_DISABLE_VERSION_CHECK=1`",
        remedies.setting(
            "FLASHINFER_DISABLE_VERSION_CHECK=1",
            hint="install the right ones with `pi pods setup {pod}`, then `{again}`; or skip the check: `{start}`",
        ),
    ),
    KnownCause(
        r"sh: (?:(?:line )?\d+: )?(?P<what>:\S{0,400}nvcc): (?:not found|No such file)",
        "CUDA_HOME on the pod begins with a colon: there is no `{what}`",
        "start it with `--env CUDA_HOME=/usr/local/cuda`",
        remedies.setting("CUDA_HOME=/usr/local/cuda", hint="correct it: `{start}`"),
    ),
    KnownCause(
        r"\bDeepGEMM\b[^\n]{0,200}?(?:failed|is not (?:installed|available)|outdated)"
        r"|(?:jit_kernels/impls|deep_gemm|DeepGEMM)(?s:.*)exit_code == 0"
        r"|Assertion error \(\S*jit_kernels/\S*\)",
        "DeepGEMM, which vLLM uses for FP8, does not work on the pod",
        "start it with `--env VLLM_USE_DEEP_GEMM=0`: vLLM has other kernels for FP8",
        remedies.setting("VLLM_USE_DEEP_GEMM=0", hint="vLLM has other kernels for FP8: `{start}`"),
    ),
    KnownCause(
        r"No such file or directory: '[^'\n]{0,400}torch_compile_cache/"
        r"|failed to compile the model\.(?s:.*)torch_compile_cache|failed to get the hash of the compiled graph"
        r"|(?:torch_compile_cache|torchinductor|inductor_cache)(?s:.*)(?:EOFError|UnpicklingError|JSONDecodeError)",
        "vLLM cannot read its cache of compiled code",
        CLEAN_CACHE,
        remedies.clean_cache,
    ),
    KnownCause(
        r"FlashInfer requires GPUs with sm75 or higher",
        "FlashInfer does not know this GPU, or its CUDA toolkit is too old for it",
        "install a newer toolkit with `pi pods setup {pod} --cuda full`",
        is_vague=True,
    ),
)  # fmt: skip

CRASHES = (
    KnownCause(
        r"custom_all_reduce\S*:\d+ '(?P<what>[^']*)'",
        "the exchange of data between the GPUs failed (custom all-reduce: {what})",
        "add `--disable-custom-all-reduce` after `--vllm`",
        remedies.adding("--disable-custom-all-reduce", hint="exchange it by NCCL: `{start}`"),
    ),
    KnownCause(
        r"Watchdog caught collective operation timeout",
        "the GPUs waited for each other in vain (NCCL's watchdog)",
        "start it with `--env NCCL_P2P_DISABLE=1 --env NCCL_DEBUG=INFO`: without direct access between GPUs, and NCCL "
        "logs more",
        remedies.setting(
            "NCCL_P2P_DISABLE=1",
            "NCCL_DEBUG=INFO",
            hint="start it without direct access between GPUs; NCCL then logs more: `{start}`",
        ),
    ),
    KnownCause(
        r"(?:Segfault encountered|Segmentation fault)(?s:.*?)(?P<what>File .*(?i:nccl|cudawrap))",
        "a process of vLLM crashed in NCCL (signal 11)",
        "start it with `--env NCCL_CUMEM_ENABLE=0 --env NCCL_CUMEM_HOST_ENABLE=0`, or use a machine with another "
        "driver",
        remedies.setting(
            "NCCL_CUMEM_ENABLE=0",
            "NCCL_CUMEM_HOST_ENABLE=0",
            "NCCL_DEBUG=INFO",
            hint="let NCCL use CUDA's older way to memory, and log more: `{start}`; "
            "or use a machine with another driver",
        ),
    ),
    KnownCause(
        r"Segfault encountered|Fatal Python error: Segmentation fault|SIGSEGV received",
        "a process of vLLM crashed (signal 11), which is not a lack of memory",
        f"{NEWER_VLLM}, or use a machine with another driver",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"^(?P<what>(?:free|malloc|realloc|munmap_chunk|malloc_consolidate)\(\): .*|corrupted (?:size|double-linked).*"
        r"|double free or .*|\*{3} (?:stack smashing|buffer overflow).*)",
        "a process of vLLM aborted, since its memory was damaged: {what}",
        f"{NEWER_VLLM}, or repair it with `pi pods setup {{pod}}`",
    ),
)  # fmt: skip

MEMORY_OF_GRAPHS = KnownCause(
    r"CUDA out of memory|CUDA error: out of memory",
    "the weights and the KV cache fit, but what vLLM needs beside them (CUDA graphs) does not",
    "start it with a smaller `--memory`, or add `--enforce-eager` after `--vllm`",
    remedies.smaller_graphs,
    within=r"compile_or_warm_up_model|capture",
)

UNINSTALL = "`pi ssh {pod} 'PATH=~/.pi/uv/bin:$PATH uv pip uninstall -p ~/venv {package}'`"
PACKAGES = (
    KnownCause(
        # A package beside vLLM that Transformers imports if it is there; vLLM itself does not need it.
        r"\b(?P<package>flash_attn|xformers|apex|causal_conv1d|mamba_ssm|sageattention|natten|torchao|auto_gptq"
        r"|bitsandbytes|exllamav2|deepspeed|grouped_gemm)[\w.-]{0,80}(?:/[\w./-]{1,200})?\.so[\w.]{0,20}: "
        r"undefined symbol",
        "a package that is not vLLM's, {package}, was built for another PyTorch",
        f"uninstall it with {UNINSTALL}, and start again",
        remedies.then_again(f"uninstall it with {UNINSTALL}, then `{{then}}`"),
    ),
    KnownCause(
        r" has no attribute '?all_special_tokens_extended| object has no attribute '(?:rope_scaling|rope_theta)'"
        r"|\b(?:tokenizers|huggingface[-_]hub|transformers)[<>=!~\d.,a-z]{1,40} is required for a normal functioning",
        "the Transformers on the pod is not one that this vLLM works with",
        "install a newer vLLM with `pi pods setup {pod} --vllm release`, or the last Transformers 4 with "
        "`pi ssh {pod} 'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv transformers==4.57.6'`",
    ),
    KnownCause(
        r"\b(?P<what>[\w.-]{1,100})\.so[\w.]{0,20}: undefined symbol",
        "the library `{what}` does not match the PyTorch on the pod",
        "repair vLLM with `pi pods setup {pod}`; a package that is not vLLM's, such as flash-attn, has to be removed "
        "or built for this PyTorch",
    ),
    KnownCause(
        r"GGUF model with architecture (?P<what>\S+) is not supported",
        "vLLM cannot read a GGUF file of the architecture `{what}`",
        "choose a form of the model with safetensors files: `pi models` shows what fits",
    ),
    KnownCause(
        r"Unknown quantization method: (?P<what>[\w-]+)",
        "this vLLM does not know the quantisation `{what}`",
        f"{ANOTHER_FORM}; or {NEWER_VLLM}",
    ),
    KnownCause(
        r"LoRA rank (?P<need>\d+) is greater than max_lora_rank (?P<have>\d+)",
        "the adapter has rank {need}, and vLLM allows {have}",
        "add `--max-lora-rank {need}` after `--vllm`",
        remedies.rank_of_lora,
    ),
    KnownCause(
        r"max_tokens_per_mm_item \((?P<need>\d+)\) is larger than max_num_batched_tokens \((?P<have>\d+)\)",
        "an image or a video may have {need} tokens, but a batch at most {have}",
        "add `--max-num-batched-tokens {need}` after `--vllm`",
        remedies.batches_of_an_item,
    ),
)  # fmt: skip

# Looked for after all others: their messages hold those of compilers.
COMPILATION = (
    KnownCause(
        r"(?:BackendCompilerFailed(?s:.*?) raised:\s+|InductorError: )(?:[\w.]+(?:Error|Exception): )?(?P<what>.+)",
        "the model cannot be compiled: {what}",
        CLEAN_CACHE,
        remedies.clean_cache,
        is_vague=True,
    ),
)
UNRAISED = (
    KnownCause(
        r"Failed to get device capability: (?P<what>SM \S+) requires CUDA >= (?P<need>\d+(?:\.\d+)?)",
        "the pod's CUDA toolkit is too old for its GPUs ({what}): FlashInfer needs {need} or newer",
        "install it with `pi pods setup {pod} --cuda full`",
    ),
)
DOWNLOADS = (
    KnownCause(
        r"CAS service error|xet_get|cas::|Data processing error",
        "the Hugging Face Hub's server of files (Xet) did not answer",
        "start it again: the download continues where it stopped; if it fails again, with `--env HF_HUB_DISABLE_XET=1`",
        remedies.resume_without_xet,
    ),
)

CAUSES = (*GENERATIONS, *COMPILERS, *CRASHES, *PACKAGES, *DOWNLOADS)
