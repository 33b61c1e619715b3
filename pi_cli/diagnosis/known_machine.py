"""The failures of a start that are the machine's or the Hub's: GPUs, disks, compilers; and dead engines."""

from pi_cli.diagnosis import remedies
from pi_cli.diagnosis.known_cause import KnownCause

GPUS = (
    KnownCause(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient for CUDA runtime version",
        "the pod's NVIDIA driver is too old for this vLLM",
        "take a machine with a newer driver, or get a vLLM for this one with `pi pods setup {pod} --vllm release`",
    ),
    KnownCause(
        r"unsupported display driver / cuda driver combination|forward compatibility was attempted on non supported HW",
        "the pod's NVIDIA driver and its CUDA libraries do not belong together",
        "let `pi pods setup {pod}` set its environment right, or restart the machine",
    ),
    KnownCause(
        r"Failed to infer device type|No CUDA GPUs are available|no CUDA-capable device is detected"
        r"|Found no NVIDIA driver on your system|libcuda\.so\S*: cannot open shared object file",
        "vLLM finds no GPU on the pod",
        "see what it has with `pi pods --check` and `pi ssh {pod} nvidia-smi`",
    ),
    KnownCause(
        r"no kernel image is available for execution on the device",
        "this vLLM is not built for this kind of GPU",
        "get a newer vLLM with `pi pods setup {pod} --vllm nightly`, or take another kind of GPU",
        remedies.newer_vllm,
    ),
    KnownCause(
        r"(?P<what>[Tt]he quantization method \S+|Quantization scheme) is not supported for the current GPU\. "
        r"Min(?:imum)? capability: (?P<need>\d+)\. Current capability: (?P<have>\d+)",
        "this kind of GPU cannot do the model's quantisation (compute capability {have}, it needs {need})",
        "choose one that is not quantised, or quantised in another way: `pi models` shows what fits",
    ),
    KnownCause(
        r"Bfloat16 is only supported on GPUs with compute capability of at least",
        "the GPU is too old for bfloat16",
        "add `--dtype half` after `--vllm`",
        remedies.adding("--dtype", "half", why="take float16"),
    ),
    KnownCause(
        r"No valid attention backend found for",
        "vLLM has no attention for this model on this kind of GPU, as its arguments want it",
        "leave out `--kv-cache-dtype` if it is given, or get a newer vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.omitting("--kv-cache-dtype", why="leave the KV cache's type to vLLM"),
    ),
    KnownCause(
        r"peer access is not supported between these two devices",
        "the GPUs cannot reach each other's memory",
        "add `--disable-custom-all-reduce` after `--vllm`",
        remedies.adding("--disable-custom-all-reduce", why="let them do without"),
    ),
    KnownCause(
        r"uncorrectable ECC error|GPU has fallen off the bus|GPU is lost|device\(s\) is/are busy or unavailable",
        "a GPU of the pod is broken, or hangs",
        "see with `pi ssh {pod} nvidia-smi -q`, restart the machine, or take another one",
    ),
    KnownCause(
        r"illegal memory access|device-side assert triggered|unspecified launch failure|misaligned address",
        "a GPU kernel of vLLM crashed",
        "add `--enforce-eager` after `--vllm`, or get another vLLM with `pi pods setup {pod} --vllm nightly`",
        remedies.adding("--enforce-eager", why="see if it goes without CUDA graphs"),
    ),
    KnownCause(
        r"insufficient shared memory|creating shared memory segment|posix_fallocate failed|left on device: '/dev/shm",
        "the pod's shared memory, /dev/shm, is too small",
        "see with `pi ssh {pod} df -h /dev/shm`; in a container its size is set when it is made (`--shm-size`)",
    ),
    KnownCause(
        r"NCCL error.*|ncclUnhandledCudaError.*|ncclSystemError.*",
        "the GPUs could not be connected with each other (NCCL)",
        "start it again after `pi ssh {pod} 'echo export NCCL_DEBUG=INFO >> ~/.pi/env'`: then NCCL says more",
        is_vague=True,
    ),
    KnownCause(
        r"Cannot re-initialize CUDA in forked subprocess",
        "a process of vLLM was forked after CUDA had begun",
        "let it spawn them with `pi ssh {pod} 'echo export VLLM_WORKER_MULTIPROC_METHOD=spawn >> ~/.pi/env'`",
    ),
)  # fmt: skip

HUB = (
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
        "`{what}` is no model: neither a repository of the Hugging Face Hub nor a folder with a config.json",
        "check the name; a folder on the pod is given with its whole path",
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
        "vLLM wants a file that is not in the pod's cache, and may not ask the Hub",
        "give its arguments after `--vllm`: then it may",
        remedies.online,
    ),
    KnownCause(
        r"couldn't connect to '|Failed to resolve|Name or service not known|Temporary failure in name resolution"
        r"|ConnectError|Local entry not found|LocalEntryNotFoundError",
        "the pod cannot reach the Hugging Face Hub, and the model is not complete in its cache",
        "check the pod's network with `pi ssh {pod} curl -I https://huggingface.co`",
    ),
)  # fmt: skip

MACHINE = (
    KnownCause(
        r"No space left on device|Disk quota exceeded",
        "the pod's disk is full",
        "see what fills it with `pi ssh {pod} df -h`, and delete models you do not need from ~/.cache/huggingface",
    ),
    KnownCause(
        r"(?i:address already in use)",
        "somebody took the port meanwhile",
        "start it again: another port will be chosen",
        remedies.again,
    ),
    KnownCause(
        r"\[Errno \d+\] (?P<what>Stale file handle|Transport endpoint is not connected|Input/output error)",
        "the pod's volume does not answer: {what}",
        "mount it again with `pi pods setup {pod}`, or restart the machine",
    ),
    KnownCause(
        r"PermissionError: \[Errno 13\] Permission denied: '(?P<what>/[\w./@-]+)'",
        "vLLM may not use `{what}` on the pod",
        "see whose it is with `pi ssh {pod} ls -ld {what}`",
    ),
    KnownCause(
        r"Too many open files|can't start new thread",
        "the pod allows too few open files or processes",
        "see its limits with `pi ssh {pod} ulimit -a`, and raise them",
    ),
    KnownCause(
        r"Failed to find C compiler|Python\.h: No such file or directory",
        "a kernel cannot be compiled: there is no C compiler, or no Python.h, on the pod",
        "install them with `pi pods setup {pod}`",
    ),
    KnownCause(
        r"Could not find nvcc|nvcc: not found|No such file or directory: '\S*nvcc'|No such file or directory: 'ninja'"
        r"|Ninja is required",
        "a kernel cannot be compiled: nvcc, or ninja, is not on the pod",
        "install them with `pi pods setup {pod} --cuda auto`",
    ),
    KnownCause(
        r"Ninja build failed|CalledProcessError: Command '\['?\S*(?:gcc|cc|nvcc|ninja)\b.*",
        "a kernel could not be compiled on the pod",
        "let `pi pods setup {pod} --cuda auto` set up what vLLM compiles with",
        is_vague=True,
    ),
    KnownCause(
        r"(?P<what>lib(?:cudart|nvrtc|cublas|cudnn|nccl)\S*): cannot open shared object file"
        r"|version `(?P<name>GLIBC\w*)' not found",
        "this vLLM does not belong on this machine: it wants a library that is not there",
        "get one that does with `pi pods setup {pod} --vllm release`, or choose a newer image",
    ),
    KnownCause(
        r"cannot run /\S+: (?P<what>.*)",
        "vLLM cannot be run on the pod: {what}",
        "repair it with `pi pods setup {pod}`",
    ),
    KnownCause(
        r"ModuleNotFoundError: No module named '(?P<what>\w+)",
        "the Python package `{what}` is missing on the pod",
        "repair vLLM with `pi pods setup {pod}`; what is not vLLM's is added with `pi ssh {pod} "
        "'PATH=~/.pi/uv/bin:$PATH uv pip install -p ~/venv {what}'`",
        is_vague=True,
    ),
    KnownCause(
        r"Timed out waiting for engine core processes to start",
        "the engine was not ready in the time that vLLM gives it",
        "give it an hour with `pi ssh {pod} 'echo export VLLM_ENGINE_READY_TIMEOUT_S=3600 >> ~/.pi/env'`",
    ),
)  # fmt: skip

CAUSES = (*GPUS, *MACHINE, *HUB)

# Said when there is nothing else: a process has died and left no word. The first that is anywhere in the log counts.
SILENT_DEATHS = (
    KnownCause(
        r"Failed core proc\(s\): \{'\w+': -9\b",
        "the engine was killed by signal 9 (out of host memory?)",
        "see with `pi ssh {pod} free -g`, or take a machine with more memory (not GPU memory)",
    ),
    KnownCause(
        r"Failed core proc\(s\): \{'\w+': -4\b",
        "the machine's processor lacks instructions that this vLLM needs",
        "take another machine",
    ),
    KnownCause(
        r"Failed core proc\(s\): \{'\w+': -(?P<signal>\d+)",
        "the engine was killed by signal {signal}",
        "read the log",
    ),
    KnownCause(
        r"Worker proc (?P<what>\S+) died unexpectedly",
        "the engine's worker `{what}` was killed (out of host memory?)",
        "see with `pi ssh {pod} free -g`, or take a machine with more memory (not GPU memory)",
    ),
    KnownCause(
        r"WorkerProc initialization failed|Failed core proc\(s\): \{\}",
        "a process of the engine died without a word (out of host memory?)",
        "see with `pi ssh {pod} free -g`, or take a machine with more memory (not GPU memory)",
    ),
)  # fmt: skip
