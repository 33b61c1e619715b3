"""Where the holder's socket is, whether links may be held, and who is at the other end of a socket."""

import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pi_cli import __version__
from pi_cli.store import paths

if TYPE_CHECKING:
    import socket

LONGEST_PATH = 103  # bytes of a socket's path (`sun_path`) on macOS; Linux allows 107
DESCRIPTORS = "/proc/self/fd"  # on Linux, a short way to a folder with a long path
LOCAL_PEERCRED = 1  # getsockopt(2) on macOS and the BSDs, level 0; Python does not name it
XUCRED = "2I"  # the version and the uid, at its begin (sys/ucred.h)
PEERCRED = "3i"  # pid, uid, gid (unix(7))
AGENT, OURS = "remote/agent", "hold"  # what the holder and its clients have to have in common


def is_on() -> bool:
    """Return whether this command may use a held link: a person is at a terminal, and has not turned it off.

    PI_HOLD=0 turns it off, PI_HOLD=1 turns it on without a terminal and in CI too.
    """
    if chosen := os.environ.get("PI_HOLD"):
        return chosen != "0"
    return not os.environ.get("CI") and (os.isatty(0) or os.isatty(2))


@dataclass(frozen=True, slots=True)
class Place:
    """The socket of the holder: `name` in `folder`, which is this user's only."""

    folder: Path
    name: str

    @property
    def socket(self) -> Path:
        return self.folder / self.name

    def address(self) -> str | None:
        """Return a path of the socket that is short enough for one; None if there is none."""
        path = str(self.socket)
        if len(os.fsencode(path)) <= LONGEST_PATH:
            return path
        if not os.path.isdir(DESCRIPTORS):  # noqa: PTH112 - without loading pathlib's parts
            return None
        return f"{DESCRIPTORS}/{_descriptor(self.folder, self.folder.stat().st_ino)}/{self.name}"

    def of_all_versions(self) -> list["Place"]:
        """Return where a pi with this configuration may have a holder, also another version of it."""
        return [Place(self.folder, name) for name in self._entries() if "." not in name]

    def announce(self) -> Path:
        """Make a file that says that a holder is coming; it consumes the file before it takes its place."""
        announced = self.folder / f"{self._configuration}.{os.urandom(8).hex()}"
        os.close(os.open(announced, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return announced

    def call_off(self) -> None:
        """Have the holders that are coming end at once."""
        for name in self._entries():
            if "." in name and not (self.folder / name).is_socket():
                (self.folder / name).unlink(missing_ok=True)

    @property
    def _configuration(self) -> str:
        return self.name.partition("-")[0]

    def _entries(self) -> list[str]:
        with suppress(OSError):
            return [name for name in os.listdir(self.folder) if name.startswith(self._configuration)]  # noqa: PTH208
        return []


@cache
def _descriptor(folder: Path, inode: int) -> int:
    """Open a folder, once and until pi exits."""
    del inode
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def find(*, as_installed: bool = False) -> Place | None:
    """Return the place of the holder if its folder is there and no other user can enter it.

    `as_installed`: that of the pi that is installed now, another one if pi was updated while this process runs.
    """
    with suppress(OSError):
        folder = _folder()
        if is_private(folder):
            return Place(folder, f"{_configuration()}-{_installed() if as_installed else _loaded()}")
    return None


def make() -> Place | None:
    """Do the same, and make the folder if it is missing."""
    with suppress(OSError):
        folder = _folder()
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    return find()


def is_private(folder: Path) -> bool:
    """Return whether this is a folder, not a link to one, that only this user can enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def peer_uid(connection: "socket.socket") -> int | None:
    """Return the user id of the process at the other end of a unix socket; None if the kernel does not say."""
    import socket
    import struct

    with suppress(OSError, struct.error):
        if hasattr(socket, "SO_PEERCRED"):
            size = struct.calcsize(PEERCRED)
            return int(struct.unpack(PEERCRED, connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])
        size = struct.calcsize(XUCRED)
        return int(struct.unpack(XUCRED, connection.getsockopt(0, LOCAL_PEERCRED, size))[1])
    return None


def is_ours(connection: "socket.socket") -> bool:
    """Return whether the process at the other end of a unix socket is this user's."""
    return peer_uid(connection) == os.geteuid()


def _folder() -> Path:
    """Return the folder: in that for sockets of this login if the system has made one, else pi's own."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/") and is_private(Path(given)):
        return Path(given, "pi-hold")
    return paths.config_dir().absolute() / "hold"


def _configuration() -> str:
    """Return the first part of a name: this configuration, on this machine."""
    import socket  # not loaded where no link was ever held

    return _checksum(str(paths.config_dir().absolute()), socket.gethostname())


def _installed() -> str:
    """Return the second part of a name: the pi that is installed now. A holder serves its equals only."""
    files = []
    for folder in (paths.asset(AGENT), Path(__file__).parent):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                status = entry.stat()
                files += [entry.path, str(status.st_mtime_ns), str(status.st_size)]
    return _checksum(__version__, sys.prefix, *files)


@cache
def _loaded() -> str:
    """Return the pi of this process: a command asks for each of its pods, and looking at all files takes a while."""
    return _installed()


def _checksum(*parts: str) -> str:
    import zlib

    data = b"".join(os.fsencode(part) + b"\0" for part in parts)
    return format(zlib.crc32(data), "08x")  # nobody else writes to the folder, and `hashlib` loads OpenSSL
