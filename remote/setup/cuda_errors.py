"""What keeps CUDA from working on a machine, by the error of CUDA: the cause, and what to type or ask the provider for.

The one table for setup, for `pi pods --check` and for the diagnosis of logs; docs/errors.md lists it. Numbers and names
are those of CUDA's driver API (`CUresult`), which the runtime API shares from 35 on for what is here.

    python3 -I -S cuda_errors.py < answer      print what `ask_cuda.py` has found out, for `cuda_question.sh`
"""

import contextlib
import json
import re
import sys
from typing import Any, Dict, List, Mapping, NamedTuple


class Words(NamedTuple):
    """What a message says: the cause, and what to do about it."""

    cause: str
    remedy: str


RESTART = "restart the container or the machine; if that does not help, ask the provider for another one"
FABRIC = (
    "as root: `systemctl restart nvidia-fabricmanager`, in the version of the driver (B200 and newer also need NVLSM); "
    "in a container or virtual machine ask the provider for it, or for another machine"
)
UVM = (
    "as root: `nvidia-modprobe -u -c 0`, or `modprobe -r nvidia_uvm && modprobe nvidia_uvm`; in a container, which the "
    "provider gives its devices, ask for one with /dev/nvidia-uvm, or for another machine"
)
BROKEN = "restart the machine; if that does not help, ask the provider for another one"
MPS = "as root: `echo quit | nvidia-cuda-mps-control` stops MPS, which vLLM does not need"

ERRORS: Dict[int, Words] = {
    -1: Words("its compute mode forbids programs", "as root: `nvidia-smi -c DEFAULT`"),
    2: Words("its memory is full", "see what uses it with `nvidia-smi`"),
    3: Words("the NVIDIA driver cannot be initialised", RESTART),
    35: Words(
        "the NVIDIA driver is too old for this PyTorch",
        "use a machine with a newer driver, or install the vLLM for this one: `pi pods setup {pod} --vllm release`",
    ),
    36: Words("the NVIDIA driver is too old for its library", RESTART),
    46: Words("another process has the GPU for itself", "see which with `nvidia-smi`; it may be in another container"),
    100: Words(
        "the NVIDIA driver gives this machine no GPU",
        "the user needs access to /dev/nvidia*; a container that has lost its GPUs gets them back when it is "
        "restarted, and a GPU in MIG mode needs slices",
    ),
    101: Words("a GPU is not usable", BROKEN),
    102: Words("the vGPU has no licence", "ask the provider for one: without it the GPU does not compute"),
    209: Words(
        "this vLLM is not built for this kind of GPU",
        "install a newer vLLM with `pi pods setup {pod} --vllm nightly`, or use another kind of GPU",
    ),
    214: Words("the GPU's memory has an error that ECC cannot correct", BROKEN),
    220: Words("NVLink has an error that cannot be corrected", BROKEN),
    222: Words(
        "the NVIDIA driver is older than the CUDA that a kernel was compiled with (PTX)",
        "use a machine with driver 580 or newer (575 for a vLLM of CUDA 12.9), or install the vLLM for this driver "
        "with `pi pods setup {pod} --vllm release`",
    ),
    302: Words("the NVIDIA driver's libraries are of different versions", RESTART),
    303: Words("one of the NVIDIA driver's libraries cannot be initialised", RESTART),
    304: Words("a system call of the NVIDIA driver fails, mostly because /dev/nvidia-uvm is missing or closed", UVM),
    719: Words("a kernel crashed on the GPU", BROKEN),
    800: Words("the machine does not permit what CUDA needs", RESTART),
    801: Words("the GPU or its driver does not support what CUDA needs", BROKEN),
    802: Words("the GPUs wait for NVSwitch: Fabric Manager does not run, or its version is not the driver's", FABRIC),
    803: Words(
        "the NVIDIA driver's kernel module and its CUDA library are of different versions",
        "after an update of the driver, reboot; in a container, choose an image without a CUDA library of its own "
        "(package cuda-compat)",
    ),
    804: Words(
        "the CUDA compatibility library is loaded, which this kind of GPU does not support",
        "remove the package cuda-compat, or its folder from /etc/ld.so.conf.d (then `ldconfig`) and from "
        "LD_LIBRARY_PATH; or choose an image with an older CUDA, or a machine with a newer driver",
    ),
    805: Words("the MPS daemon does not answer", MPS),
    806: Words("the MPS daemon does not answer", MPS),
    807: Words("the MPS daemon is not ready", MPS),
    808: Words("the MPS daemon has too many clients", MPS),
    809: Words("the MPS daemon has too many clients", MPS),
    999: Words("the NVIDIA driver fails without a reason, mostly because of its module nvidia_uvm", UVM),
}
OTHER = Words("CUDA reports an error that pi does not know", RESTART)
CAPABILITIES = (
    "in a container, choose an image or a template with NVIDIA_DRIVER_CAPABILITIES=compute,utility; "
    "on a machine of its own, install the driver with its CUDA libraries (libcuda1, libnvidia-compute)"
)
PROBLEMS: Dict[str, Words] = {
    "no-library": Words("the NVIDIA driver's library libcuda.so.1 is not there, though nvidia-smi is", CAPABILITIES),
    "hidden-library": Words(
        "programs do not find the NVIDIA driver's library {reason}",
        "as root: `echo {folder} > /etc/ld.so.conf.d/nvidia-driver.conf && ldconfig`",
    ),
    "broken-library": Words("the NVIDIA driver's library cannot be loaded: {reason}", CAPABILITIES),
    "stub-library": Words(
        "the loader finds the stub of the CUDA toolkit instead of the NVIDIA driver's library",
        "remove its folder, …/stubs, from LD_LIBRARY_PATH or from /etc/ld.so.conf.d (then `ldconfig`, as root)",
    ),
    "lost-gpus": Words(
        "nvidia-smi lists {expected} GPUs, and CUDA finds {count}",
        "restart the container, which may have lost devices, or the machine; if that does not help, ask the provider "
        "for another one",
    ),
    "hangs": Words("the NVIDIA driver does not answer (within {reason})", BROKEN),
    "crashed": Words(
        "the NVIDIA driver's library crashed ({reason})",
        "its version may not be that of the driver's kernel module: " + RESTART,
    ),
    "torch-crashed": Words(
        "PyTorch crashed when it used the GPUs ({reason})", "install another vLLM: `pi pods setup {pod} --vllm VERSION`"
    ),
    "unasked": Words("CUDA could not be asked ({reason})", "repair the machine's Python"),
}
HARMLESS = (2, 46)  # the GPU works, but not for us now
OF_DEVICES = (3, 100, 101, 304, 800, 999)  # a device file may be missing, or closed to the user or the container


def main() -> None:
    """Print for `cuda_question.sh` one line for each message: `*` information, `!` a warning, `x` a failure, `~` one
    that may go away within a minute, `?` that there is no answer."""
    answer: Dict[str, Any] = {"problem": "unasked", "code": 0, "reason": "no answer", "expected": 0, "count": 0}
    answer["library"] = ""
    with contextlib.suppress(ValueError):
        answer.update(json.loads(sys.stdin.read()))
    lines: List[str] = []
    if answer["problem"]:
        sign = "?" if answer["problem"] == "unasked" else "~" if answer["code"] == 802 else "x"
        lines.append("%s %s" % (sign, sentence(explain(answer))))
    else:
        lines.extend("! %s" % sentence(words) for words in remarks(answer))
        lines.append("* %s" % verdict(answer))
    sys.stdout.write("".join("%s\n" % " ".join(line.split()) for line in lines))


def sentence(words: Words) -> str:
    return "%s. %s%s" % (words.cause, words.remedy[:1].upper(), words.remedy[1:])


def verdict(answer: Mapping[str, Any]) -> str:
    """Return what works."""
    count, version = answer["count"] - len(answer["gpus"]), answer["version"]
    text = "CUDA %d.%d works" % (version // 1000, version % 1000 // 10)
    text += " on %d GPU%s" % (count, "" if count == 1 else "s")
    return text + (" (simulated)" if answer["simulated"] else "")


def explain(answer: Mapping[str, Any], pod: str = "NAME") -> Words:
    """Return why CUDA does not work, from an answer with a problem; `pod` is for commands of pi."""
    code, problem = answer["code"], answer["problem"]
    words = ERRORS.get(code, OTHER) if problem == "error" else PROBLEMS[problem]
    cause = words.cause
    for name in ("reason", "expected", "count"):
        cause = cause.replace("{%s}" % name, str(answer[name]))
    details = ["CUDA error %d" % code] if problem == "error" and code > 0 else []
    details.extend(facts(answer))
    remedy = words.remedy.replace("{pod}", pod).replace("{folder}", typed(answer["reason"].rpartition("/")[0]))
    if code == 804 and answer["entry"]:
        remedy = "as root: `rm %s && ldconfig`, or choose another image" % typed(answer["entry"])
    return Words("%s (%s)" % (cause, "; ".join(details)) if details else cause, remedy)


def typed(path: str) -> str:
    """Return a path for a command, as long as it can be typed as it is."""
    return path if re.match(r"/[A-Za-z0-9_./+-]{1,250}\Z", path) else "FOLDER"


def facts(answer: Mapping[str, Any]) -> List[str]:
    """Return what helps to find the fault: files that are missing or closed, the library and the kernel module."""
    found = []
    if answer["problem"] == "lost-gpus" or answer["code"] in OF_DEVICES:
        if answer["lacking"]:
            found.append("missing: %s" % ", ".join(answer["lacking"]))
        if answer["denied"]:
            found.append("not permitted: %s" % ", ".join(answer["denied"]))
    if answer["library"] and (answer["code"] in (803, 804) or answer["problem"] in ("stub-library", "crashed")):
        found.append("the library is %s" % answer["library"])
        if answer["driver"]:
            found.append("the kernel module is %s" % answer["driver"])
    return found


def remarks(answer: Mapping[str, Any], pod: str = "NAME") -> List[Words]:
    """Return what is wrong with single GPUs, while others work."""
    return [remark(gpu, code, pod) for gpu, code in answer["gpus"]]


def remark(gpu: int, code: int, pod: str) -> Words:
    words = ERRORS.get(code, OTHER)
    number = " (CUDA error %d)" % code if code > 0 else ""
    what = "was not tried" if code in HARMLESS else "cannot be used"
    return Words("GPU %d %s: %s%s" % (gpu, what, words.cause, number), words.remedy.replace("{pod}", pod))


if __name__ == "__main__":
    main()
