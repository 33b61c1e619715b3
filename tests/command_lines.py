"""What every user of this machine can see: the command lines of its processes, those on pods of the lab among them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def watched_for(*texts: str) -> Iterator[set[str]]:
    """Look at all command lines while the block runs; yield those that have one of these texts."""
    found: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended since it was listed
                    words = (process / "cmdline").read_text(errors="replace")
                    if any(text in words for text in texts):
                        found.add(words)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
