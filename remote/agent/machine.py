"""Which machine this is, and which places in the home folder are its own: machines may share a home, e.g. over NFS.

The identity has to survive a reboot and the restart of a container, and to differ between containers of one image.

- In a container it is the id that the runtime gave the container (with Kubernetes the pod): the path of the file that
  is mounted on /etc/hosts contains it. Nothing in an image can tell two containers of it apart.
- Elsewhere it is /etc/machine-id and the SSH host key. Careless images contain one of them, so neither is enough.
- The host name, in both cases: for people, and against copies of a whole disk.

The first machine of a home has the usual places: `~/venv`, `~/.pi/env`, `~/.pi/lock`, `~/.vllm_logs`. `~/.pi/machine`
names it. The others have folders of their own, `~/.pi/machines/ID` and `~/.vllm_logs/ID`. `setup/place.sh` has the same
rules. In a home on a local disk, the usual places go to another machine if the first one is surely gone: all machines
that share such a home run on one kernel, and that kernel was rebooted.
"""

import contextlib
import os
import re
from typing import List

from agent import home, mounts
from agent.home import HOME, PI

ROOT = os.environ.get("PI_MACHINE_ROOT", "")  # a folder with the /etc and /proc of an embedded pod
KEYS = ["/etc/ssh/ssh_host_%s_key.pub" % kind for kind in ("ed25519", "ecdsa", "rsa")]
CONTAINER = re.compile("[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CLAIM = os.path.join(PI, "machine")  # the id of the home's first machine, and of its boot


def identity() -> str:
    """Return the name of this machine in paths: `gpu01-3f9a8b7c-Xy12Zq9A`, `4c1b2a3d5e6f`."""
    host = re.sub("[^A-Za-z0-9.]", "", read("/proc/sys/kernel/hostname"))[:40]
    parts = [host, *(container() or installation())]
    return "-".join(part for part in dict.fromkeys(parts) if part) or "machine"


def container() -> List[str]:
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split(" ")
        ids = CONTAINER.findall(fields[3]) if fields[4:5] == ["/etc/hosts"] else []
        if ids:  # a container may run in another one, whose id comes first
            return [ids[-1].replace("-", "")[:12]]
    return []


def installation() -> List[str]:
    machine = read("/etc/machine-id").strip()  # may be missing, empty or `uninitialized`
    keys = [words[1] for words in map(str.split, map(read, KEYS)) if len(words) > 1]
    key = re.sub("[^A-Za-z0-9]", "", keys[0])[-8:] if keys else ""
    return [machine[:8] if re.fullmatch("[0-9a-f]{32}", machine) else "", key]


def read(path: str) -> str:
    with contextlib.suppress(OSError):
        return home.read_bytes(ROOT + path).decode("utf-8", "replace")
    return ""


def is_home_shared() -> bool:
    """Return whether the home is on a network file system."""
    with contextlib.suppress(OSError):
        return mounts.is_network(mounts.mount_of(os.path.realpath(HOME), ROOT + "/proc/self/mounts")[2])
    return False


def is_first() -> bool:
    """Return whether the usual places in the home belong to this machine."""
    if os.path.isdir(OWN):
        return False
    machine, boot = claimed()
    return machine == ID or (boot != home.boot_id() and not is_home_shared())


def claimed() -> List[str]:
    """Return the id of the home's first machine and of its boot; empty if no machine has claimed the home."""
    words = []
    with contextlib.suppress(OSError):
        words = home.read_regular(CLAIM, 1024).decode("utf-8", "replace").split()
    return [*words, "", ""][:2]


def claim() -> None:
    """Note that the usual places belong to this machine, if they do."""
    before, now = claimed(), [ID, home.boot_id()]
    if before != now and PLACE == PI:
        with contextlib.suppress(OSError):
            home.write_file(CLAIM, " ".join(now) + "\n")


ID = identity()
OWN = os.path.join(PI, "machines", ID)
PLACE = PI if is_first() else OWN
LOGS = os.path.join(HOME, ".vllm_logs", "" if PLACE == PI else ID).rstrip("/")
# A machine that has no vLLM of its own uses what is there, as machines did before they had places of their own.
VENV = os.path.join(OWN if os.path.lexists(os.path.join(OWN, "venv")) else HOME, "venv")
