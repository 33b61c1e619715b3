"""The folder of what is large, if `pi pods setup --home DIR` has put it on another disk.

`~/.pi` stays in the home folder: it is small, and found without any setting. `~/.pi/place` (`setup/home.sh`; for
another machine with the same home, the file is in its own folder) says where the rest is, a path a line:

    /ephemeral            DIR, or ~ for the home folder
    /ephemeral/pi-vllm    unless it is ~: the folder of this machine there, `DIR/pi-vllm` or `DIR/pi-vllm/machines/ID`
    /data/pi-vllm         folders of earlier values of --home, whose environments are kept

`NAMES` are what pi has in such a folder; it creates nothing else there. Models are not in it but in `DIR/huggingface`,
with vLLM's compiled kernels in `DIR/vllm-cache`, as with `--models-path DIR`.
"""

import contextlib
import os
import re
from typing import List, Optional

from agent import home, machine

FILE = os.path.join(machine.PLACE, "place")
MAX_SIZE = 65536  # bytes
NAMES = ("venvs", "uv", "uv-cache", "python", "cache", "tmp", "venv", "machine")
OURS = re.compile(r"/(?:.*/)?pi-vllm(?:/machines/[A-Za-z0-9.-]+)?")


def lines() -> List[str]:
    with contextlib.suppress(OSError):
        return home.read_regular(FILE, MAX_SIZE).decode("utf-8", "surrogateescape").splitlines()
    return []


def chosen() -> Optional[str]:
    """Return the value of `--home`; None if everything is in the home folder."""
    first = lines()[:1]
    return first[0] if first and first[0].startswith("/") else None


def roots() -> List[str]:
    """Return pi's folders on other disks, the one in use first; they may be gone with their disk."""
    return [line for line in lines()[1:] if OURS.fullmatch(line) and ".." not in line.split("/")]


def root() -> str:
    """Return the folder that has `venvs`: on another disk, or that of this machine in the home folder."""
    return (roots() or [machine.PLACE])[0] if chosen() else machine.PLACE


def folders() -> List[str]:
    """Return all that pi has on other disks, for `pi pods remove --purge`: what exists of `NAMES` in each of `roots`.

    Afterwards a root, and `machines` above it, can be removed if it is empty. `machines` in it is of other machines.
    """
    found = [os.path.join(root, name) for root in roots() for name in NAMES]
    return [path for path in found if os.path.lexists(path)]
