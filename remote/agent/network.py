"""Addresses of this machine, and a test of the connection between two machines.

The test listens on the addresses that pi names, on ports that the kernel chooses, and ends with the operation. Each
side proves to the other that it knows the nonce of this test, so that another machine with the same private address,
e.g. that of Docker's own network, is not taken for the one that is meant.
"""

import array
import contextlib
import fcntl
import hashlib
import hmac
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

from agent import home, machine, ports, variables, wire

if TYPE_CHECKING:
    from agent import protocol

# What RunPod's clusters call the address of this machine; the others are the head's, which is one of this machine too.
NAMED = ("NODE_ADDR", "PRIMARY_ADDR", "MASTER_ADDR")
LOCAL_ONLY = ("lo", "docker", "veth", "br-", "virbr", "cni")  # beginnings of the names of interfaces of this machine
SIMULATED = "PI_DEMO_ADDRESS"  # in an embedded pod: its address of the loopback, or empty for none
FIRST_PORT: "protocol.MasterPort" = 29501  # vLLM's default for --master-port
SIOCGIFCONF, IFREQ = 0x8912, 40  # netdevice(7); the size of a struct ifreq on 64 bits
DIAL_TIMEOUT = 5.0  # seconds for a connection, and for each answer
CHUNK = 1 << 20  # bytes
PROOF = hashlib.sha256().digest_size


def network(request: "protocol.NetworkRequest") -> "protocol.NetworkResult":
    if request["action"] == "listen":
        listen(request["addresses"], request["nonce"], request["seconds"])
        return result()
    if request["action"] == "dial":
        return result(links=[link for link in dialled(request) if link])
    simulated = variables.pod_environment().get(SIMULATED)
    return result(addresses(simulated), is_simulated=simulated is not None)


def result(
    found: "Optional[List[protocol.Address]]" = None,
    *,
    links: "Optional[List[protocol.Link]]" = None,
    is_simulated: bool = False,
) -> "protocol.NetworkResult":
    return {"addresses": found or [], "port": free_port(), "links": links or [], "simulated": is_simulated}


def free_port() -> int:
    return next((port for port in range(FIRST_PORT, 65536) if ports.is_free(port)), FIRST_PORT)


def addresses(simulated: Optional[str] = None) -> "List[protocol.Address]":
    """Return the addresses of this machine: first those that the provider names, last those of interfaces like eth0.

    RunPod's clusters have ens1 to ens8 between the machines, and eth0, with a private address too, for the internet.
    """
    if simulated is not None:
        return [{"address": simulated, "interface": "lo", "variable": ""}] if simulated else []
    environment = variables_of_init()
    named = {environment[name].partition("/")[0]: name for name in reversed(NAMED) if environment.get(name)}
    found: "List[protocol.Address]" = [
        {"address": address, "interface": interface, "variable": named.get(address, "")}
        for interface, address in interfaces()
        if not interface.startswith(LOCAL_ONLY)
    ]
    return sorted(found, key=lambda each: (not each["variable"], each["interface"].startswith("eth")))


def variables_of_init() -> Dict[str, str]:
    """Return the variables of the machine's first process: an ssh session does not have what a container was given."""
    with contextlib.suppress(OSError):
        text = home.read_bytes(machine.ROOT + "/proc/1/environ").decode("utf-8", "replace")
        return {name: value for name, _, value in (entry.partition("=") for entry in text.split("\0")) if name}
    return {}


def interfaces() -> List[Tuple[str, str]]:
    """Return (interface, IPv4 address) of every interface that is up."""
    room = array.array("B", bytes(256 * IFREQ))
    begin, size = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFCONF, struct.pack("iL", size, begin))
    filled = struct.unpack("iL", answer)[0]
    entries = [room.tobytes()[at : at + IFREQ] for at in range(0, filled, IFREQ)]
    return [
        (entry[:16].partition(b"\0")[0].decode("ascii", "replace").partition(":")[0], socket.inet_ntoa(entry[20:24]))
        for entry in entries
    ]


def proof(nonce: str, side: str) -> bytes:
    return hmac.new(nonce.encode(), side.encode(), hashlib.sha256).digest()


def listen(own: List[str], nonce: str, seconds: float) -> None:
    """Accept connections until stdin ends; one that does not prove itself is closed."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in own]
        for listener, address in zip(listeners, own):  # noqa: B905
            listener.bind((address, 0))
            listener.listen(4)
        wire.emit({"event": "listening", "ports": [listener.getsockname()[1] for listener in listeners]})
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            wire.beat()
            sources: List[Any] = [0, *listeners]
            ready, _, _ = select.select(sources, [], [], 1.0)
            if 0 in ready and not os.read(0, 4096):
                wire.leave()
            for listener in listeners:
                if listener in ready:
                    with contextlib.suppress(OSError):
                        receive(listener.accept()[0], nonce)


def receive(connection: socket.socket, nonce: str) -> None:
    """Count what the other side sends, and answer with the bits per second."""
    with connection:
        connection.settimeout(DIAL_TIMEOUT)
        if not hmac.compare_digest(exactly(connection, PROOF), proof(nonce, "dial")):
            return
        connection.sendall(proof(nonce, "listen"))
        room, received, began = bytearray(CHUNK), 0, time.monotonic()
        while True:
            size = connection.recv_into(room)
            if not size:
                break
            received += size
            wire.beat()
        rate = received * 8 / max(time.monotonic() - began, 1e-3)
        connection.sendall(struct.pack("!d", rate))


def dialled(request: "protocol.NetworkRequest") -> "Iterator[Optional[protocol.Link]]":
    for address, port in zip(request["addresses"], request["ports"]):  # noqa: B905
        wire.beat()
        try:
            rate = dial(address, port, request["nonce"], request["seconds"])
        except OSError as error:
            yield {"address": address, "rate": None, "reason": error.strerror or str(error)}
        else:
            reason = "" if rate else "another machine has this address"
            yield {"address": address, "rate": rate, "reason": reason}


def dial(address: str, port: int, nonce: str, seconds: float) -> Optional[float]:
    """Send for some seconds, and return the bits per second; None if the other side is not the one that is meant."""
    with socket.create_connection((address, port), DIAL_TIMEOUT) as connection:
        connection.sendall(proof(nonce, "dial"))
        if not hmac.compare_digest(exactly(connection, PROOF), proof(nonce, "listen")):
            return None
        chunk, deadline = bytes(CHUNK), time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        rate: float = struct.unpack("!d", exactly(connection, 8))[0]
        return rate


def exactly(connection: socket.socket, size: int) -> bytes:
    """Return this many bytes; fewer if the other side ends before."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            break
        data += part
    return data.ljust(size, b"\0")
