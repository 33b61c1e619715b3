"""Check whether the process that created this pod is alive: after a `kill -9` it could not clean up."""

import os
from pathlib import Path

CHECK_SECONDS = 1
MARKER = "PI_DEMO_POD"  # the variable in which the processes of a pod have its folder


def write(folder: Path) -> None:
    """Record this process as the owner of the pod in `folder`."""
    (folder / "owner").write_text(f"{os.getpid()}\n", encoding="utf-8")


def is_alive() -> bool:
    """Return, on the pod, whether its owner is alive; outside of a pod, True."""
    try:
        os.kill(int(Path(os.environ[MARKER], "owner").read_text(encoding="utf-8")), 0)
    except (KeyError, PermissionError):
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True
