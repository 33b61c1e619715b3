"""11: the time from a line's being appended to a log to its being printed, by turns in two logs that are followed."""

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from tests.bench.measure import Figure, figure
from tests.bench.place import Place

LINES = 200
PAUSE = 0.03  # seconds between two lines
READY = "both are followed\n"


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(3)
    place.remember_busy(models=3)
    tail = [*place.ssh(), "tail -n 0 -F /root/.vllm_logs/m3.log"]
    with ExitStack() as stack:
        ours = follow(stack, [place.pi, "logs", "m1", "-n", "0"], place)
        theirs = follow(stack, tail, place)
        for log, stream in ((place.log("m1"), ours), (place.log("m3"), theirs)):
            greet(log, stream)
        delays: tuple[list[float], list[float]] = ([], [])
        for _ in range(LINES if rounds > 1 else 3):
            for kept, log, stream in zip(delays, (place.log("m1"), place.log("m3")), (ours, theirs), strict=True):
                kept.append(delay(log, stream))
                time.sleep(PAUSE)
    yield figure("11", "log line appended → printed", "`ssh … tail -F`", *delays, 2)


def follow(stack: ExitStack, command: list[str], place: Place) -> IO[bytes]:
    process = stack.enter_context(subprocess.Popen(command, env=place.environ, stdout=subprocess.PIPE, bufsize=0))
    stack.callback(process.kill)
    assert process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    return process.stdout


def greet(log: Path, stream: IO[bytes]) -> None:
    """Append lines until one is read, and go on when there are no more."""
    while not stream.read(1 << 16):
        append(log, READY)
        time.sleep(0.2)
    quiet = 0
    while quiet < 5:
        quiet = 0 if stream.read(1 << 16) else quiet + 1
        time.sleep(0.1)


def append(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(line)


def delay(log: Path, stream: IO[bytes]) -> float:
    """Return the seconds until an appended line has come whole."""
    line = f"INFO {time.time_ns()} a line of a log\n"
    began = time.perf_counter()
    append(log, line)
    read = b""
    while line.encode() not in read:
        if not select.select([stream], [], [], 10)[0]:
            raise TimeoutError(f"{line!r} was not printed")
        read += stream.read(1 << 16) or b""
    return time.perf_counter() - began
