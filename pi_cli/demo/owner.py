"""Whether the process that made this pod still lives: killed outright, it could not clean up after itself."""

import os
from pathlib import Path

CHECK_SECONDS = 1


def write(folder: Path) -> None:
    """Write down that this process owns the pod in `folder`."""
    (folder / "owner").write_text(f"{os.getpid()}\n", encoding="utf-8")


def is_alive() -> bool:
    """Tell, on the pod, whether its owner lives. Outside of a pod there is none to ask for."""
    try:
        os.kill(int(Path(os.environ["PI_DEMO_POD"], "owner").read_text(encoding="utf-8")), 0)
    except (KeyError, PermissionError):
        return True
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True
