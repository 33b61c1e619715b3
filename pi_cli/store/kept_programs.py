"""Which programs of pi's agent its pods have kept, stored in `programs.json`: later commands send only their names.

Nothing in it is a secret. A name is the hash of what the pod will run, as the program itself has reported it
(`remote/agent/keep.py`). pi works without the file, so one that is broken counts as empty.
"""

import functools
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pi_cli.errors import PiError
from pi_cli.store import paths, rows

HASH = re.compile(r"[0-9a-f]{32}")
MOST = 12  # programs of one pod: those of two versions of pi


@dataclass(frozen=True, slots=True)
class Kept:
    """What a pod has: `programs` are the hashes of its files, by the digest of the program as pi sends it."""

    pod: str
    programs: Mapping[str, str] = field(default_factory=dict)

    def is_about_the_same(self, other: "Kept") -> bool:
        return self.pod == other.pod


def read(pod: str, program: str) -> str | None:
    """Return the hash by which a pod has kept a program; None if it has not."""
    path = _path()
    try:
        status = path.stat()
    except OSError:
        return None
    return _parsed(path, status.st_ino, status.st_mtime_ns, status.st_size).get(pod, Kept(pod)).programs.get(program)


def remember(pod: str, program: str, kept: str | None) -> None:
    """Store that a pod has kept a program, or, with None, that it has not. A failure costs only time."""

    def changed(known: list[Kept]) -> list[Kept]:
        old = next((each for each in known if each.pod == pod), Kept(pod))
        others = {each: name for each, name in old.programs.items() if each != program}
        programs = {**others, program: kept} if kept else others
        new = replace(old, programs=dict(list(programs.items())[-MOST:]))
        return [*(each for each in known if each.pod != pod), *([new] if programs else [])]

    if read(pod, program) != kept:
        with suppress(PiError):
            rows.change(_path(), changed, _kept)


def forget(pod: str) -> None:
    """Remove what is known of a pod."""
    if _path().exists():
        with suppress(PiError):
            rows.change(_path(), lambda known: [each for each in known if each.pod != pod], _kept)


def _path() -> Path:
    return paths.config_dir() / "programs.json"


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, *version: int) -> Mapping[str, Kept]:
    """Read a version of the file, once for all pods of a run."""
    del version
    return {each.pod: each for each in rows.read(path, _kept)}


def _kept(row: dict[str, Any]) -> Kept | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    pod, programs = row.get("pod"), row.get("programs")
    if not isinstance(pod, str) or not isinstance(programs, dict):
        return None
    valid = {each: name for each, name in programs.items() if isinstance(name, str) and HASH.fullmatch(name)}
    return Kept(pod, valid)
