"""The RAM that a program of this machine may use: that of the machine, within the limits of the control groups.

A container shows the memory of its whole machine, and is ended above its own limit.
"""

import os
import re
from typing import Iterator, Optional, Tuple

from agent import home


def available_memory() -> int:
    """Return the available bytes of RAM, within the limits of the agent's control groups."""
    return min([kilobytes("MemAvailable") * 1024, *left_in_groups()])


def whole_memory() -> int:
    """Return all bytes of RAM that this machine may use: those of its hardware, or the limit of its control groups."""
    limits = [read("%s/memory.%s" % (folder, names[0])).strip() for folder, names in groups()]
    return min([kilobytes("MemTotal") * 1024, *(int(limit) for limit in limits if limit.isdigit())])


def left_in_groups() -> Iterator[int]:
    """Yield the bytes that each memory limit leaves, without file caches, which are dropped first. See cgroups(7)."""
    for folder, names in groups():
        left = left_in(folder, *names)
        if left is not None:
            yield left


def groups() -> Iterator[Tuple[str, Tuple[str, str, str]]]:
    """Yield the folders of the control groups that limit the memory of this process, with the names of their files."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = "/sys/fs/cgroup" + ("/memory" if controllers else "")
            first = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
            for folder in upwards(root, path):
                yield folder, first if controllers else ("max", "current", "inactive_file")


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


def kilobytes(name: str) -> int:
    """Return a figure of /proc/meminfo, 0 if it is not there."""
    found = re.search(r"^%s: +(\d{1,18}) kB$" % name, read("/proc/meminfo"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def read(path: str) -> str:
    try:
        return home.read_bytes(path).decode("utf-8", "replace")
    except OSError:
        return ""
