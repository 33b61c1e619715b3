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

    from pi_cli.hold.place import Place

PACKAGES = Path(__file__).parents[2]  # where pi is installed
PROGRAM = "pi_cli.pods.holder"  # runs the holder: its room has the agent
# What a login needs, and the holder for its place. Everything else stays out: it may be a key.
ENVIRONMENT = (
    "HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "PI_CONFIG_DIR", "PI_CONNECT_TIMEOUT", "PYTHONPATH", "PYTHONHOME",
)  # fmt: skip


def open_socket(there: "Place | None" = None) -> "socket.socket | None":
    """Connect to the holder of this user, or one at another place; None if there is none."""
    there = there or place.find()
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


def linked(there: "Place | None" = None) -> list[str]:
    """Return the pods that are linked, or that a holder at another place has linked."""
    names = _ask({"ask": "status"}, there).get("linked")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def unlink(pods: Collection[str] | None = None) -> list[str]:
    """End the links to these pods, or all; return the names of those that were linked.

    Holders of other versions of pi end theirs too, and those that commands have just started do not begin.
    """
    there = place.find()
    if there is None:
        return []
    there.call_off()
    question, unlinked = {"ask": "unlink", "pods": None if pods is None else list(pods)}, dict[str, None]()
    for each in there.of_all_versions():
        names = _ask(question, each).get("unlinked")
        unlinked |= {name: None for name in names if isinstance(name, str)} if isinstance(names, list) else {}
    return list(unlinked)


def hand_over(pods: Mapping[str, Any]) -> bool:
    """Have the present holder link these pods; return whether it takes them."""
    return _ask({"ask": "link", "pods": dict(pods)}).get("takes") is True


def start(pods: Mapping[str, Any]) -> None:
    """Start a holder that links these pods. It outlives this process, and has none of its streams or keys."""
    import json
    import subprocess

    there = place.make()
    if there is None or there.address() is None:
        return
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if PACKAGES.name not in (
        "site-packages",
        "dist-packages",
    ):  # a checkout; the holder runs in another folder
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGES), environment.get("PYTHONPATH")]))
    with suppress(OSError):
        announced = there.announce()
        holder = subprocess.Popen(
            [sys.executable, "-m", PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True, cwd="/",
        )  # fmt: skip
        assert holder.stdin
        holder.stdin.write(json.dumps({"pods": dict(pods), "announced": str(announced)}).encode())
        holder.stdin.close()
        holder.returncode = 0  # nobody waits for it: it is init's child as soon as this process exits


def _ask(question: dict[str, Any], there: "Place | None" = None) -> dict[str, Any]:
    """Ask the holder, or one at another place; an empty answer if there is none, or if it does not answer at once."""
    connection = open_socket(there)
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
