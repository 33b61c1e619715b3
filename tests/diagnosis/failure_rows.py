"""Real messages of vLLM, PyTorch, NCCL and the Hub, with the summary and the hint for each."""

from typing import NamedTuple

from pi_cli.demo.engine import failures
from pi_cli.diagnosis import cuda_errors
from pi_cli.diagnosis.start_command import StartCommand

MODEL = "Qwen/Qwen3-8B"
PLANNED = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--max-model-len", "auto")
COMMAND = StartCommand(MODEL, "q", planned_arguments=PLANNED, pod_gpus=4)
START = f"pi start {MODEL} --name q"
AS_OWN = f"{START} --vllm {' '.join(PLANNED)}"
NIGHTLY = f"install a newer vLLM with `pi pods setup dc1 --vllm nightly`, then `{START}`"


class Row(NamedTuple):
    """The text of an exception, the summary of its cause, and the hint for `COMMAND`."""

    error: str
    summary: str
    hint: str

    def __str__(self) -> str:
        return self.error[:60]


def simulated(name: str) -> str:
    """Return a message of the simulated vLLM, which is vLLM's own."""
    return failures.KNOWN[name].text.replace("{model}", MODEL)


def cuda(code: int) -> tuple[str, str]:
    """Return the summary and the hint of an error of CUDA; docs/errors.md has the table."""
    cause, remedy = cuda_errors.words(code)
    return cause, remedy.replace("{pod}", "dc1")


ROWS = [
    Row(
        "vllm: error: unrecognized arguments: --swap-space 4",
        "vLLM does not know the argument `--swap-space 4`",
        "list the arguments it knows with `pi ssh dc1 '~/venv/bin/vllm serve --help=all'`, and start again",
    ),
    Row(
        "vllm serve: error: argument --dtype: invalid choice: 'fp16' (choose from 'auto', 'bfloat16', "
        "'float16', 'half')",
        "vLLM does not accept `fp16` for `--dtype`",
        "choose one of those in the line above, after `--vllm`",
    ),
    Row(
        "vllm serve: error: argument --max-model-len: invalid human_readable_int value: '32q'",
        "vLLM rejected its arguments: argument --max-model-len: invalid human_readable_int value: '32q'",
        f"pi chose these arguments, not you: please report it; or start it with arguments of your own after `--vllm`: "
        f"`{AS_OWN}`",
    ),
    Row(
        "KeyError: 'invalid tool call parser: hermesx (chose from { granite,hermes,hf,mistral })'",
        "vLLM has no tool-call parser `hermesx`",
        f"did you mean `hermes`? `{AS_OWN}`",
    ),
    Row(
        "KeyError: 'invalid reasoning parser: qwen (chose from { mistral,qwen3,step3 })'",
        "vLLM has no reasoning parser `qwen`",
        "choose one of those in the line above, after `--vllm`",
    ),
    Row(
        "KeyError: \"Reasoning parser 'qwen' not found. Available parsers: mistral, qwen3, step3\"",
        "vLLM has no reasoning parser `qwen`",
        "choose one of those in the line above, after `--vllm`",
    ),
    Row(
        simulated("tools-without-parser"),
        "`--enable-auto-tool-choice` needs a tool-call parser",
        "add the model's `--tool-call-parser`, or start it without tools: "
        f"`{START} --vllm --tool-call-parser hermes --max-model-len auto`",
    ),
    Row(
        "ValueError: The supplied chat template string (x.jinja) appears path-like, but doesn't exist! "
        "Tried: x.jinja",
        "the chat template file is not on the pod",
        "give a path that exists on the pod",
    ),
    Row(
        "ValueError: Unknown vLLM environment variable detected: VLLM_ATTENTION_BACKEND",
        "vLLM does not know the environment variable VLLM_ATTENTION_BACKEND",
        "remove it from ~/.pi/env on the pod",
    ),
    Row(
        simulated("kv-cache"),
        "the context is too long for the GPU memory: one request needs 8.0 GiB of KV cache, 0.99 GiB are left",
        f"start it with a shorter context: `{START} --context 16256`; or start it on more GPUs: `{START} --gpus 2`",
    ),
    Row(
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can "
        "be stored in KV "
        "cache (48192). Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
        "the context is too long for the GPU memory: 48192 tokens fit, 131072 requested",
        f"start it with a shorter context: `{START} --context 48192`; or start it on more GPUs: `{START} --gpus 2`",
    ),
    Row(
        simulated("no-kv"),
        "the weights leave no GPU memory for the KV cache",
        f"start it on more GPUs: `{START} --gpus 2`",
    ),
    Row(
        "ValueError: Free memory on device cuda:0 (43.25/79.65 GiB) on startup is less than desired GPU "
        "memory utilization "
        "(0.92, 73.28 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        "the GPU is in use: 43.25 of 79.65 GiB are free",
        "see what uses it with `pi list` and `pi ssh dc1 nvidia-smi`, or start it with the memory that is free: "
        f"`{START} --memory 52%`",
    ),
    Row(
        "ValueError: Available memory on node 0 (4.85/18.0 GiB) on startup is less than desired CPU memory "
        "utilization "
        "(0.92, 16.56 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the fraction of "
        "CPU memory",
        "the machine's memory is in use: 4.85 of 18.0 GiB are free",
        "start it with the memory that is free: "
        f"`{START} --memory 24%`",
    ),
    Row(
        simulated("profiling"),
        "another process freed GPU memory while vLLM measured it",
        f"start it again: `{START}`",
    ),
    Row(
        simulated("oom-sampler"),
        "the GPU memory is too small to serve 1024 requests at once",
        f"serve fewer requests at once: `{AS_OWN} --max-num-seqs 512`",
    ),
    Row(
        "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (854). Each decode sequence "
        "requires one",
        "the GPU memory is enough for the state of 854 requests, but vLLM would serve 1024 at once",
        f"serve fewer requests at once: `{AS_OWN} --max-num-seqs 854`",
    ),
    Row(
        simulated("oom"),
        "the model does not fit the GPU memory",
        f"start it on more GPUs: `{START} --gpus 2`",
    ),
    Row(
        "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:133, "
        "unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.28.9\n"
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
        "the model does not fit the GPU memory",
        f"start it on more GPUs: `{START} --gpus 2`",
    ),
    Row(
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you "
        "tried to",
        "the machine's memory is full (not the GPU memory)",
        "check with `pi ssh dc1 free -g`, or use a machine with more memory",
    ),
    Row(
        simulated("context").replace("{context}", "131072"),
        "the model supports at most 40960 tokens of context, 131072 requested",
        f"start it with a shorter context: `{START} --context 40960`",
    ),
    Row(
        "ValueError: max_num_batched_tokens (4096) is smaller than max_model_len (4608). This effectively limits the",
        "a request may have 4608 tokens, but a batch at most 4096",
        f"allow batches of that size: `{AS_OWN} --max-num-batched-tokens 4608`",
    ),
    Row(
        simulated("tp-heads"),
        "4 attention heads cannot be split over 3 GPUs",
        f"split it over 2: `{START} --gpus 2`",
    ),
    Row(
        "AssertionError: 14 is not divisible by 4",
        "one of the model's dimensions, 14, cannot be split over 4 GPUs",
        f"split it over 2: `{START} --gpus 2`",
    ),
    Row(
        simulated("too-few-gpus").replace("{size}", "8").replace("{count}", "4"),
        "8 GPUs were requested, but the pod has 4",
        f"use the GPUs of the pod: `{START} --gpus 4`",
    ),
    Row(
        simulated("dp-ranks"),
        "the data-parallel ranks need more than 2 GPUs",
        f"use fewer ranks: `{AS_OWN} --data-parallel-size 2`",
    ),
    Row(
        simulated("fp8-block"),
        "the quantised weights cannot be split over this many GPUs (blocks of 128)",
        f"do not split its experts: `{AS_OWN} --enable-expert-parallel`",
    ),
    Row(
        simulated("driver"),
        "the pod's NVIDIA driver is too old for this vLLM",
        "use a machine with a newer driver, or install a vLLM for this one with `pi pods setup dc1 --vllm release`",
    ),
    Row(
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before "
        "calling NumCuda"
        "Devices() that might have already set an error? Error 803: system has unsupported display driver / "
        "cuda driver "
        "combination",
        *cuda(803),
    ),
    Row(
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
        "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized",
        *cuda(802),
    ),
    Row(
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
        "NumCudaDevices() that might have already set an error? Error 804: forward compatibility was attempted on non "
        "supported HW",
        *cuda(804),
    ),
    Row(
        "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain.\n"
        "CUDA kernel errors might be asynchronously reported at some other API call.",
        *cuda(222),
    ),
    Row("RuntimeError: CUDA error: OS call failed or operation not supported on this OS", *cuda(304)),
    Row("torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the execution", *cuda(220)),
    Row(
        "RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server",
        *cuda(805),
    ),
    Row("RuntimeError: CUDA error: the MPS server is not ready to accept new MPS client requests", *cuda(807)),
    Row("torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", *cuda(46)),
    Row(
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
        "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero.",
        *cuda(999),
    ),
    Row("torch.AcceleratorError: CUDA error: initialization error", *cuda(3)),
    Row(
        "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`",
        "vLLM finds no GPU on the pod",
        "`pi pods --check` asks the driver why",
    ),
    Row(
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        "vLLM finds no GPU on the pod",
        "`pi pods --check` asks the driver why",
    ),
    Row(
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device\n"
        "CUDA kernel errors might be asynchronously reported at some other API call.",
        "this vLLM is not built for this kind of GPU",
        NIGHTLY,
    ),
    Row(
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
        "Current capability: 86.",
        "this kind of GPU does not support the model's quantisation (compute capability 86, 89 needed)",
        "choose another form of the model, for this GPU AWQ or GPTQ: `pi models --pod dc1` shows what fits",
    ),
    Row(
        simulated("bf16"),
        "the GPU is too old for bfloat16",
        f"use float16: `{AS_OWN} --dtype half`",
    ),
    Row(
        "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=576, "
        "dtype=torch.bfloat16, kv_cache_dtype=fp8, use_mla=True). Reasons: {FLASHMLA: [compute capability "
        "not supported]}.",
        "no attention backend supports this model on this GPU with these arguments",
        "leave out `--kv-cache-dtype`, if it is given, or install a newer vLLM with `pi pods setup dc1 --vllm nightly`",
    ),
    Row(
        "RuntimeError: CUDA error: peer access is not supported between these two devices",
        "the GPUs cannot access each other's memory",
        f"start it without that access: `{AS_OWN} --disable-custom-all-reduce`",
    ),
    Row(
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        *cuda(214),
    ),
    Row(
        "pynvml.NVMLError_GpuIsLost: GPU is lost",
        "a GPU of the pod is broken or hangs",
        "check with `pi ssh dc1 nvidia-smi -q`, restart the machine, or use another one",
    ),
    Row(
        "terminate called after throwing an instance of 'c10::AcceleratorError'\n  what():  CUDA error: an "
        "illegal memory "
        "access was encountered",
        "a GPU kernel of vLLM crashed",
        f"try it without CUDA graphs: `{AS_OWN} --enforce-eager`; "
        "or install another vLLM with `pi pods setup dc1 --vllm nightly`; "
        "`--env CUDA_LAUNCH_BLOCKING=1` lets the log name the kernel",
    ),
    Row(
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared "
        "memory (shm).",
        "the pod's shared memory, /dev/shm, is too small",
        "check with `pi ssh dc1 df -h /dev/shm`; the size is set when a container is created (`--shm-size`)",
    ),
    Row(
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "NCCL could not connect the GPUs with each other",
        f"let NCCL log more: `{START} --env NCCL_DEBUG=INFO`",
    ),
    Row(
        "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
        "must use the "
        "'spawn' start method",
        "a process of vLLM was forked after CUDA had been initialised",
        f"make vLLM spawn its processes: `{START} --env VLLM_WORKER_MULTIPROC_METHOD=spawn`",
    ),
    Row(
        simulated("unknown-arch"),
        "this vLLM does not know the architecture `NewModelForCausalLM`", NIGHTLY,
    ),
    Row(
        "ValueError: Model architecture MotifForCausalLM was supported in vLLM until v0.10.2, and is not supported "
        "anymore. Please use an older version of vLLM if you want to use this model architecture.",
        "this vLLM no longer supports the architecture `MotifForCausalLM`",
        "install an older one with `pi pods setup dc1 --vllm 0.10.2`",
    ),
    Row(
        simulated("unknown-model-type"),
        "this vLLM does not know the model type `new_model`", NIGHTLY,
    ),
    Row(
        simulated("custom-code"),
        "the model contains its own code, which vLLM runs only with `--trust-remote-code`",
        f"if you trust its authors: `{AS_OWN} --trust-remote-code`",
    ),
    Row(
        "ImportError: This modeling file requires the following packages that were not found in your "
        "environment: einops, "
        "open_clip. Run `pip install einops open_clip`",
        "the model's own code needs packages that vLLM's environment lacks: einops, open_clip",
        "install them with `pi ssh dc1 'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv einops open_clip'`, "
        "and start again",
    ),
    Row(
        f"ValueError: Unrecognized model in {MODEL}. Should have a `model_type` key in its config.json, or "
        "contain one of",
        f"vLLM cannot read `{MODEL}`: its config.json does not name a model type",
        "choose another version of it: `pi models` shows what fits",
    ),
    Row(
        "ValueError: Model architectures ['Qwen3ForCausalLM'] failed to be inspected. Please check the logs for more",
        "this vLLM cannot load its code for `Qwen3ForCausalLM`",
        "repair vLLM with `pi pods setup dc1`, or install another one with `pi pods setup dc1 --vllm nightly`",
    ),
    Row(
        "ValueError: There is no module or parameter named 'language_model' in Qwen3_5Model",
        "this vLLM cannot read the model's weights: their names or their layout are not what it expects",
        NIGHTLY,
    ),
    Row(
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        "a file of the model is damaged or missing on the pod",
        f"delete it with `pi ssh dc1 'rm -r ~/.cache/huggingface/hub/models--Qwen--Qwen3-8B'`, then `{START}`",
    ),
    Row(
        f"RuntimeError: Cannot find any model weights with `{MODEL}`",
        "a file of the model is damaged or missing on the pod",
        f"delete it with `pi ssh dc1 'rm -r ~/.cache/huggingface/hub/models--Qwen--Qwen3-8B'`, then `{START}`",
    ),
    Row(
        "ValueError: Tokenizer class TokenizersBackend does not exist or is not currently imported.",
        "this vLLM, or its Transformers, cannot load the model's tokenizer",
        NIGHTLY,
    ),
    Row(
        "ImportError: cannot import name 'Qwen3NextConfig' from 'transformers' "
        "(/root/venv/lib/python3.12/site-packages)",
        "this vLLM, or its Transformers, cannot load the model's tokenizer",
        NIGHTLY,
    ),
    Row(
        simulated("gated-403"),
        "the model is gated and HF_TOKEN has no access to it",
        f"request access at https://huggingface.co/{MODEL} with the account of your HF_TOKEN",
    ),
    Row(
        f"Error: Revision not found in model '{MODEL}'.\n",
        f"`{MODEL}` has no such revision",
        f"see its branches and tags at https://huggingface.co/{MODEL}/tree/main, or leave out `--revision`",
    ),
    Row(
        simulated("missing-repo"),
        f"there is no model `{MODEL}` on the Hugging Face Hub, or it is private",
        "check the name, and that HF_TOKEN may read it",
    ),
    Row(
        f"ValueError: Invalid repository ID or local directory specified: '{MODEL}'.\nPlease verify the following",
        f"`{MODEL}` is neither a repository of the Hugging Face Hub nor a folder with a config.json",
        "check the name; give the full path of a folder on the pod",
    ),
    Row(
        "huggingface_hub.errors.HfHubHTTPError: 401 Client Error.\nInvalid credentials in Authorization header",
        "the Hugging Face Hub does not accept HF_TOKEN",
        "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`",
    ),
    Row(
        simulated("rate-limit"),
        "the Hugging Face Hub's rate limit was exceeded", "wait a few minutes, then start again",
    ),
    Row(
        simulated("offline"),
        "vLLM needs a file that is not in the pod's cache, and is not allowed to use the Hub",
        f"allow it to use the Hub: `{AS_OWN}`",
    ),
    Row(
        "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer "
        "certificate (_ssl.c:1006)",
        "the pod does not trust the certificate of the Hugging Face Hub: its network seems to inspect TLS",
        "put the certificate of its CA into /usr/local/share/ca-certificates on the pod (NAME.crt), run "
        "update-ca-certificates there as root, then `pi pods setup dc1`",
    ),
    Row(
        "httpx.ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
        "the certificate of the Hugging Face Hub is not valid at the pod's time",
        "compare the pod's clock, `pi ssh dc1 date`, with yours",
    ),
    Row(
        simulated("no-internet"),
        "the pod cannot reach the Hugging Face Hub, and the model is not complete in its cache",
        "check the pod's network with `pi ssh dc1 curl -I https://huggingface.co`",
    ),
    Row(
        simulated("no-space"),
        "the pod's disk is full",
        "see which one with `pi ssh dc1 'df -h; df -i'` (no inodes count too), and delete models you do not need from "
        "~/.cache/huggingface",
    ),
    Row(
        "OSError: [Errno 28] No space left on device: '/dev/shm/psm_5d3f'",
        "the pod's shared memory, /dev/shm, is too small",
        "check with `pi ssh dc1 df -h /dev/shm`; the size is set when a container is created (`--shm-size`)",
    ),
    Row(
        simulated("port-busy"),
        "another process took the port", f"start it again: `{START}`",
    ),
    Row(
        "OSError: [Errno 116] Stale file handle: '/mnt/models/huggingface/hub'",
        "the pod's volume does not respond: Stale file handle",
        "mount it again with `pi pods setup dc1`, or restart the machine",
    ),
    Row(
        "PermissionError: [Errno 13] Permission denied: '/mnt/models/huggingface/hub'",
        "vLLM has no permission to use `/mnt/models/huggingface/hub` on the pod",
        "see its owner with `pi ssh dc1 ls -ld /mnt/models/huggingface/hub`",
    ),
    Row(
        "OSError: [Errno 24] Too many open files",
        "the pod allows too few open files or processes",
        "check its limits with `pi ssh dc1 ulimit -a`, and raise them",
    ),
    Row(
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set "
        "triton.knobs.build.cc",
        "a kernel cannot be compiled: the pod has no C compiler",
        "install one with `pi pods setup dc1`",
    ),
    Row(
        "RuntimeError: /tmp/x/main.c:5:10: fatal error: Python.h: No such file or directory",
        "a kernel cannot be compiled: the Python of vLLM has no headers (Python.h)",
        "install them as root: `pi ssh dc1 'apt-get install -y "
        'python$(~/venv/bin/python -c "import sys; print(sys.version[:4])")-dev\'`',
    ),
    Row(
        "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
        "a kernel cannot be compiled: the pod has no nvcc or no ninja",
        "install them with `pi pods setup dc1 --cuda auto`",
    ),
    Row(
        "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
        "a kernel cannot be compiled: the pod has no nvcc or no ninja",
        "install them with `pi pods setup dc1 --cuda auto`",
    ),
    Row(
        "RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory "
        "`/root/.cache/flashinfer/0.6.4/90a'",
        "a kernel could not be compiled on the pod",
        "install vLLM's build tools with `pi pods setup dc1 --cuda auto`",
    ),
    Row(
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "this vLLM does not match the machine: it needs a library that is missing",
        "install one that does with `pi pods setup dc1 --vllm release`, or choose a newer image",
    ),
    Row(
        "cannot run /root/venv/bin/vllm: [Errno 2] No such file or directory: '/root/venv/bin/vllm'",
        "vLLM cannot be started on the pod: [Errno 2] No such file or directory: '/root/venv/bin/vllm'",
        "repair it with `pi pods setup dc1`",
    ),
    Row(
        "ModuleNotFoundError: No module named 'vllm._C'",
        "the Python package `vllm` is missing on the pod",
        "repair vLLM with `pi pods setup dc1`; install a package that is not vLLM's with `pi ssh dc1 "
        "'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv vllm'`",
    ),
    Row(
        simulated("ready-timeout"),
        "the engine was not ready within vLLM's time limit",
        f"allow an hour: `{START} --env VLLM_ENGINE_READY_TIMEOUT_S=3600`",
    ),
]  # fmt: skip
