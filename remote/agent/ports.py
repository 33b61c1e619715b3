"""TCP ports of this machine: who listens, which are free, and what a server there answers."""

import contextlib
import os
import re
import socket
import time
from typing import Dict, Iterator, List, Optional, Set, Tuple

from agent import home
from agent.processes import Process

HTTP_TIMEOUT = 2.0  # seconds for an answer
MOST_ANSWER = 1 << 23  # bytes; /metrics of a vLLM with eight engines has a tenth of it


def health(port: int, processes: List[Process], listening: Optional[Dict[int, Set[str]]] = None) -> Optional[int]:
    """Return the HTTP status of `/health`; None when none of these processes listens on the port.

    `listening` is what `listening_sockets` has told a moment ago.
    """
    inodes = (listening_sockets() if listening is None else listening).get(port)
    if not inodes or not inodes & socket_inodes(processes):
        return None
    return get(port, "/health")[0]


def get(port: int, path: str, key: Optional[str] = None) -> Tuple[int, bytes]:
    """Return status and body of what a server of this machine answers; status 0 where it does not.

    By hand: to load `http.client` takes longer than all else that a list takes.
    """
    lines = ["GET %s HTTP/1.0" % path, "Host: 127.0.0.1:%d" % port, "Connection: close"]
    lines += ["Authorization: Bearer " + key] if key else []
    deadline, answer = time.monotonic() + HTTP_TIMEOUT, b""
    with contextlib.suppress(OSError, ValueError):
        with socket.create_connection(("127.0.0.1", port), HTTP_TIMEOUT) as there:
            there.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode("ascii"))
            while len(answer) < MOST_ANSWER and (chunk := there.recv(65536)):
                answer += chunk
                there.settimeout(max(0.001, deadline - time.monotonic()))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body
    return 0, b""


def is_free(port: int) -> bool:
    """Tell whether nobody has a port. vLLM binds it at once and listens only when loaded: a plain bind sees that.

    A port that just was a server's refuses a plain bind for a minute (TIME_WAIT) and is free all the same.
    """
    if can_bind(port, reuse=False):
        return True
    return port in waiting_ports() and can_bind(port, reuse=True)


def can_bind(port: int, *, reuse: bool) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            probe.bind(("", port))
            probe.listen(1)  # bind alone succeeds beside a socket that is bound and not yet listening
        except OSError:
            return False
    return True


def waiting_ports() -> Set[int]:
    """Return the local ports in TIME_WAIT (proc(5): state 06)."""
    return {port for port, state, _ in sockets() if state == "06"}


def listening_sockets() -> Dict[int, Set[str]]:
    """Return the inodes of the sockets that listen, by port (proc(5): state 0A)."""
    found: Dict[int, Set[str]] = {}
    for port, state, inode in sockets():
        if state == "0A":
            found.setdefault(port, set()).add(inode)
    return found


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
