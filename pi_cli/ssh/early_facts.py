"""What pi remembers of the SSH servers of its pods, so that the next login can ask for everything at once (`early`).

Nothing in it is a secret: versions and names of algorithms, and the fingerprint of the public key that was accepted.
pi works without it, so a file that is broken counts as empty.
"""

import functools
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pi_cli.errors import StateUnreadable
from pi_cli.store import files, paths, rows

MAX_LOST = 2  # early logins in a row that ended without an answer; one may be the network


@dataclass(frozen=True, slots=True)
class Server:
    """One server, under the name that it has in pi's `known_hosts`, as an ordinary login has met it.

    `offer` is a digest of the algorithms that pi offered. `key_exchange` is what was agreed on; empty if it cannot be
    sent ahead. `key` is the fingerprint of the accepted public key, `signature` its algorithm. `refused`: this version
    answered an early login otherwise. `lost` counts early logins that ended without any answer.
    """

    name: str
    address: str
    version: str
    offer: str
    key_exchange: str
    key: str
    signature: str
    refused: bool = False
    lost: int = 0

    def is_about_the_same(self, other: "Server") -> bool:
        return self.name == other.name

    @property
    def may_be_asked(self) -> bool:
        """Whether the next login may be an early one."""
        return not self.refused and self.lost < MAX_LOST


def read(name: str) -> Server | None:
    """Return what is remembered of a server; None if that is nothing, or cannot be read."""
    path = _path()
    try:
        status = path.stat()
    except OSError:
        return None
    return _parsed(path, status.st_ino, status.st_mtime_ns, status.st_size).get(name)


def remember(server: Server) -> None:
    """Store what is known of a server now. A folder that cannot be written costs only time at the next login."""
    if server != read(server.name):
        with suppress(StateUnreadable):
            rows.add(_path(), server, _server)


def forget(pod: str) -> None:
    """Remove what is known of the servers of a pod and of its jump hosts."""
    path = _path()
    if path.exists():
        with suppress(StateUnreadable), files.locked(path):
            known = rows.read(path, _server)
            kept = [server for server in known if server.name != pod and not server.name.startswith(f"{pod}/")]
            if kept != known:
                files.replace(path, json.dumps([asdict(server) for server in kept], indent=1) + "\n")


def _path() -> Path:
    return paths.config_dir() / "servers.json"


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, *version: int) -> Mapping[str, Server]:
    """Read a version of the file, once for all pods of a run."""
    del version
    return MappingProxyType({server.name: server for server in rows.read(path, _server)})


def _server(row: dict[str, Any]) -> Server | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    kinds = {each.name: each.type for each in fields(Server)}
    values = {name: value for name, value in row.items() if name in kinds}
    if not all(type(value) is kinds[name] for name, value in values.items()):
        return None
    try:
        return Server(**values)
    except TypeError:
        return None
