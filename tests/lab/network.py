"""Addresses for pods: one slot is one /30 network, with a cable from the host into the pod's network namespace.

Slots are leased machine-wide, so that two test runs side by side never meet: the holder of the lock on a slot's file
owns the slot, and the kernel frees the lock when its holder dies, however it dies. What the dead leave behind (scratch
directory, cable, firewall rules) is cleaned up by the next who comes. A slot that has become free is leased again as
late as possible: whoever looks for its traces meanwhile finds its own.
"""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

SLOTS = 256
_LEASES = Path("/run/pi-lab")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FORWARDING_WAS_OFF = _LEASES / "forwarding-was-off"
_LAST = _LEASES / "last"  # the number of the slot that was leased last


@dataclass(frozen=True)
class Slot:
    """A network of two addresses: the host has the first, the pod the second."""

    number: int

    @property
    def host(self) -> str:
        return f"10.86.{self.number}.1"

    @property
    def pod(self) -> str:
        return f"10.86.{self.number}.2"

    @property
    def cable(self) -> str:
        """The host's end of the cable; the pod's is called eth0."""
        return f"pilab{self.number}"

    @property
    def wire(self) -> str:
        """The host's end of a wire (`wire.py`); the pod's is called wan0."""
        return f"piwire{self.number}"

    def rules(self) -> list[list[str]]:
        """Return what comes after `iptables -I` or `iptables -D`."""
        return [
            ["POSTROUTING", "-t", "nat", "-s", self.pod, "!", "-o", self.cable, "-j", "MASQUERADE"],
            # For hosts where something else, like Docker, drops what is not explicitly let through.
            ["FORWARD", "-i", self.cable, "-j", "ACCEPT"],
            ["FORWARD", "-o", self.cable, "-j", "ACCEPT"],
        ]


@contextmanager
def leased(scratches: Path) -> Iterator[tuple[Slot, Path]]:
    """Lease a free slot and an empty scratch directory below `scratches`; both are cleaned up afterwards."""
    slot, lease = _lease_any()
    with lease:
        scratch = scratches / f"{slot.number}-{uuid4().hex[:8]}"
        lease.write(str(scratch))
        lease.flush()  # before there is anything to clean up
        try:
            scratch.mkdir(parents=True)
            yield slot, scratch
        finally:
            _clean(slot, lease)


def connect(slot: Slot, pid: int) -> None:
    """Lay the cable into the network namespace of process `pid`, and let what comes out of it into the world."""
    with _lock():
        if _FORWARDING.read_text().strip() == "0":
            _FORWARDING_WAS_OFF.touch()
            _FORWARDING.write_text("1")
    for rule in slot.rules():
        subprocess.run(["iptables", "-w", "-I", *rule], check=True)
    mtu = _mtu_of_the_way_out()
    ip(
        f"link add {slot.cable} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pid}",
        f"address add {slot.host}/30 dev {slot.cable}",
        f"link set {slot.cable} up",
    )
    ip(
        "link set lo up",
        f"address add {slot.pod}/30 dev eth0",
        "link set eth0 up",
        f"route add default via {slot.host}",
        inside=pid,
    )


def sweep() -> None:
    """Clean up after test runs that were killed, and, if no pod is left at all, after the whole lab."""
    leased = False
    with _lock():
        for slot in map(Slot, range(SLOTS)):
            if _lease_file(slot).exists():
                lease = _lease(slot)
                leased |= lease is None
                if lease:
                    lease.close()
        if _FORWARDING_WAS_OFF.exists() and not leased:
            _FORWARDING.write_text("0")
            _FORWARDING_WAS_OFF.unlink()


def _lease_any() -> tuple[Slot, IO[str]]:
    with _lock():
        first = (int(_LAST.read_text()) if _LAST.exists() else -1) + 1
        for slot in (Slot((first + offset) % SLOTS) for offset in range(SLOTS)):
            lease = _lease(slot)
            if lease:
                _LAST.write_text(str(slot.number))
                return slot, lease
    raise RuntimeError(f"all {SLOTS} networks of the lab are in use, see {_LEASES}")


def _lease(slot: Slot) -> IO[str] | None:
    """Take the slot, clean after its last holder; None if it has a living holder."""
    _LEASES.mkdir(exist_ok=True)
    lease = _lease_file(slot).open("a+")
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lease.close()
        return None
    _clean(slot, lease)
    return lease


def _clean(slot: Slot, lease: IO[str]) -> None:
    """Remove what the slot's lease stands for. What resists stays written down for the next who comes."""
    lease.seek(0)
    scratch = lease.read()
    if not scratch:
        return
    for command in (["ip", "link", "delete", slot.cable], *(["iptables", "-w", "-D", *rule] for rule in slot.rules())):
        subprocess.run(command, capture_output=True)  # fails where the run was killed before it came to that
    shutil.rmtree(scratch, ignore_errors=True)
    if not Path(scratch).exists():
        lease.truncate(0)


def _lease_file(slot: Slot) -> Path:
    return _LEASES / f"slot-{slot.number}"


@contextmanager
def _lock() -> Iterator[None]:
    _LEASES.mkdir(exist_ok=True)
    with (_LEASES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ip(*commands: str, inside: int | None = None) -> None:
    """Run commands of `ip` at once, on the host or in the network namespace of a process."""
    enter = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    subprocess.run([*enter, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def _mtu_of_the_way_out() -> int:
    """Return the MTU of the default route's device: a larger packet from a pod could vanish there."""
    route = json.loads(
        subprocess.run(["ip", "-json", "route", "show", "default"], capture_output=True, check=True).stdout
    )
    if not route:
        return 1500
    return int(Path(f"/sys/class/net/{route[0]['dev']}/mtu").read_text())
