"""The local ports forwarded to models: one file for each, locked while the port is open."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pi_cli.store import held, paths


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this machine's loopback that the process `pid` forwards to a model.

    `secret` is a random text; with it, the process proves that the port is its own. `run_key` is a key that is good at
    this port only; empty if the process does not know the key of the model.
    """

    pod: str
    name: str
    port: int
    pid: int
    secret: str = field(default="", repr=False)
    run_key: str = field(default="", repr=False)


@contextmanager
def published(forward: Forward) -> Iterator[None]:
    """List an open port for other commands while the block runs; they see by the lock on its file that it is open."""
    path = _folder() / f"{forward.port}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
    except OSError:  # the port works without the file
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate()
        file.write(json.dumps(asdict(forward)) + "\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def open_to(pod: str, name: str) -> list[Forward]:
    """Return the ports that are forwarded to a model now, the lowest first."""
    forwards = [forward for path in _folder().glob("*.json") if (forward := _read(path))]
    matches = [forward for forward in forwards if (forward.pod, forward.name) == (pod, name)]
    return sorted(matches, key=lambda forward: forward.port)


def rename_pod(pod: str, new: str) -> list[Forward]:
    """List the open ports to the models of a pod under its new name; return them."""
    renamed = []
    for path in sorted(_folder().glob("*.json")):
        forward = _read(path)
        if forward and forward.pod == pod:
            renamed.append(replace(forward, pod=new))
            with suppress(OSError), path.open("r+", encoding="utf-8") as file:  # the same file: its process locks it
                file.write(json.dumps(asdict(renamed[-1])) + "\n")
                file.truncate()
    return renamed


def _folder() -> Path:
    return paths.config_dir() / "forwards"


def _read(path: Path) -> Forward | None:
    """Read a file if its process still holds the lock; a file without a lock was left by a `kill -9`."""
    try:
        with path.open(encoding="utf-8") as file:
            return None if held.is_released(file) else Forward(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
