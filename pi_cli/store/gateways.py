"""The gateways that run on this machine: a file for each, and beside it one that is locked while the gateway runs."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pi_cli.store import files, held, paths


@dataclass(frozen=True, slots=True)
class Replica:
    """A model on a pod behind a gateway; `url` is the local port through which the gateway reaches it.

    `context` is in tokens, None if the model has not said. `left_out` is why the gateway sends it nothing.
    `is_leaving`: it is about to be stopped, and gets no new requests.
    """

    pod: str
    name: str
    url: str
    is_up: bool
    context: int | None = None
    left_out: str | None = None
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway at `port` of this machine's loopback, held by the process `pid`.

    `is_up`: its balancer runs. `key_variable` and `key_file` say where its key is, as in `store.keys.ApiKey`.
    """

    port: int
    pid: int
    metrics_port: int
    is_up: bool
    key_variable: str
    key_file: str | None
    replicas: Sequence[Replica]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def names(self) -> list[str]:
        """Return the names of the models that can be reached."""
        return sorted({each.name for each in self.replicas if each.is_up and not each.left_out})

    def context_of(self, name: str) -> int | None:
        """Return the context that every replica of a model has, in tokens; None if it is not known."""
        known = [each.context for each in self.replicas if each.name == name and not each.left_out and each.context]
        return min(known, default=None)


class Entry:
    """What other commands on this machine know about a gateway."""

    def __init__(self, port: int) -> None:
        self._path = folder() / f"{port}.json"

    def write(self, gateway: Gateway) -> None:
        files.replace(self._path, json.dumps(asdict(gateway)) + "\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


@contextmanager
def published(port: int) -> Iterator[Entry]:
    """List a gateway for other commands while the block runs; they see by the lock that it runs."""
    entry = Entry(port)
    lock = _lock_of(port)
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield entry
        finally:
            entry.remove()
            lock.unlink(missing_ok=True)


def running() -> list[Gateway]:
    """Return the gateways that run now, that with the lowest port first."""
    found = [gateway for path in folder().glob("*.json") if (gateway := _read(path))]
    return sorted(found, key=lambda gateway: gateway.port)


@contextmanager
def announced(places: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Tell the gateways of this machine that models are about to be stopped, by pod and name, while the block runs."""
    import secrets  # loaded only here: every `pi stop` looks for gateways

    path = folder() / f"{secrets.token_hex(8)}.leaving"
    new = path.with_suffix(".new")  # until it is locked: one that is not is taken for a left one
    with os.fdopen(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(list(places)))
            file.flush()
            new.replace(path)
            yield
        finally:
            new.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def leaving() -> set[tuple[str, str]]:
    """Return the models that are about to be stopped, by pod and name; a file whose process was killed is removed."""
    found: set[tuple[str, str]] = set()
    for path in folder().glob("*.leaving"):
        with suppress(OSError, ValueError, TypeError), path.open("r+", encoding="utf-8") as file:
            if held.is_released(file):
                path.unlink(missing_ok=True)
            else:
                found |= {(str(pod), str(name)) for pod, name in json.load(file)}
    return found


def folder() -> Path:
    return paths.config_dir() / "gateway"


def manifest(port: int) -> Path:
    """Return the file that the gateway at a port reads its workers from."""
    return folder() / f"{port}.workers"


def _lock_of(port: int) -> Path:
    return folder() / f"{port}.lock"


def _read(path: Path) -> Gateway | None:
    """Read a file if its process still holds the lock; otherwise it was left by a `kill -9`."""
    try:
        with path.with_suffix(".lock").open(encoding="utf-8") as lock:
            if held.is_released(lock):
                return None
        data = json.loads(path.read_text(encoding="utf-8"))
        replicas = [Replica(**each) for each in data.pop("replicas")]
        return Gateway(**data, replicas=replicas)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
