"""How vLLM should read the weights, by the file system that they lie on.

By itself vLLM maps the files and reads what it comes to, here a little and there a little, which takes network file
systems ten times as long as reading the files from beginning to end. It does that only where it knows the file system
(NFS and Lustre), and so does what is done here for the others.
"""

import glob
import os
import re
from typing import Iterator, List, Optional

from agent import disks, home
from agent.serve_command import READ_AHEAD
from agent.vllm_versions import Vllm

KNOWN_TO_VLLM = ("nfs", "nfs4", "lustre")
SINCE = "0.19"  # earlier ones know other strategies
SHARE = 0.9  # of the RAM that is left, as vLLM has it: what does not fit would be read twice
OWN_WAYS = ("--load-format", "--safetensors-load-strategy", "--model-loader-extra-config")


def reading_ahead(folder: str, arguments: List[str], vllm: Vllm) -> List[str]:
    """Return vLLM's arguments for reading the files in a folder ahead, if that is of use."""
    if not folder or not may_choose(arguments, vllm):
        return []
    files = [os.path.realpath(path) for path in glob.glob(os.path.join(glob.escape(folder), "*.safetensors"))]
    if not files:
        return []
    kind, size = disks.mount_of(files[0])[2], sum(map(os.path.getsize, files))
    return list(READ_AHEAD) if helps(kind, size, available_memory()) else []


def may_choose(arguments: List[str], vllm: Vllm) -> bool:
    """Tell whether a way of reading is ours to choose: no argument has one, and this vLLM knows ours."""
    knows = vllm.version is not None and vllm.is_at_least(SINCE)
    return knows and not any(each.startswith(OWN_WAYS) for each in arguments)


def helps(kind: str, size: int, available: int) -> bool:
    """Tell whether to read ahead so many bytes from a file system of this type, with so much memory left for them."""
    return disks.is_network(kind) and kind not in KNOWN_TO_VLLM and size <= SHARE * available


def available_memory() -> int:
    """Return the bytes of RAM that are left, for the machine and for the control groups that we are in."""
    free = re.search(r"^MemAvailable:\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return min([int(free.group(1)) * 1024 if free else 0, *left_in_groups()])


def left_in_groups() -> Iterator[int]:
    """Yield what each memory limit leaves; the cache of files gives way. See cgroups(7)."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = "/sys/fs/cgroup" + ("/memory" if controllers else "")
            names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
            for folder in upwards(root, path):
                left = left_in(folder, *(names if controllers else ("max", "current", "inactive_file")))
                if left is not None:
                    yield left


def upwards(root: str, path: str) -> Iterator[str]:
    """Yield a group's folder and all above it; in a container its own may be at the root."""
    while path.strip("/"):
        yield root + path
        path = os.path.dirname(path)
    yield root


def left_in(folder: str, limit: str, used: str, cache: str) -> Optional[int]:
    most, now = (read("%s/memory.%s" % (folder, name)).strip() for name in (limit, used))
    if not most.isdigit() or not now.isdigit():
        return None  # no such group, or `max`
    given_way = re.search(r"^%s (\d+)" % cache, read(folder + "/memory.stat"), re.MULTILINE)
    return int(most) - int(now) + (int(given_way.group(1)) if given_way else 0)


def read(path: str) -> str:
    try:
        return home.read_bytes(path).decode("utf-8", "replace")
    except OSError:
        return ""
