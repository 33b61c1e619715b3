"""A long wire between this machine and a pod of the lab: real TCP from end to end, at any distance.

    with Wire(pod, round_trip=0.1) as way:
        subprocess.run([*shlex.split(pod.ssh), "true"])  # takes a second and a half
        way.set(round_trip=0.1, rate=32_000)

A relay (`relay.py`) ends TCP and answers for the far end: over it a connection is open at once, and what Nagle's
algorithm, a congestion window or a delayed acknowledgement holds back is never seen. Here a program in C (`wan.c`)
carries packets between two TUN devices. The pod keeps its address, and connections that are open stay open when a wire
is laid and when it ends. Nothing outlives the tests: the program ends with its standard input, and the kernel takes the
devices, and the routes over them, away with it.
"""

import functools
import hashlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.lab import base_root, network, openssh
from tests.lab.openssh import OpensshPod

SOURCE = Path(__file__).with_name("wan.c")
TUN = Path("/dev/net/tun")
COMPILER = ("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
SHORT, LONG = 0.1, 0.5  # seconds: the two round-trip times between which round trips are counted


@functools.cache
def why_not() -> str | None:
    """Say why no wire can be laid here; None if one can."""
    if reason := openssh.why_not():
        return reason
    if not shutil.which(COMPILER[0]):
        return f"a wire needs {COMPILER[0]}: run tests/lab/install.sh"
    try:
        TUN.open("rb+", buffering=0).close()
    except OSError as error:
        return f"a wire needs {TUN}: {error.strerror}"
    return None


class Wire:
    """All that this machine and the pod send to each other goes over it, within the `with` block.

    `round_trip` is in seconds, half of it each way; `rate` is in bytes per second each way, None for as fast as it
    goes; `loss` is the share of packets that are lost, 1.0 for a cable that is cut. Which packets are lost is the same
    in every run.
    """

    def __init__(
        self, pod: OpensshPod, *, round_trip: float = 0.0, rate: float | None = None, loss: float = 0.0
    ) -> None:
        self.pod = pod
        self.round_trip = round_trip
        self._begin = functools.partial(self.set, round_trip=round_trip, rate=rate, loss=loss)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._program = opening.enter_context(_program(self.pod))
            self._lay()
            self._begin()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def set(self, *, round_trip: float = 0.0, rate: float | None = None, loss: float = 0.0) -> None:
        """Be another wire from now on, also for connections that are open and packets under way."""
        self.round_trip = round_trip
        assert self._program.stdin
        assert self._program.stdout
        self._program.stdin.write(f"{round(round_trip / 2 * 1e6)} {rate or 0:f} {round(loss * 1e6)}\n")
        self._program.stdin.flush()
        if self._program.stdout.readline() != "ok\n":
            raise RuntimeError(f"the wire to {self.pod.name} is gone")

    @contextmanager
    def filtered(self, first: int, last: int) -> Iterator[None]:
        """Let packets to these ports of the pod vanish, as where a provider routes only some of them."""
        rule = ["INPUT", "-i", "wan0", "-p", "tcp", "--dport", f"{first}:{last}", "-j", "DROP"]
        iptables = ["nsenter", f"--net=/proc/{self.pod.init}/ns/net", "iptables", "-w"]
        subprocess.run([*iptables, "-I", *rule], check=True)
        try:
            yield
        finally:
            subprocess.run([*iptables, "-D", *rule], check=False, capture_output=True)  # the pod may have ended

    def _lay(self) -> None:
        """Lead the two addresses of the pod's cable over the wire: these routes are narrower than the cable's."""
        slot = self.pod.slot
        network.ip(f"link set {slot.wire} up", f"route add {slot.pod}/32 dev {slot.wire} src {slot.host}")
        network.ip("link set wan0 up", f"route add {slot.host}/32 dev wan0 src {slot.pod}", inside=self.pod.init)


def round_trips(
    timed: Callable[[], float], way: Wire, *, turns: int = 5, enough: float = -math.inf, long: float = LONG
) -> float:
    """Count how many round trips pass one after the other in what `timed` does and returns the seconds of.

    It is done at a short and at a `long` distance by turns, and the difference of the shortest times of each is
    divided by what a round trip takes longer. What else the machine does only ever adds time: two turns will do if the
    count is not above `enough` then.
    """
    near: list[float] = []
    far: list[float] = []
    for turn in range(1, turns + 1):
        for kept, distance in ((near, SHORT), (far, long)):
            way.set(round_trip=distance)
            kept.append(timed())
        count = (min(far) - min(near)) / (long - SHORT)
        if turn > 1 and count <= enough:
            break
    return count


@contextmanager
def _program(pod: OpensshPod) -> Iterator["subprocess.Popen[str]"]:
    """Run `wan` and yield it when its devices are there."""
    with subprocess.Popen(
        [_compiled(), str(pod.init), pod.slot.wire],
        stdin=subprocess.PIPE,  # its end is the wire's end, and the kernel closes it if we are killed
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl+C is for the tests
    ) as program:
        assert program.stdout
        try:
            if program.stdout.readline() != "ready\n":
                raise RuntimeError(f"the wire to {pod.name} could not be laid")
            yield program
        finally:
            program.kill()


def _compiled() -> Path:
    """Return the program, compiled unless this source has been."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    program = base_root.cache() / f"wan-{digest[:8]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
            made = Path(scratch, "wan")
            subprocess.run([*COMPILER, "-o", made, SOURCE], check=True)
            made.rename(program)  # whole, or not there
    return program
