"""Keep this program on the pod, compiled, so that later commands neither send it nor compile it.

pi names it by a hash of all that will run, and remembers that hash only after the program itself has reported it: what
anybody else writes into the folder is never run. The version of Python counts too, since bytecode is made for one.
"""

import os
import sys
from typing import List, Optional

from agent import home

import __main__

FOLDER = os.path.join(home.PI, "programs")
MOST = 24  # files of 0.15 MB: a few versions of pi, with a few operations each
HASH_SIZE = 16  # bytes


def keep() -> Optional[str]:
    """Store the program that runs, and return its hash; None where that is not possible, or is done already.

    A pod that was not set up has no `~/.pi`, and a command that only looks at it makes none.
    """
    codes = getattr(__main__, "s", None)  # only where they were compiled: `pi_cli/pods/shell.py`
    if not codes or not os.path.isdir(home.PI):
        return None
    try:
        import marshal
        from _blake2 import blake2b

        program = marshal.dumps(codes)
        name = blake2b(program + sys.version.encode(), digest_size=HASH_SIZE).hexdigest()
        home.write_bytes(os.path.join(FOLDER, name), program)
        drop_old()
    except (OSError, ImportError, ValueError):
        return None
    return name


def drop_old() -> None:
    """Delete the oldest programs beyond those that are kept. One that is missing is sent again."""
    found: "List[os.DirEntry[str]]" = sorted(os.scandir(FOLDER), key=lambda entry: -entry.stat().st_mtime)
    for entry in found[MOST:]:
        os.unlink(entry.path)
