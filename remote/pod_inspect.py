"""Tell what this machine is and has: GPUs, disks, vLLM versions. It reads, and changes nothing.

Whatever asks a driver or a network file system may hang for ever: it gets so long, and is left behind then.
Standard library only, Python 3.8 or newer.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from typing import Dict, List, Optional, Tuple

import pod_machine as machine
import pod_vllm
from pod_machine import HOME, PI, Json

PATIENCE = 10.0  # seconds for nvidia-smi: without persistence mode a machine with eight GPUs takes three
DISK_PATIENCE = 5.0
NVIDIA_PLACES = ["/usr/lib/wsl/lib", "/usr/local/nvidia/bin"]  # where some containers keep nvidia-smi


def look(gpu_query: List[str], gpu_list: List[str]) -> Json:
    """Answer everything at once. The texts of `nvidia-smi` are read by pi, which brings the question along."""
    settings = machine.pod_environment()
    told = ask(gpu_query, settings)
    storage = models_path(settings)
    return {
        "gpus": told["text"],
        "slices": ask(gpu_list, settings)["text"] if "Enabled" in told["text"] else "",
        "trouble": told["trouble"],
        "home": disk(HOME),
        "storage": disk(storage) if storage else None,
        "vllm": pod_vllm.version(),
        "versions": pod_vllm.versions(),
        "provider": provider(),
        "boot": machine.boot_id(),
    }


def ask(command: List[str], settings: Dict[str, str]) -> Json:
    """Run a command for its output; `trouble` says why there is none, or not all of it."""
    places = os.pathsep.join([settings.get("PATH", os.defpath), *NVIDIA_PLACES])
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(settings, PATH=places, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError as error:
        return {"text": "", "trouble": "%s: %s" % (command[0], error.strerror)}
    assert process.stdout is not None
    output, is_whole = read_until(process.stdout.fileno(), time.monotonic() + PATIENCE)
    text = output.decode("utf-8", "replace")
    if not is_whole or not machine.wait_until(lambda: process.poll() is not None, 1.0):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody waits for it: a process that hangs in a driver stays
        return {"text": text, "trouble": "%s did not answer within %.0f s" % (command[0], PATIENCE)}
    words = text.strip().splitlines()
    failed = "%s failed: %s" % (command[0], words[-1] if words else "exit code %d" % process.returncode)
    return {"text": text, "trouble": failed if process.returncode else None}


def read_until(descriptor: int, deadline: float) -> Tuple[bytes, bool]:
    """Read to the end, or so long; tell whether the end was reached."""
    output = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return output, True
        output += chunk
    return output, False


def models_path(settings: Dict[str, str]) -> Optional[str]:
    """Return the folder for models: setup puts the cache of Hugging Face into it."""
    cache = settings.get("HF_HOME", "").rstrip("/")
    if not cache.startswith("/") or cache == os.path.join(HOME, ".cache", "huggingface"):
        return None
    return os.path.dirname(cache)


def disk(path: str) -> Json:
    """Describe the disk under a folder; `trouble` says why it cannot be. A dead network share answers nobody, ever."""
    told: List[Json] = []
    asking = threading.Thread(target=lambda: told.append(measure(path)), daemon=True)
    asking.start()
    asking.join(DISK_PATIENCE)
    if told:
        return told[0]
    trouble = "did not answer within %.0f s" % DISK_PATIENCE
    return {"path": path, "total": None, "free": None, "is_mount": False, "kind": "", "trouble": trouble}


def measure(path: str) -> Json:
    try:
        numbers = os.statvfs(path)
    except OSError as error:
        trouble = os.strerror(error.errno or 0)
        return {"path": path, "total": None, "free": None, "is_mount": False, "kind": "", "trouble": trouble}
    point, source, kind = mount_of(os.path.realpath(path))
    # A pool tells the size of the whole cluster, never the share of it that is ours.
    is_pool = source.startswith("mfs#") or (kind.startswith("fuse") and kind != "fuseblk")
    return {
        "path": path,
        "total": None if is_pool else numbers.f_frsize * numbers.f_blocks,
        "free": None if is_pool else numbers.f_frsize * numbers.f_bavail,
        "is_mount": point != "/",
        "kind": kind,
        "trouble": None,
    }


def mount_of(path: str) -> Tuple[str, str, str]:
    """Return (mount point, source, type) of the file system that holds a path; see proc(5) and fstab(5)."""
    found = ("/", "", "")
    for line in machine.read_bytes("/proc/self/mounts").decode("utf-8", "surrogateescape").splitlines():
        fields = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), field) for field in line.split(" ")]
        source, point, kind = fields[:3]
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(found[0]):
            found = (point, source, kind)
    return found


def provider() -> Optional[str]:
    """Return the word by which setup recognised who rents out this machine."""
    try:
        words = machine.read_bytes(os.path.join(PI, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
