"""pi's own `known_hosts`: one key per pod, under the pod's name, so a recycled address raises no false alarm.

The jump hosts of a pod are kept as `POD/HOST`: they belong to the pod, and are removed with it.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pi_cli.errors import StateUnreadable
from pi_cli.ssh import early_facts
from pi_cli.store import files, kept_programs, paths


def read(name: str) -> str | None:
    """Return the pinned key of a pod or jump host, as an OpenSSH public key line (`ssh-ed25519 AAAA…`)."""
    return _read_all().get(name)


def jump_host_name(pod: str, host: str) -> str:
    """Return the name in pi's `known_hosts` of a jump host of a pod."""
    return f"{pod}/{host}"


def of(pod: str) -> dict[str, str]:
    """Return the pinned keys of a pod and of its jump hosts, by their names."""
    return {name: key for name, key in _read_all().items() if name == pod or name.startswith(f"{pod}/")}


def has_jump_hosts(pod: str) -> bool:
    """Return whether the key of any jump host of a pod is pinned."""
    return any(name.startswith(f"{pod}/") for name in _read_all())


def owner(key: str, *, other_than: str) -> str | None:
    """Return another pod whose pinned key this is."""
    return next((name for name, pinned in _read_all().items() if pinned == key and name != other_than), None)


def remember(name: str, key: str) -> None:
    with files.locked(paths.known_hosts_file()):
        _write_all({**_read_all(), name: key})


def copy(pod: str, new: str) -> None:
    """Pin the key of a pod, and those of its jump hosts, under another name too, in place of what was pinned there."""
    with files.locked(paths.known_hosts_file()):
        keys = _read_all()
        kept = {name: key for name, key in keys.items() if name != new and not name.startswith(f"{new}/")}
        ours = {name: key for name, key in keys.items() if name == pod or name.startswith(f"{pod}/")}
        copies = {f"{new}{name.removeprefix(pod)}": key for name, key in ours.items()}
        if kept | copies != keys:
            _write_all(kept | copies)


def forget(pod: str) -> None:
    """Remove the keys of a pod and of its jump hosts, and what is known of their servers and of what the pod keeps."""
    early_facts.forget(pod)
    kept_programs.forget(pod)
    with files.locked(paths.known_hosts_file()):
        keys = _read_all()
        kept = {name: key for name, key in keys.items() if name != pod and not name.startswith(f"{pod}/")}
        if kept != keys:
            _write_all(kept)


def _read_all() -> Mapping[str, str]:
    path = paths.known_hosts_file()
    try:
        status = path.stat()
        return _parsed(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise StateUnreadable(f"cannot read `{path}`: {error}") from error


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, *version: int) -> Mapping[str, str]:
    """Read a version of the file, once for all pods of a run."""
    del version
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line.strip() and not line.startswith("#"))
    return MappingProxyType({name: key.strip() for name, _, key in pairs})


def _write_all(keys: dict[str, str]) -> None:
    files.replace(paths.known_hosts_file(), "".join(f"{name} {key}\n" for name, key in keys.items()))
