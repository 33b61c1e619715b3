"""Ask the NVIDIA driver itself whether CUDA works, and print the answer as one line of JSON (`protocol.CudaAnswer`).

    python3 -I -S ask_cuda.py [--expect COUNT] [--leave 0,3] [--seconds 60] [--torch]

nvidia-smi needs less of a machine than a model does: it lists GPUs without Fabric Manager, without /dev/nvidia-uvm, and
with a compatibility library that the GPU does not support. So this program does what a model does first: it loads
`libcuda.so.1` as a model would, initialises it, counts the GPUs, and allocates a megabyte on each. `cuda_errors.py` has
the words for what it finds. It needs nothing but the standard library of Python 3.8, except with `--torch`.

- GPUs in use (`--leave`) are counted, but not touched: a context takes 300 to 500 MiB for a moment, which could make a
  model fail that is measuring its memory.
- A wedged driver never returns from a system call, and its process cannot be killed. So a child asks; it has no
  descriptor of ours but a pipe, and is abandoned after the time limit.
- Variables that hide or renumber GPUs are removed: models get their own.
"""

import ctypes
import json
import os
import re
import select
import signal
import sys
import time
from typing import Any, Dict, List, Tuple

ROOT = os.environ.get("PI_MACHINE_ROOT", "")  # machines of the tests and the demo have /proc and /dev below this folder
LIBRARY = "libcuda.so.1"
# Where drivers and container runtimes put the library; the loader may not look there.
FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
)
SECONDS = 60.0  # without persistence mode, a machine with eight GPUs takes up to 30
MEBIBYTE = 1 << 20
MAX_GPUS = 256
MAX_REASON = 500  # characters
COMPUTE_MODE, PROHIBITED = 20, 2  # an attribute of a device, and its value if nobody may use the device
OUT_OF_MEMORY, STUB_LIBRARY, DEVICE_UNAVAILABLE, UNKNOWN_ERROR = 2, 34, 46, 999
PROHIBITED_MODE = -1  # in place of an error of CUDA
# What PyTorch says without a number.
SAYINGS = (
    (209, "no kernel image is available"),
    (222, "compiled with an unsupported toolchain"),
    (35, "driver on your system is too old"),
    (35, "driver version is insufficient"),
    (100, "Found no NVIDIA driver"),
    (802, "system not yet initialized"),
    (803, "unsupported display driver / cuda driver combination"),
    (804, "forward compatibility was attempted"),
    (999, "unknown error"),
)


class Failed(Exception):
    """CUDA does not work: the kind of problem, and the error of CUDA, if it is one."""

    def __init__(self, problem: str, code: int = 0, reason: str = "") -> None:
        super().__init__(problem)
        self.problem, self.code, self.reason = problem, code, reason


def main() -> None:
    options = read_options(sys.argv[1:])
    answer = unanswered()
    try:
        answer.update(ask_in_a_child(options))
    except OSError as error:  # not one more process, or no memory for it
        answer.update(problem="unasked", reason=str(error))
    sys.stdout.write(json.dumps(answer) + "\n")


def read_options(words: List[str]) -> Dict[str, Any]:
    options = {"expect": 0, "leave": [], "seconds": SECONDS, "torch": "--torch" in words}
    for place, name in enumerate(words[:-1]):
        value = words[place + 1]
        if name == "--expect":
            options["expect"] = int(value)
        elif name == "--leave":
            options["leave"] = [int(number) for number in value.split(",") if number]
        elif name == "--seconds":
            options["seconds"] = float(value)
    return options


def unanswered() -> Dict[str, Any]:
    return {
        "problem": "",
        "code": 0,
        "reason": "",
        "gpus": [],
        "count": 0,
        "expected": 0,
        "version": 0,
        "library": "",
        "driver": "",
        "entry": "",
        "lacking": [],
        "denied": [],
        "simulated": False,
    }


def ask_in_a_child(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return the answer of a child process, or that it hangs or has crashed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            leave_our_descriptors(writing)
            os.write(3, json.dumps(ask(options)).encode() + b"\n")
        finally:
            os._exit(0)  # without the library's own cleaning up, which may hang
    os.close(writing)
    output, deadline = b"", time.monotonic() + options["seconds"]
    while not output.endswith(b"\n"):  # not until the child has ended, for which the driver may need longer
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)  # without waiting: in a driver that hangs, it stays
            within = "%.0f s" % options["seconds"]
            if options["torch"]:  # the driver has answered before: reading PyTorch from a slow disk takes minutes
                return {"problem": "unasked", "reason": "PyTorch did not answer within " + within}
            return {"problem": "hangs", "reason": within, "driver": kernel_module()}
        chunk = os.read(reading, 65536)
        if not chunk:
            break
        output += chunk
    if output:
        return dict(json.loads(output))
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
    if ended and os.WIFSIGNALED(status):
        problem = "torch-crashed" if options["torch"] else "crashed"
        return {"problem": problem, "reason": "signal %d" % os.WTERMSIG(status), "driver": kernel_module()}
    return {"problem": "unasked", "reason": "no answer"}


def leave_our_descriptors(pipe: int) -> None:
    """Keep nothing open but the pipe, as descriptor 3: whoever waits for the end of our output must not wait for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if pipe != 3:
        os.dup2(pipe, 3)
    os.closerange(4, 4096)


def ask(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return what is known after asking; runs in the child."""
    prepare_the_environment()
    answer: Dict[str, Any] = {"expected": options["expect"], "driver": kernel_module(), "count": 0, "gpus": []}
    try:
        library, answer["simulated"] = load()
        answer["library"] = path_of_library()
        if "/stubs/" in answer["library"]:
            raise Failed("stub-library")
        (ask_torch if options["torch"] else ask_driver)(library, answer, options)
        if 0 < answer["count"] < options["expect"]:
            raise Failed("lost-gpus")
        faults = [code for _, code in answer["gpus"] if code not in (OUT_OF_MEMORY, DEVICE_UNAVAILABLE)]
        if faults and len(faults) == answer["count"]:  # not one works
            raise Failed("error", faults[0])
    except Failed as failed:
        answer.update(problem=failed.problem, code=failed.code, reason=failed.reason[:MAX_REASON])
        answer["library"] = answer.get("library") or path_of_library()
        answer["entry"] = entry_of_loader(answer["library"])
        answer["lacking"], answer["denied"] = devices()
    return answer


def prepare_the_environment() -> None:
    """Let the GPUs be counted as nvidia-smi does."""
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


# The library


def load() -> Tuple[Any, bool]:
    """Load the library that models will load, and return whether it is a simulation."""
    simulated = os.environ.get("PI_DEMO_CUDA")  # a module in Python, or a library
    if simulated and simulated.endswith(".py"):
        import runpy

        return runpy.run_path(simulated)["LIBRARY"], True
    try:
        return ctypes.CDLL(simulated or os.path.join(compatibility_folder(), LIBRARY)), bool(simulated)
    except OSError as error:
        reason = str(error)
    elsewhere = next((path for path in candidates() if os.path.exists(path)), None)
    if "cannot open shared object file" not in reason or not reason.startswith(LIBRARY):
        raise Failed("broken-library", reason=reason)
    if elsewhere:
        raise Failed("hidden-library", reason=elsewhere)
    raise Failed("no-library")


def compatibility_folder() -> str:
    """Return the folder of the library that vLLM is told to load instead of the driver's."""
    if os.environ.get("VLLM_ENABLE_CUDA_COMPATIBILITY", "").lower() in ("1", "true"):
        return os.environ.get("VLLM_CUDA_COMPATIBILITY_PATH", "")
    return ""


def candidates() -> List[str]:
    return [os.path.join(ROOT + folder, LIBRARY) for folder in FOLDERS]


def path_of_library() -> str:
    """Return the file that is loaded, with its links resolved; empty if none is."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = [line.split(None, 5)[-1].strip() for line in maps if "/libcuda.so" in line]
    except OSError:
        return ""
    return paths[0] if paths else ""


def entry_of_loader(library: str) -> str:
    """Return the file that makes the loader find this library, if it is not where drivers put theirs."""
    folder = os.path.dirname(library)
    if not folder or folder in FOLDERS:
        return ""
    settings = ROOT + "/etc/ld.so.conf.d"
    try:
        names = sorted(os.listdir(settings))
    except OSError:
        return ""
    for name in names:
        try:
            with open(os.path.join(settings, name), encoding="utf-8", errors="replace") as file:
                listed = [line.strip() for line in file]
        except OSError:
            continue
        if any(line.startswith("/") and os.path.realpath(line) == os.path.realpath(folder) for line in listed):
            return "/etc/ld.so.conf.d/" + name
    return ""


# The machine


def kernel_module() -> str:
    """Return the version of the kernel module of the driver; empty if it is not loaded, or not shown to a container."""
    try:
        with open(ROOT + "/proc/driver/nvidia/version", encoding="utf-8", errors="replace") as file:
            found = re.search(r"Kernel Module\D*?(\d{3,4}(?:\.\d+){1,2})", file.read(4096))
    except OSError:
        return ""
    return found.group(1) if found else ""


def devices() -> Tuple[List[str], List[str]]:
    """Return the device files that CUDA needs and that are missing, and those that may not be opened."""
    if not os.path.isdir(ROOT + "/dev") or os.path.exists(ROOT + "/dev/dxg"):  # WSL has others
        return [], []
    try:
        cards = sorted(name for name in os.listdir(ROOT + "/dev") if re.match(r"nvidia\d+\Z", name))
    except OSError:
        cards = []
    lacking, denied = ([] if cards else ["/dev/nvidia0"]), []
    for name in ["nvidiactl", "nvidia-uvm", *cards[:MAX_GPUS]]:
        try:
            os.close(os.open(ROOT + "/dev/" + name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            lacking.append("/dev/" + name)
        except PermissionError:
            denied.append("/dev/" + name)
        except OSError:
            pass
    return lacking, denied


# The questions


def ask_driver(library: Any, answer: Dict[str, Any], options: Dict[str, Any]) -> None:
    require(library.cuInit(0))
    number = ctypes.c_int()
    require(library.cuDriverGetVersion(ctypes.byref(number)))
    answer["version"] = number.value
    require(library.cuDeviceGetCount(ctypes.byref(number)))
    answer["count"] = number.value
    if not number.value:
        raise Failed("error", 100)
    codes = [(gpu, allocate(library, gpu)) for gpu in range(min(number.value, MAX_GPUS)) if gpu not in options["leave"]]
    answer["gpus"] = [[gpu, code] for gpu, code in codes if code]


def require(code: int) -> None:
    if code:
        raise Failed("stub-library" if code == STUB_LIBRARY else "error", code)


def allocate(library: Any, gpu: int) -> int:
    """Allocate a megabyte on a GPU and free it; return the error of CUDA, or 0."""
    device, mode, context, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    code = library.cuDeviceGet(ctypes.byref(device), gpu)
    if code:
        return int(code)
    code = library.cuDeviceGetAttribute(ctypes.byref(mode), COMPUTE_MODE, device)
    if not code and mode.value == PROHIBITED:
        return PROHIBITED_MODE
    code = library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if code:
        return int(code)
    code = library.cuCtxSetCurrent(context)
    if not code:
        code = library.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(MEBIBYTE))
    if not code:
        code = library.cuMemFree_v2(memory)
    library.cuCtxSetCurrent(None)
    library.cuDevicePrimaryCtxRelease(device)
    return int(code)


def ask_torch(_: Any, answer: Dict[str, Any], options: Dict[str, Any]) -> None:
    """Let PyTorch compute on each GPU: it needs more of the driver than the allocation does."""
    try:
        import torch
    except (ImportError, OSError) as error:
        raise Failed("unasked", reason="%s: %s" % (type(error).__name__, error)) from None
    try:
        torch.cuda.init()  # unlike `is_available`, it says why not
        answer["count"] = int(torch.cuda.device_count())
    except (RuntimeError, AssertionError) as error:
        raise Failed("error", code_of(error), str(error)) from None
    for gpu in range(answer["count"]):
        if gpu not in options["leave"]:
            try:
                (torch.zeros(1, device="cuda:%d" % gpu) + 1).item()
            except RuntimeError as error:
                answer["gpus"].append([gpu, code_of(error)])


def code_of(error: Exception) -> int:
    """Return the error of CUDA in an exception of PyTorch."""
    code, text = getattr(error, "error_code", None), str(error)
    if isinstance(code, int) and code:
        return code
    found = re.search(r"\b[Ee]rror (\d{1,3}):", text)
    if found:
        return int(found.group(1))
    if "out of memory" in text:
        return OUT_OF_MEMORY
    if "busy or unavailable" in text:
        return DEVICE_UNAVAILABLE
    return next((code for code, words in SAYINGS if words in text), UNKNOWN_ERROR)


if __name__ == "__main__":
    main()
