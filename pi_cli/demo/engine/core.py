"""A process of the simulated engine: allocates GPU memory that `nvidia-smi` reports, and otherwise waits.

Run as `core.py HOME [ignore-term]` under its name in real vLLM, `VLLM::EngineCore` or `VLLM::Worker_TP0`. It prints
`ready`, then reads from stdin how much to allocate, as lines of JSON (MiB by GPU), and answers each line. When stdin
ends, its server was killed: like the real process, it keeps running and keeps the memory.
"""

import json
import mmap
import os
import select
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from pi_cli.demo import gpus, owner


def main(home: str, *options: str) -> None:
    """Serve until killed, or until the owner of the pod is gone."""
    if "ignore-term" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl+C
    library = map_library()
    os.write(1, b"ready\n")
    has_server = True
    while owner.is_alive():
        if not has_server:
            time.sleep(owner.CHECK_SECONDS)
        elif select.select([0], [], [], owner.CHECK_SECONDS)[0]:
            line = os.read(0, 4096)  # one line at a time: each is answered before the next
            has_server = bool(line)
            if line:
                gpus.allocate(Path(home), os.getpid(), {int(gpu): mib for gpu, mib in json.loads(line).items()})
                os.write(1, b"allocated\n")
    del library


def map_library() -> list[mmap.mmap]:
    """Map a file of the venv, as the real process maps its libraries: that shows that `~/venv` is in use."""
    python = os.environ.get("PI_DEMO_PYTHON")
    modules = Path(python).parents[1].glob("lib/python3*/site-packages/vllm/__init__.py") if python else ()
    maps = []
    for path in modules:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    return maps


if __name__ == "__main__":
    main(*sys.argv[1:])
