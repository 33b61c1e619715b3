"""Known causes outside vLLM: GPUs, disks, compilers, the Hub; and processes that died without an error message."""

from pi_cli.diagnosis import cuda_errors, remedies
from pi_cli.diagnosis.known_cause import KnownCause


def _of_cuda(code: int, pattern: str) -> KnownCause:
    cause, remedy = cuda_errors.words(code)
    return KnownCause(pattern, cause, remedy)


MORE_HOST_MEMORY = "check with `pi ssh {pod} free -g`, or use a machine with more memory (not GPU memory)"
NO_MESSAGE = "see whether the kernel killed it for its memory: `pi ssh {pod} 'dmesg | grep -i \"killed process\"'`"

GPUS = (
    KnownCause(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient for CUDA runtime version",
        "the pod's NVIDIA driver is too old for this vLLM",
        "use a machine with a newer driver, or install a vLLM for this one with `pi pods setup {pod} --vllm release`",
    ),
    _of_cuda(802, r"system not yet initialized"),
    _of_cuda(803, r"unsupported display driver / cuda driver combination"),
    _of_cuda(804, r"forward compatibility was attempted on non supported HW"),
    _of_cuda(222, r"the provided PTX was compiled with an unsupported toolchain"),
    _of_cuda(304, r"OS call failed or operation not supported on this OS"),
    _of_cuda(214, r"uncorrectable ECC error"),
    _of_cuda(220, r"uncorrectable NVLink error"),
    _of_cuda(805, r"MPS client failed to connect to the MPS control daemon"),
    _of_cuda(807, r"MPS server is not ready to accept new MPS client requests"),
    _of_cuda(46, r"CUDA-capable device\(s\) is/are busy or unavailable"),
    _of_cuda(999, r"CUDA unknown error|CUDA error: unknown error|Error 999: unknown error"),
    _of_cuda(3, r"CUDA error: initialization error|Error 3: initialization error"),
    KnownCause(
        r"Failed to infer device type|No CUDA GPUs are available|no CUDA-capable device is detected"
        r"|Found no NVIDIA driver on your system|libcuda\.so\S*: cannot open shared object file",
        "vLLM finds no GPU on the pod",
        "`pi pods --check` asks the driver why",
    ),
    KnownCause(
        r"no kernel image is available for execution on the device",
        "this vLLM is not built for this kind of GPU",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`, or use another kind of GPU",
        remedies.missing_kernel,
    ),
    KnownCause(
        r"(?P<what>[Tt]he quantization method \S+|Quantization scheme) is not supported for the current GPU\. "
        r"Min(?:imum)? capability: (?P<need>\d+)\. Current capability: (?P<have>\d+)",
        "this kind of GPU does not support the model's quantisation (compute capability {have}, {need} needed)",
        "choose a model that is not quantised, or quantised in another way: `pi models` shows what fits",
        remedies.another_form,
    ),
    KnownCause(
        r"Bfloat16 is only supported on GPUs with compute capability of at least",
        "the GPU is too old for bfloat16",
        "add `--dtype half` after `--vllm`",
        remedies.adding("--dtype", "half", hint="use float16: `{start}`"),
    ),
    KnownCause(
        r"No valid attention backend found for",
        "no attention backend supports this model on this GPU with these arguments",
        "leave out `--kv-cache-dtype`, if it is given, or install a newer vLLM with "
        "`pi pods setup {pod} --vllm nightly`",
        remedies.omitting("--kv-cache-dtype", hint="let vLLM choose the type of the KV cache: `{start}`"),
    ),
    KnownCause(
        r"peer access is not supported between these two devices",
        "the GPUs cannot access each other's memory",
        "add `--disable-custom-all-reduce` after `--vllm`",
        remedies.adding("--disable-custom-all-reduce", hint="start it without that access: `{start}`"),
    ),
    KnownCause(
        r"GPU has fallen off the bus|GPU is lost",
        "a GPU of the pod is broken or hangs",
        "check with `pi ssh {pod} nvidia-smi -q`, restart the machine, or use another one",
    ),
    KnownCause(
        r"illegal memory access|device-side assert triggered|unspecified launch failure|misaligned address",
        "a GPU kernel of vLLM crashed",
        "add `--enforce-eager` after `--vllm`, or install another vLLM with `pi pods setup {pod} --vllm nightly`; "
        "`--env CUDA_LAUNCH_BLOCKING=1` lets the log name the kernel",
        remedies.adding(
            "--enforce-eager",
            hint="try it without CUDA graphs: `{start}`; "
            "or install another vLLM with `pi pods setup {pod} --vllm nightly`; "
            "`--env CUDA_LAUNCH_BLOCKING=1` lets the log name the kernel",
        ),
    ),
    KnownCause(
        r"insufficient shared memory|creating shared memory segment|posix_fallocate failed|left on device: '/dev/shm",
        "the pod's shared memory, /dev/shm, is too small",
        "check with `pi ssh {pod} df -h /dev/shm`; the size is set when a container is created (`--shm-size`)",
    ),
    KnownCause(
        r"NCCL error.*|ncclUnhandledCudaError.*|ncclSystemError.*",
        "NCCL could not connect the GPUs with each other",
        "start it with `--env NCCL_DEBUG=INFO`: NCCL then logs more",
        remedies.setting("NCCL_DEBUG=INFO", hint="let NCCL log more: `{then}`"),
        is_vague=True,
    ),
    KnownCause(
        r"Cannot re-initialize CUDA in forked subprocess",
        "a process of vLLM was forked after CUDA had been initialised",
        "start it with `--env VLLM_WORKER_MULTIPROC_METHOD=spawn`",
        remedies.setting("VLLM_WORKER_MULTIPROC_METHOD=spawn", hint="make vLLM spawn its processes: `{start}`"),
    ),
)  # fmt: skip

HUB_UNREACHABLE = KnownCause(
    r"couldn't connect to '|Failed to resolve '|Name or service not known|Temporary failure in name resolution"
    r"|ConnectError|Local entry not found|LocalEntryNotFoundError",
    "the pod cannot reach the Hugging Face Hub, and the model is not complete in its cache",
    "check the pod's network with `pi ssh {pod} curl -I https://huggingface.co`",
)
HUB = (
    KnownCause(
        r"certificate (?:has expired|is not yet valid)",
        "the certificate of the Hugging Face Hub is not valid at the pod's time",
        "compare the pod's clock, `pi ssh {pod} date`, with yours",
    ),
    KnownCause(
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|certificate verify failed|invalid peer certificate",
        "the pod does not trust the certificate of the Hugging Face Hub: its network seems to inspect TLS",
        "put the certificate of its CA into /usr/local/share/ca-certificates on the pod (NAME.crt), run "
        "update-ca-certificates there as root, then `pi pods setup {pod}`",
    ),
    KnownCause(
        r"requires approval|gated repo|GatedRepo|Access to model \S+ is restricted|not in the authorized list",
        "the model is gated and HF_TOKEN has no access to it",
        "request access at {page} with the account of your HF_TOKEN",
    ),
    KnownCause(
        r"Error: Revision not found|RevisionNotFound",
        "`{model}` has no such revision",
        "see its branches and tags at {page}/tree/main, or leave out `--revision`",
    ),
    KnownCause(
        r"Error: Model '[^']*' not found|Repository [Nn]ot [Ff]ound|RepositoryNotFound|is not a valid model identifier",
        "there is no model `{model}` on the Hugging Face Hub, or it is private",
        "check the name, and that HF_TOKEN may read it",
    ),
    KnownCause(
        r"Invalid repository ID or local directory specified: '(?P<what>[^']*)'",
        "`{what}` is neither a repository of the Hugging Face Hub nor a folder with a config.json",
        "check the name; give the full path of a folder on the pod",
        is_vague=True,
    ),
    KnownCause(
        r"Invalid credentials in Authorization header|Invalid user token",
        "the Hugging Face Hub does not accept HF_TOKEN",
        "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`",
    ),
    KnownCause(
        r"429 (?:Client Error: )?Too Many Requests",
        "the Hugging Face Hub's rate limit was exceeded",
        "wait a few minutes, then start again",
    ),
    KnownCause(
        r"outgoing traffic has been disabled|OfflineModeIsEnabled|offline mode is enabled",
        "vLLM needs a file that is not in the pod's cache, and is not allowed to use the Hub",
        "give its arguments after `--vllm`: then it is allowed to",
        remedies.online,
    ),
    HUB_UNREACHABLE,
)  # fmt: skip

MACHINE = (
    KnownCause(
        r"No space left on device|Disk quota exceeded",
        "the pod's disk is full",
        "see which one with `pi ssh {pod} 'df -h; df -i'` (no inodes count too), and delete models you do not need "
        "from ~/.cache/huggingface",
    ),
    KnownCause(
        r"(?i:address already in use)",
        "another process took the port",
        "start it again: another port will be chosen",
        remedies.again,
    ),
    KnownCause(
        r"\[Errno \d+\] (?P<what>Stale file handle|Transport endpoint is not connected|Input/output error)",
        "the pod's volume does not respond: {what}",
        "mount it again with `pi pods setup {pod}`, or restart the machine",
    ),
    KnownCause(
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<what>/[\w./@-]+)'",
        "vLLM has no permission to use `{what}` on the pod",
        "see its owner with `pi ssh {pod} ls -ld {what}`",
    ),
    KnownCause(
        r"Too many open files|can't start new thread",
        "the pod allows too few open files or processes",
        "check its limits with `pi ssh {pod} ulimit -a`, and raise them",
    ),
    KnownCause(
        r"Failed to find C compiler",
        "a kernel cannot be compiled: the pod has no C compiler",
        "install one with `pi pods setup {pod}`",
    ),
    KnownCause(
        r"Python\.h: No such file or directory",
        "a kernel cannot be compiled: the Python of vLLM has no headers (Python.h)",
        "install them as root: `pi ssh {pod} 'apt-get install -y "
        "python$(~/venv/bin/python -c \"import sys; print(sys.version[:4])\")-dev'`",
    ),
    KnownCause(
        r"Could not find nvcc|nvcc: not found|No such file or directory: '\S*nvcc'|No such file or directory: 'ninja'"
        r"|Ninja is required",
        "a kernel cannot be compiled: the pod has no nvcc or no ninja",
        "install them with `pi pods setup {pod} --cuda auto`",
    ),
    KnownCause(
        r"Ninja build failed|CalledProcessError: Command '\['?\S*(?:gcc|cc|nvcc|ninja)\b.*",
        "a kernel could not be compiled on the pod",
        "install vLLM's build tools with `pi pods setup {pod} --cuda auto`",
        is_vague=True,
    ),
    KnownCause(
        r"(?P<what>lib(?:cudart|nvrtc|cublas|cudnn|nccl)\S*): cannot open shared object file"
        r"|version `(?P<name>GLIBC\w*)' not found",
        "this vLLM does not match the machine: it needs a library that is missing",
        "install one that does with `pi pods setup {pod} --vllm release`, or choose a newer image",
    ),
    KnownCause(
        r"cannot run /\S+: (?P<what>.*)",
        "vLLM cannot be started on the pod: {what}",
        "repair it with `pi pods setup {pod}`",
    ),
    KnownCause(
        r"ModuleNotFoundError: No module named '(?P<what>\w+)",
        "the Python package `{what}` is missing on the pod",
        "repair vLLM with `pi pods setup {pod}`; install a package that is not vLLM's with `pi ssh {pod} "
        "'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv {what}'`",
        is_vague=True,
    ),
    KnownCause(
        r"Timed out waiting for engine core processes to start",
        "the engine was not ready within vLLM's time limit",
        "allow an hour with `--env VLLM_ENGINE_READY_TIMEOUT_S=3600`",
        remedies.setting("VLLM_ENGINE_READY_TIMEOUT_S=3600", hint="allow an hour: `{start}`"),
    ),
)  # fmt: skip

CAUSES = (*GPUS, *MACHINE, *HUB)

# For logs without another cause: a process died without an error message. The first of these that matches counts.
# Host memory is named only for signal 9, which the kernel sends when the machine or the container has none left.
DIED = (
    r"(?:Failed core proc\(s\): \{'\w+': |Worker proc \S+ died unexpectedly \(exit code: "
    r"|Worker \w+ pid \d+ died, exit code: |worker died \()"  # of vLLM before its V1 engine
)
SILENT_DEATHS = (
    KnownCause(
        DIED + r"-9\b",
        "the engine was killed by signal 9 (out of host memory?)",
        MORE_HOST_MEMORY,
    ),
    KnownCause(
        DIED + r"-4\b",
        "the machine's processor lacks instructions that this vLLM needs",
        "use another machine",
    ),
    KnownCause(
        DIED + r"-7\b",
        "the engine was killed by signal 7 (out of shared memory?)",
        "check with `pi ssh {pod} df -h /dev/shm`; the size is set when a container is created (`--shm-size`)",
    ),
    KnownCause(
        DIED + r"-(?P<signal>6|8|11)\b",
        "the engine crashed (signal {signal}), which is not a lack of memory",
        "install another vLLM with `pi pods setup {pod} --vllm nightly`, or use a machine with another driver; "
        "`--env PYTHONFAULTHANDLER=1 --env NCCL_DEBUG=INFO` lets the log name the place",
        remedies.setting(
            *("PYTHONFAULTHANDLER=1", "NCCL_DEBUG=INFO"),
            hint="let the log name the place: `{then}`; or install another vLLM with "
            "`pi pods setup {pod} --vllm nightly`, or use a machine with another driver",
        ),
    ),
    KnownCause(
        DIED + r"-(?P<signal>\d+)",
        "the engine was killed by signal {signal}",
        "read the log",
    ),
    KnownCause(
        r"Worker proc (?P<what>\S+) died unexpectedly",
        "the engine's worker `{what}` died without an error message",
        NO_MESSAGE,
    ),
    KnownCause(
        r"WorkerProc initialization failed|Failed core proc\(s\): \{\}",
        "a process of the engine died without an error message",
        NO_MESSAGE,
    ),
)  # fmt: skip
# Deaths that a lack of host memory may explain: what the machine knows about it decides (`diagnosis.evidence`).
MAYBE_OUT_OF_MEMORY = tuple(known for known in SILENT_DEATHS if known.hint in (MORE_HOST_MEMORY, NO_MESSAGE))
