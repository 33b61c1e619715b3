"""Programs for pods, kept as Python keeps bytecode: beside it, and until a file that they are made of changes.

To make the program of a list takes 12 ms of every command. Where Python may write no bytecode, nothing is kept.
"""

import functools
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from pi_cli.store import paths

MADE_BY = ("agent_program.py", "bare_source.py", "program_cache.py")  # in this folder; the rest is `remote/agent`

Make = Callable[..., bytes]


def kept(make: Make) -> Make:
    """Return a function that makes the program of an operation as `make` does, unless an earlier run has kept it.

    One that depends on more than the operation is made each time.
    """

    @functools.wraps(make)
    def found_or_made(operation: str, *more: object) -> bytes:
        if any(more):
            return make(operation, *more)
        try:
            made_of = _made_of()
            path = os.path.join(folder(), f"agent_program.{operation}.packed")  # noqa: PTH118 - pathlib takes longer
        except OSError:  # for example in an archive
            return make(operation)
        if (program := _read(path, made_of)) is None:
            program = make(operation)
            if not sys.dont_write_bytecode:
                _write(path, made_of, program)
        return program

    return found_or_made


def folder() -> str:
    """Return the folder of this package's bytecode. Raises `OSError` if there is none."""
    spec = sys.modules[__name__].__spec__
    if spec is None or spec.cached is None:
        raise FileNotFoundError
    return os.path.dirname(spec.cached)  # noqa: PTH120


def _made_of() -> bytes:
    """Return names, sizes and times of all files that a program may be made of, on one line."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    own = ((name, os.stat(os.path.join(here, name))) for name in MADE_BY)  # noqa: PTH116, PTH118
    agent = str(paths.asset("remote/agent"))
    found = sorted((name, each.st_size, each.st_mtime_ns) for name, each in (*own, *_files(agent)))
    return repr((sys.version_info, found)).encode()


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat()
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _files(entry.path)


def _read(path: str, made_of: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head, _, rest = file.read().partition(b"\n")
    except OSError:
        return None
    program = rest[4:]
    return program if head == made_of and rest[:4] == _sum(program) else None


def _write(path: str, made_of: bytes, program: bytes) -> None:
    """Write a program, whole or not at all; that it cannot be written is no matter."""
    temporary = f"{path}.{os.getpid()}"
    with suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made_of + b"\n" + _sum(program) + program)
        os.replace(temporary, path)  # noqa: PTH105


def _sum(program: bytes) -> bytes:
    return zlib.crc32(program).to_bytes(4, "big")
