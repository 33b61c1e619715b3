"""Measure what a disk does with several files at a time: a bounded look, before a download and before vLLM reads.

Storage in data centres answers each request late, and many at once: one stream reads 200 MB/s of a disk that gives
2 GB/s to sixteen. A disk that turns, or its server, is slower with many than with one. Neither its type nor its name
says which it is. Each number of streams is tried for a quarter of a second at most.
"""

import contextlib
import os
import random
import tempfile
import threading
import time
from typing import Callable, Dict, Optional, Sequence, Tuple

from agent import disks, home

SECONDS = 0.25  # for each number of streams
BLOCK = 4 << 20  # bytes of one request
MOST = 1 << 30  # bytes for each number of streams, in case the disk is memory
MOST_WRITTEN = 256 << 20  # bytes that are written: they have to reach the disk
CACHED = 4 * 10**9  # bytes per second of one stream: that is memory, not a disk
NEARLY = 0.8  # of the best rate: more streams than that are not worth their memory

Work = Callable[[int], int]
"""Reads or writes one block of a stream, by the number of the stream, and returns its bytes."""


def reading(files: Sequence[str], streams: Sequence[int]) -> Dict[int, float]:
    """Return the bytes per second at which these files are read, by the number of streams; empty if nothing is known.

    Blocks at random places are read, as far as they are not in memory already.
    """
    sizes = [(path, os.path.getsize(path) // BLOCK) for path in files]
    large = [(path, blocks) for path, blocks in sizes if blocks]
    opened = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), blocks) for path, blocks in large]
    try:
        return measured(streams, lambda _: read_block(*random.choice(opened)), MOST) if opened else {}
    finally:
        for descriptor, _ in opened:
            os.close(descriptor)


def read_block(descriptor: int, blocks: int) -> int:
    return len(os.pread(descriptor, BLOCK, random.randrange(blocks) * BLOCK))


def writing(folder: str, streams: Sequence[int]) -> Dict[int, float]:
    """Return the bytes per second at which files are written to the disk of a folder, by the number of streams.

    The files have no name, so that nothing of them stays. Raises `OSError`.
    """
    content = os.urandom(BLOCK)  # some file systems compress
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0)) for _ in range(max(streams))]

        def write(stream: int) -> int:
            descriptor = opened[stream].fileno()
            written = os.pwrite(descriptor, content, 0)
            os.fdatasync(descriptor)
            return written

        return measured(streams, write, MOST_WRITTEN)


def measured(streams: Sequence[int], work: Work, most: int) -> Dict[int, float]:
    """Return the rates; less of them if one stream is as fast as memory, or the disk does not answer in time."""
    rates: Dict[int, float] = {}
    for number in streams:
        rate = rate_of(number, work, most)
        if rate is None:
            break
        rates[number] = rate
        if rate >= CACHED:
            break
    return rates


def rate_of(streams: int, work: Work, most: int) -> Optional[float]:
    done = [0] * streams
    began = time.monotonic()

    def run(stream: int) -> None:
        with contextlib.suppress(OSError):
            while time.monotonic() - began < SECONDS and sum(done) < most:
                done[stream] += work(stream)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(streams)]
    for thread in threads:
        thread.start()
    if not all(home.join(thread, disks.TIMEOUT) for thread in threads):
        return None
    return sum(done) / max(1e-3, time.monotonic() - began)


def best(rates: Dict[int, float]) -> Tuple[int, float]:
    """Return the least number of streams that nearly has the best rate, and how many times that of one stream it is."""
    number = min(number for number, rate in rates.items() if rate >= NEARLY * max(rates.values()))
    return number, rates[number] / max(1.0, rates[min(rates)])


def workers(rates: Dict[int, float], usual: int) -> int:
    """Return how many files to download at a time.

    Several files fill a network better than one, so the `usual` number is kept, unless the disk is slower with it than
    with one, or much faster with more.
    """
    if not {1, usual} <= rates.keys():
        return usual
    if rates[usual] < NEARLY * rates[1]:
        return 2
    more = [number for number in rates if number > usual and rates[number] >= 1.3 * rates[usual]]
    return max(more) if more else usual
