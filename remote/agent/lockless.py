"""Make hf and vLLM work in folders whose file system refuses locks (flock): NFS without its lock daemon, some FUSE.

They lock with the package filelock, which uses files as locks if the file system says that it has no flock (ENOSYS).
For every other refusal it waits forever, or fails. A `sitecustomize`, which Python imports at its start, translates
those.
"""

import contextlib
import os
import tempfile
from typing import Dict

from agent import home, records
from agent.machine import PLACE

FOLDER = os.path.join(PLACE, "lockless")
PATCH = "\n".join(
    [
        "import errno, fcntl, os, sys",
        "def flock(file, operation, real=fcntl.flock):",
        "    try:",
        "        return real(file, operation)",
        "    except OSError as error:",
        "        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):",
        "            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error",
        "        raise",
        "fcntl.flock = flock",
        # The machine may have a `sitecustomize`, too.
        "sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]",
        "ours = sys.modules.pop(__name__)",
        "try:",
        "    import sitecustomize",
        "except ImportError:",
        "    sys.modules[__name__] = ours",
        "",
    ]
)


def refuses_locks(folder: str) -> bool:
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".pi-") as file:
            return not records.has_locks(file.fileno())
    return False


def settings(python_path: str) -> Dict[str, str]:
    """Return the environment of a Python program that needs locks there."""
    home.write_file(os.path.join(FOLDER, "sitecustomize.py"), PATCH)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [FOLDER, python_path]))}
