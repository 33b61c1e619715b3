"""Pods that are machines of their own: a bare Debian root, real sshd, root login by key.

    with OpensshLab() as lab, lab.pod("dc1") as pod:
        subprocess.run([*shlex.split(pod.ssh), "nvidia-smi"])

A pod is one overlay over the base root (`base_root.py`) in mount, PID, network, UTS and IPC namespaces of its own.
Nothing of it is mounted or running outside of them, and its first process (`pod_init.sh`) ends when the tests end, so
nothing outlives the tests, however they end.
"""

import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

from pi_cli.demo.pod import CUDA_LIBRARY
from tests import executables
from tests.lab import base_root, network, registries
from tests.lab.network import Slot
from tests.lab.registries import Registries
from tests.until import until

FAKE_NVIDIA_SMI = Path(__file__).with_name("fake_nvidia_smi").read_text()
FAKE_CUDA = "usr/local/lib/libcuda.py"  # the library that belongs to it
THIEF = Path(__file__).with_name("thief.py")
HEARD = "/tmp/heard"  # on the pod: what the thief was sent

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc")
_COMMANDS = ("unshare", "nsenter", "setpriv", "ip", "iptables", "ssh", "ssh-keygen", "mount", "tar")
_WHAT_IT_TAKES = """\
set -e
mkdir lower upper work merged
mount -t overlay trial -o lowerdir=lower,upperdir=upper,workdir=work merged
ip link add trial type veth peer name laitr
iptables -t nat -A POSTROUTING -j MASQUERADE
"""
_SSHD_CONFIG = """\
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM yes
"""


@functools.cache
def why_not() -> str | None:
    """Say why no openssh pod can run here; None if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "openssh pods need root on Linux"
    needed = _COMMANDS if base_root.are_made() else (*_COMMANDS, "debootstrap")
    missing = [command for command in needed if not shutil.which(command)]
    if missing:
        return f"openssh pods need {', '.join(missing)}: run tests/lab/install.sh"
    base_root.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base_root.cache()) as directory:
        command = ["unshare", *_NAMESPACES, "--fork", "sh", "-c", _WHAT_IT_TAKES]
        tried = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    return f"openssh pods cannot run here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Process:
    """A process of a pod, as root on the pod sees it."""

    pid: int
    parent: int
    state: str  # one letter, as `ps` shows it: R, S, D, T, Z …
    args: list[str]
    environ: dict[str, str]


class OpensshLab:
    """Pods on this machine; leaving the `with` block closes them all."""

    def __init__(self) -> None:
        self._pods = ExitStack()

    def __enter__(self) -> Self:
        network.sweep()
        base_root.ready()
        self._registries = registries.discover(base_root.SUITE)
        return self

    def __exit__(self, *_: object) -> None:
        self._pods.close()
        network.sweep()

    def pod(
        self,
        name: str = "pod",
        *,
        packages: base_root.Packages = base_root.BARE,
        share: Iterable[tuple[Path, Path]] = (),
        reaping: bool = True,
    ) -> "OpensshPod":
        """Start a pod; `share` are directories (the host's, where on the pod) that it sees too, and may write to.

        `packages` is one of the roots of `base_root`.
        With `reaping=False` no process reaps its dead orphans, as in many a container: they stay zombies.
        """
        with ExitStack() as opening:
            slot, scratch = opening.enter_context(network.leased(base_root.cache() / "pods"))
            shares = [*(("rw", *each) for each in share), *(("ro", each, each) for each in self._registries.wheels)]
            init = "reaping" if reaping else "careless"
            arguments = [base_root.ready(packages), scratch, name, init, *chain(*shares)]
            pod = OpensshPod(name, slot, scratch, opening.enter_context(_first_process(scratch, slot, arguments)))
            pod._furnish(self._registries)
            pod._resources = opening.pop_all()
        return self._pods.enter_context(pod)


class OpensshPod:
    """A machine with sshd on port 22 and nothing else on it; `with` or `close` ends it and all that runs on it.

    `root` is its file system, `home` the home of root. Both are real paths for the tests: read and write them freely,
    but an absolute symbolic link met on the way leads into the host's file system.
    """

    def __init__(self, name: str, slot: Slot, scratch: Path, init: int) -> None:
        self.name = name
        self.slot = slot
        self.address = slot.pod
        self.port = 22
        self.host = slot.host  # where the pod reaches this machine
        self.key = scratch / "key"
        self.root = Path(f"/proc/{init}/root")
        self.home = self.root / "root"
        self.init = init  # the PID of its first process on this machine
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._resources.close()

    @property
    def ssh(self) -> str:
        """What a user would paste."""
        port = "" if self.port == 22 else f" -p {self.port}"
        return f"ssh -i {shlex.quote(str(self.key))}{port} root@{self.address}"

    def run(self, command: str, *, input: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command for bash on the pod, as root at home, without sshd; its failure is not an error here."""
        enter = ["nsenter", f"--target={self.init}", *_NAMESPACES, "--root"]
        variables = {"HOME": "/root", "USER": "root", "PATH": _PATH, **self._environment()}
        enter += ["env", "-i", "-C", "/root", *(f"{name}={value}" for name, value in variables.items())]
        return subprocess.run(
            [*enter, "bash", "-c", command],
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def install(self, name: str, script: str) -> None:
        """Put an executable into `/usr/local/bin`."""
        executables.put(self.root / "usr/local/bin" / name, script)

    def processes(self) -> list[Process]:
        """Return all that runs on the pod, or is dead and not waited for, but not the pod's own first process."""
        pids = sorted(int(entry.name) for entry in (self.root / "proc").iterdir() if entry.name.isdigit())
        found = (_process(self.root / "proc" / str(pid)) for pid in pids if pid != 1)
        return [process for process in found if process]

    def listening(self) -> set[int]:
        """Return the TCP ports that something on the pod listens on."""
        tables = [(self.root / "proc/1/net" / name).read_text() for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}

    def sshd_config(self, **options: object) -> None:
        """Set sshd options, replacing those of an earlier call; `restart_sshd` makes them count."""
        lines = "".join(f"{name} {value}\n" for name, value in options.items())
        # The first value that sshd meets wins, and it reads these files by name.
        (self.root / "etc/ssh/sshd_config.d/10-test.conf").write_text(lines)

    def restart_sshd(self) -> None:
        """Restart the listening sshd; like on any Debian, the sessions of the old one go on."""
        self.stop_sshd()
        self.check("/usr/sbin/sshd -E /var/log/sshd.log")
        options = self.check("/usr/sbin/sshd -T").splitlines()
        self.port = next(int(option.split()[1]) for option in options if option.startswith("port "))
        until(lambda: self.port in self.listening(), f"sshd listens on port {self.port}")

    def stop_sshd(self) -> None:
        """Stop the listening sshd, but none of its sessions: the next connection is refused."""
        self.run("[ ! -e /run/sshd.pid ] || kill $(cat /run/sshd.pid)")
        until(lambda: self.port not in self.listening(), "sshd stops listening")

    def limit(self, rate: str | None) -> None:
        """Limit what the pod sends into its network, in the words of `tc`'s token bucket; None takes the limit away."""
        command = f"replace dev eth0 root tbf {rate}" if rate else "delete dev eth0 root"
        subprocess.run(["nsenter", f"--net=/proc/{self.init}/ns/net", "tc", "qdisc", *command.split()], check=True)

    def new_host_key(self) -> None:
        """Become, to an SSH client, another machine under the same address."""
        self._generate_host_keys()
        self.restart_sshd()

    def fingerprint(self, kind: str = "ed25519") -> str:
        """Return the fingerprint of the host key, like `SHA256:…`."""
        return self.check(f"ssh-keygen -l -f /etc/ssh/ssh_host_{kind}_key.pub").split()[1]

    def check(self, command: str, *, timeout: float = 60) -> str:
        """Run a command as `run` does and return what it prints; its failure is a failure of the test."""
        ended = self.run(command, timeout=timeout)
        if ended.returncode:
            raise RuntimeError(
                f"`{command}` ended with status {ended.returncode} on {self.name}:\n{ended.stdout}{ended.stderr}"
            )
        return ended.stdout

    def _environment(self) -> dict[str, str]:
        lines = (self.root / "etc/environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _furnish(self, registries: Registries) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", self.key], check=True)
        authorized = self.home / ".ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700)
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (self.root / "etc/ssh/sshd_config.d/90-lab.conf").write_text(_SSHD_CONFIG)
        registries.hand_on(self.root)
        shutil.copy(CUDA_LIBRARY, self.root / FAKE_CUDA)
        with (self.root / "etc/environment").open("a") as variables:
            variables.write(f"PI_DEMO_CUDA=/{FAKE_CUDA}\n")
        self._generate_host_keys()
        self.restart_sshd()

    def _generate_host_keys(self) -> None:
        each = "ssh-keygen -q -t $kind -N '' -C root@$HOSTNAME -f /etc/ssh/ssh_host_${kind%% *}_key"
        kinds = "ed25519 ecdsa 'rsa -b 2048'"  # a longer one takes longer to find than all else about a pod
        self.check(f"rm -f /etc/ssh/ssh_host_*; for kind in {kinds}; do {each} & done; wait")


@contextmanager
def thief_on(pod: OpensshPod, port: int) -> Iterator[None]:
    """Let a process of an unprivileged user answer on a port of the pod as a model does, and keep what it is sent."""
    pod.run("cat > /tmp/thief.py && chmod 644 /tmp/thief.py", input=THIEF.read_text())
    as_nobody = "setsid -f setpriv --reuid 65534 --regid 65534 --clear-groups"
    pod.check(f"{as_nobody} python3 /tmp/thief.py 0.0.0.0:{port} {HEARD} < /dev/null > /dev/null 2> /tmp/thief.log")
    try:
        until(lambda: port in pod.listening(), f"it listens on port {port}; {pod.run('cat /tmp/thief.log').stdout}")
        yield
    finally:
        pod.run("pkill -u 65534 python3")
        until(lambda: port not in pod.listening())


def heard_by_thief(pod: OpensshPod) -> str:
    return pod.run(f"cat {HEARD}").stdout


@contextmanager
def _first_process(scratch: Path, slot: Slot, arguments: Sequence[object]) -> Iterator[int]:
    """Run `pod_init.sh` in new namespaces, with a network, and yield its PID when the pod's root is complete."""
    command = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "bash", Path(__file__).with_name("pod_init.sh")]
    with (
        (scratch / "init.log").open("w+") as log,
        subprocess.Popen(
            [*map(str, command), *map(str, arguments)],
            stdin=subprocess.PIPE,  # its end is the pod's end, and the kernel closes it if we are killed
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl+C is for the tests
        ) as unshare,
    ):
        assert unshare.stdout
        init = unshare.stdout.readline()
        if init:
            network.connect(slot, int(init))
        if unshare.stdout.readline() != "ready\n":
            log.seek(0)
            raise RuntimeError(f"the pod did not start:\n{log.read()}")
        try:
            yield int(init)
        finally:
            with suppress(ProcessLookupError):  # a test may have ended it
                os.kill(int(init), signal.SIGKILL)


def _process(entry: Path) -> Process | None:
    """Read a directory of `/proc`; None if the process has ended and been waited for meanwhile."""
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    environ = dict(variable.split("=", 1) for variable in _strings(entry / "environ") if "=" in variable)
    return Process(int(entry.name), int(parent), state, _strings(entry / "cmdline"), environ)


def _strings(path: Path) -> list[str]:
    """Read zero-terminated strings from a file of `/proc`; the dead have none."""
    try:
        return path.read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []
