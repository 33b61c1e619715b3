"""Ask the holder, without asyncio: which pods are linked, end links, hand over pods to be linked.

Nothing here waits for long: a holder that is stopped (SIGSTOP) costs `PATIENCE`.
"""

import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi_cli.hold import place

if TYPE_CHECKING:
    import socket

PACKAGES = Path(__file__).parents[2]  # where pi is installed
PROGRAM = "pi_cli.pods.holder"  # runs the holder: its room has the agent
# What a login needs, and the holder for its place. Everything else stays out: it may be a key.
ENVIRONMENT = (
    "HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "PI_CONFIG_DIR", "PI_CONNECT_TIMEOUT", "PYTHONPATH", "PYTHONHOME",
)  # fmt: skip


def open_socket() -> "socket.socket | None":
    """Connect to the holder of this user; None if there is none."""
    there = place.find()
    address = there.address() if there else None
    if not address:
        return None
    import socket

    from pi_cli.hold import messages

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(messages.PATIENCE)
        connection.connect(address)
        if place.is_ours(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def linked() -> list[str]:
    """Return the pods that are linked."""
    names = _ask({"ask": "status"}).get("linked")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def unlink(pods: Collection[str] | None = None) -> list[str]:
    """End the links to these pods, or all; return the names of those that were linked."""
    names = _ask({"ask": "unlink", "pods": None if pods is None else list(pods)}).get("unlinked")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def hand_over(pods: Mapping[str, Any]) -> bool:
    """Have the present holder link these pods; return whether it takes them."""
    return _ask({"ask": "link", "pods": dict(pods)}).get("takes") is True


def start(pods: Mapping[str, Any]) -> None:
    """Start a holder that links these pods. It outlives this process, and has none of its streams or keys."""
    import json
    import subprocess

    folder = place.make()
    if folder is None or folder.address() is None:
        return
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if PACKAGES.name not in (
        "site-packages",
        "dist-packages",
    ):  # a checkout; the holder runs in another folder
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGES), environment.get("PYTHONPATH")]))
    with suppress(OSError):
        holder = subprocess.Popen(
            [sys.executable, "-m", PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True, cwd="/",
        )  # fmt: skip
        assert holder.stdin
        holder.stdin.write(json.dumps(dict(pods)).encode())
        holder.stdin.close()
        holder.returncode = 0  # nobody waits for it: it is init's child as soon as this process exits


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    """Ask the holder; an empty answer if there is none, or if it does not answer at once."""
    connection = open_socket()
    if connection is None:
        return {}
    from pi_cli.hold import messages

    with connection, suppress(OSError):
        connection.sendall(messages.line(question))
        answer = b""
        while not answer.endswith(b"\n") and len(answer) <= messages.MAX_LINE:
            chunk = connection.recv(1 << 16)
            if not chunk:
                break
            answer += chunk
        return messages.read(answer)
    return {}
