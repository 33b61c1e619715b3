"""TCP ports of this machine: which are free, which processes listen, and how a server answers."""

import _socket  # what `socket` adds takes longer to load than a list of the models takes
import _thread
import contextlib
import itertools
import os
import re
import time
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from agent import home
from agent.processes import Process

HTTP_TIMEOUT = 2.0  # seconds for an answer
MAX_ANSWER = 1 << 23  # bytes; /metrics of a vLLM with eight engines is a tenth of that
OWNED: Dict[Tuple[Process, ...], Set[str]] = {}  # the listening sockets that groups of processes had when looked at
FEW = 8  # listening sockets; of more, as many are read at once
TCP_LINE = 150  # bytes of each line of /proc/net/tcp, which the kernel fills up with blanks
STATUS = re.compile(rb"HTTP/[0-9.]+ +([1-5][0-9][0-9])\b")


def accepts(port: int) -> bool:
    """Return whether a server accepts connections on the port: much cheaper to ask than whose server it is."""
    with contextlib.closing(_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)) as server:
        server.settimeout(HTTP_TIMEOUT)
        with contextlib.suppress(OSError):
            server.connect(("127.0.0.1", port))
            return True
    return False


def health(port: int, processes: List[Process], listening: Optional[Dict[int, Set[str]]] = None) -> Optional[int]:
    """Return the HTTP status of `/health`; None if none of these processes listens on the port.

    `listening` is a recent result of `listening_sockets`.
    """
    return get(port, "/health")[0] if is_owner(processes, port, listening) else None


def is_owner(processes: List[Process], port: int, listening: Optional[Dict[int, Set[str]]] = None) -> bool:
    """Return whether one of these processes listens on the port; `listening` as for `health`."""
    inodes = (listening_sockets() if listening is None else listening).get(port)
    if not inodes:
        return False
    OWNED[tuple(processes)] = inodes & socket_inodes(processes)
    return bool(OWNED[tuple(processes)])


def is_owner_now(processes: List[Process], port: int) -> bool:
    """Return whether one of these processes listens on the port at this moment, or a little later.

    A socket that they had a moment ago is theirs: numbers of sockets are not used again.
    """
    first = first_listener(port)
    if first.get(port, set()) & OWNED.get(tuple(processes), set()):
        return True
    return is_owner(processes, port, first) or is_owner(processes, port, LISTENING.read_since(time.monotonic()))


def get(
    port: int,
    path: str,
    key: Optional[str] = None,
    owners: Iterable[Process] = (),
    body: bytes = b"",
    timeout: float = HTTP_TIMEOUT,
) -> Tuple[int, bytes]:
    """Return the status and body of a server's response; status 0 if there is none, or one that is not HTTP.

    A `body` (JSON) makes it a POST.

    The key is sent only if one of `owners` listens on the port once the connection is there: a process that took the
    port in the meantime would get it otherwise.

    Without `http.client`, which takes longer to load than everything else that a list needs.
    """
    lines = [
        "%s %s HTTP/1.0" % ("POST" if body else "GET", path),
        "Host: 127.0.0.1:%d" % port,
        "Connection: close",
    ]
    lines += ["Authorization: Bearer " + key] if key else []
    lines += ["Content-Type: application/json", "Content-Length: %d" % len(body)] if body else []
    deadline, answer = time.monotonic() + timeout, b""
    with contextlib.suppress(OSError, ValueError):
        with contextlib.closing(_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)) as server:
            server.settimeout(timeout)
            server.connect(("127.0.0.1", port))
            if key and not is_owner_now(list(owners), port):
                return 0, b""
            server.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode("ascii") + body)
            while len(answer) < MAX_ANSWER and (chunk := server.recv(65536)):
                answer += chunk
                server.settimeout(max(0.001, deadline - time.monotonic()))
        status = STATUS.match(answer)
        if status:
            return int(status.group(1)), answer.partition(b"\r\n\r\n")[2]
    return 0, b""


class Listening:
    """The latest table of listening sockets, for many threads: reading it takes 7 ms."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._began = float("-inf")
        self._inodes: Dict[int, Set[str]] = {}

    def read_since(self, moment: float) -> Dict[int, Set[str]]:
        """Return the table as it was after this moment of the monotonic clock."""
        with self._lock:
            if self._began <= moment:
                self._began = time.monotonic()
                self._inodes = listening_sockets()
            return self._inodes


LISTENING = Listening()


def is_free(port: int) -> bool:
    """Return whether a port is free. vLLM binds its port at launch and listens when loaded; a plain bind detects both.

    A port whose server has just exited refuses a plain bind for a minute (TIME_WAIT), but is free.
    """
    if can_bind(port, reuse=False):
        return True
    return port in waiting_ports() and can_bind(port, reuse=True)


def can_bind(port: int, *, reuse: bool) -> bool:
    with contextlib.closing(_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)) as probe:
        probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, int(reuse))
        try:
            probe.bind(("", port))
            probe.listen(1)  # bind alone succeeds while another socket is bound but not listening
        except OSError:
            return False
    return True


def waiting_ports() -> Set[int]:
    """Return the local ports in TIME_WAIT (proc(5): state 06)."""
    return {port for port, state, _ in sockets() if state == "06"}


def listening_sockets() -> Dict[int, Set[str]]:
    """Return the inodes of the listening sockets, by port (proc(5): state 0A)."""
    inodes: Dict[int, Set[str]] = {}
    for port, state, inode in sockets():
        if state == "0A":
            inodes.setdefault(port, set()).add(inode)
    return inodes


def first_listener(port: int) -> Dict[int, Set[str]]:
    """Return the inode of the first socket that listens on a port, in the form of `listening_sockets`; else nothing.

    Linux names listening sockets first. All that takes 7 ms is behind them, so this reads few lines at a time.
    """
    name = b":%04X" % port
    with contextlib.suppress(OSError, IndexError):
        table = os.open("/proc/net/tcp", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.read(table, TCP_LINE)  # the head
            for lines in itertools.chain([1] * FEW, itertools.repeat(FEW)):
                for line in os.read(table, lines * TCP_LINE).splitlines() or [b""]:
                    fields = line.split()
                    if fields[3] != b"0A":
                        return {}
                    if fields[1].endswith(name):
                        return {port: {fields[9].decode("ascii")}}
        finally:
            os.close(table)
    return {}


def sockets() -> Iterator[Tuple[int, str, str]]:
    """Yield (local port, state, inode) of every TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in home.read_bytes(table).decode("ascii", "replace").splitlines()[1:]:
                fields = line.split()
                yield int(fields[1].rpartition(":")[2], 16), fields[3], fields[9]


def socket_inodes(processes: List[Process]) -> Set[str]:
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for entry in os.scandir("/proc/%d/fd" % process.pid):
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"^socket:\[(\d+)\]$", os.readlink(entry.path)))
    return inodes
