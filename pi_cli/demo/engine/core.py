"""A process of the simulated engine: holds GPU memory in `nvidia-smi`'s eyes, and otherwise waits.

Run as `core.py HOME [ignore-term]` under the name it has in real vLLM, `VLLM::EngineCore` or `VLLM::Worker_TP0`.
On stdin it is told what to hold, as a line of JSON (MiB by GPU); it answers each line, the first one unasked. When
stdin ends its server was killed: it stays, and keeps the memory, as the real one does.
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


def main(home: str, *wishes: str) -> None:
    """Do as told until killed, or until nobody owns this pod any more."""
    if "ignore-term" in wishes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the server's business
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
                gpus.hold(Path(home), os.getpid(), {int(gpu): mib for gpu, mib in json.loads(line).items()})
                os.write(1, b"holding\n")
    del library


def map_library() -> list[mmap.mmap]:
    """Map a file of our venv, as the real one maps its libraries: by that `~/venv` is known to be in use."""
    python = os.environ.get("PI_DEMO_PYTHON")
    found = Path(python).parents[1].glob("lib/python3*/site-packages/vllm/__init__.py") if python else ()
    maps = []
    for path in found:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    return maps


if __name__ == "__main__":
    main(*sys.argv[1:])
