"""Choose how vLLM reads the weights, by the file system they are on.

By default, vLLM maps the files into memory and reads single pages, which on a network file system takes ten times as
long as reading the files sequentially. It reads sequentially only on file systems that it knows (NFS and Lustre); this
module makes it do so on others.
"""

import glob
import os
import re
from typing import Iterator, List, Optional

from agent import home, mounts
from agent.serve_command import READ_AHEAD
from agent.vllm_versions import Vllm

KNOWN_TO_VLLM = ("nfs", "nfs4", "lustre")
SINCE = "0.19"  # earlier versions have other strategies
SHARE = 0.9  # of the available RAM, the limit that vLLM uses: files that do not fit would be read twice
LOAD_OPTIONS = ("--load-format", "--safetensors-load-strategy", "--model-loader-extra-config")


def reading_ahead(folder: str, arguments: List[str], vllm: Vllm) -> List[str]:
    """Return the vLLM arguments for reading the files in a folder ahead, if that helps."""
    if not folder or not may_choose(arguments, vllm):
        return []
    files = [os.path.realpath(path) for path in glob.glob(os.path.join(glob.escape(folder), "*.safetensors"))]
    if not files:
        return []
    kind, size = mounts.mount_of(files[0])[2], sum(map(os.path.getsize, files))
    return list(READ_AHEAD) if helps(kind, size, available_memory()) else []


def may_choose(arguments: List[str], vllm: Vllm) -> bool:
    """Return whether pi may choose how to read: no argument does, and this vLLM has the strategy."""
    knows = vllm.version is not None and vllm.is_at_least(SINCE)
    return knows and not any(argument.startswith(LOAD_OPTIONS) for argument in arguments)


def helps(kind: str, size: int, available: int) -> bool:
    """Return whether to read files ahead; `kind` is the type of their file system, `size` and `available` are bytes."""
    return mounts.is_network(kind) and kind not in KNOWN_TO_VLLM and size <= SHARE * available


def available_memory() -> int:
    """Return the available bytes of RAM, within the limits of the agent's control groups."""
    free = re.search(r"^MemAvailable:\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return min([int(free.group(1)) * 1024 if free else 0, *left_in_groups()])


def left_in_groups() -> Iterator[int]:
    """Yield the bytes that each memory limit leaves, without file caches, which are dropped first. See cgroups(7)."""
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
    """Yield a group's folder and those above it; in a container, the group's own may be the root."""
    while path.strip("/"):
        yield root + path
        path = os.path.dirname(path)
    yield root


def left_in(folder: str, limit: str, used: str, cache: str) -> Optional[int]:
    total, now = (read("%s/memory.%s" % (folder, name)).strip() for name in (limit, used))
    if not total.isdigit() or not now.isdigit():
        return None  # no such group, or `max`
    cached = re.search(r"^%s (\d+)" % cache, read(folder + "/memory.stat"), re.MULTILINE)
    return int(total) - int(now) + (int(cached.group(1)) if cached else 0)


def read(path: str) -> str:
    try:
        return home.read_bytes(path).decode("utf-8", "replace")
    except OSError:
        return ""
