"""The embedded pod: a real SSH server that runs real commands under bash, in its own home.

    with EmbeddedPod("2x H100 80GB") as pod:
        subprocess.run([*shlex.split(pod.ssh), "nvidia-smi"])

Only the GPU machine is simulated: `bin/` has stubs for the programs that this machine lacks.
"""

import shlex
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pi_cli.demo import gpus as cards
from pi_cli.demo import machine, owner, ports, processes, session
from pi_cli.demo.engine import package
from pi_cli.demo.owner import MARKER
from pi_cli.demo.session import Channel
from pi_cli.demo.sshd import Sshd
from pi_cli.ssh.quick_asyncssh import asyncssh

MEGABYTE = 10**6
FREE_DISK_BYTES = 10**14
STUBS = Path(__file__).parent / "bin"
CUDA_LIBRARY = Path(__file__).parent / "stubs" / "libcuda.py"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class EmbeddedPod:
    """A pod on a loopback port, ready when it is created; `close` (or `with`) leaves no process, thread or file behind.

    `gpus` is a list as users write it (`1x H100 80GB, 1x L4`, `none`). A given `home` is not deleted. All embedded pods
    are in one simulated private network, unless they have none: each has an address of its own on this machine's
    loopback, which the agent takes from PI_DEMO_ADDRESS instead of from the interfaces of this machine.
    """

    address = "127.0.0.1"

    def __init__(
        self, gpus: str = "2x H100 80GB", *, home: Path | None = None, has_private_network: bool = True
    ) -> None:
        self.commands: list[str] = []
        """The command strings received, in order: the remote shell and `ps` on the pod see these."""
        with ExitStack() as undo:
            self._folder = Path(tempfile.mkdtemp(prefix="pi-demo-")).resolve()
            undo.callback(shutil.rmtree, self._folder)
            self._create_home(cards.parse(gpus), home)
            self._first_port = undo.enter_context(ports.reserved())
            self.private_address = ports.address(self._first_port) if has_private_network else ""
            client_key = _write_key(self.key)
            self._host_key = _new_key()
            self._sshd = Sshd(self._serve, host_key=self._host_key, client_key=client_key)
            undo.callback(self._end)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every process of the pod, then its server, then remove its files."""
        self._undo.close()

    @property
    def port(self) -> int:
        return self._sshd.port

    @property
    def key(self) -> Path:
        """The private key that logs in, for `ssh -i`."""
        return self._folder / "id_ed25519"

    @property
    def ssh(self) -> str:
        """The ssh command that a provider's dashboard would show."""
        return f"ssh -p {self.port} -i {shlex.quote(str(self.key))} root@{self.address}"

    @property
    def host_key(self) -> str:
        """The public host key, in the format of `known_hosts`."""
        return self._host_key.export_public_key().decode().strip()

    def new_host_key(self) -> None:
        """Change the host key, as if the machine had been recreated at the same address."""
        self._host_key = _new_key()
        self._sshd.use_host_key(self._host_key)

    def install(self, name: str, script: str) -> Path:
        """Install an executable first on the pod's PATH; it replaces a stub of that name, even a running one."""
        path = self._folder / "bin" / name
        fresh = path.with_name(f"{name}.new")
        fresh.write_text(script, encoding="utf-8")
        fresh.chmod(0o755)
        fresh.replace(path)
        return path

    def processes(self) -> list[processes.Process]:
        """Return all processes that descend from a command on this pod, in any session."""
        return processes.marked(MARKER, str(self._folder))

    def files(self) -> dict[str, bytes]:
        """Return the files in the pod's home by path, except files over a megabyte: simulated weights are huge."""
        paths = [path for path in self.home.rglob("*") if path.is_file() and path.stat().st_size <= MEGABYTE]
        return {str(path.relative_to(self.home)): path.read_bytes() for path in paths}

    def _create_home(self, gpus: list[cards.Gpu], home: Path | None) -> None:
        """Create the pod's folder, whose path is also its identity in `MARKER`."""
        self.home = home or self._folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        cards.install(self.home, gpus)
        (self._folder / "bin").mkdir()
        self._create_python(Path(sys.executable).resolve())
        owner.write(self._folder)
        machine.write(self._folder / "machine")
        for stub in STUBS.iterdir():
            if stub.is_file():
                self.install(stub.name, _launcher(stub))

    def _create_python(self, python: Path) -> None:
        """Give the pod a Python without packages but the simulated `vllm`."""
        (self._folder / "bin" / "python3").symlink_to(python)
        config = f"home = {python.parent}\ninclude-system-site-packages = false\n"
        (self._folder / "pyvenv.cfg").write_text(config, encoding="utf-8")
        package.write(self._folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")

    async def _serve(self, channel: Channel) -> None:
        if channel.command is not None:
            self.commands.append(channel.command)
        environment = {
            "HOME": str(self.home),
            "USER": "root",
            "LOGNAME": "root",
            "SHELL": shutil.which("bash", path=SYSTEM_PATH) or "/bin/bash",
            "PATH": f"{self._folder / 'bin'}:{self.home / '.local/bin'}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "SSH_CLIENT": f"{self.address} 0 {self.port}",  # set as by sshd: then Debian's bash reads ~/.bashrc
            "PI_FIRST_PORT": str(self._first_port),  # of its models: this machine may run other embedded pods
            "PI_FREE_DISK": str(FREE_DISK_BYTES),  # simulated weights take no space on this machine
            "PI_DEMO_ADDRESS": self.private_address,  # SIMULATED private network: an address of this machine's loopback
            "PI_DEMO_CUDA": str(CUDA_LIBRARY),  # in place of the driver's library, which this machine may lack
            machine.VARIABLE: str(self._folder / "machine"),
            MARKER: str(self._folder),
        }
        await session.serve(channel, home=self.home, environment=environment)

    def _end(self) -> None:
        self._sshd.stop()
        try:
            while not self._sshd.has_ended(timeout=0.02):
                processes.end(MARKER, str(self._folder))
        finally:
            processes.end(MARKER, str(self._folder))


def _launcher(stub: Path) -> str:
    """Return a script that runs a stub: a shell stub itself, a Python stub with this interpreter, without packages."""
    text = stub.read_text(encoding="utf-8")
    if not text.startswith("#!/usr/bin/env python3"):
        return text
    lines = [
        "#!/bin/sh",
        f"# SIMULATED {stub.name}, on an embedded pod of `pi demo`.",
        f"python={shlex.quote(str(Path(sys.executable).resolve()))}",
        f'exec "${{PI_DEMO_PYTHON:-$python}}" -I -S {shlex.quote(str(stub))} "$@"',
    ]
    return "\n".join([*lines, ""])


def _new_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def _write_key(path: Path) -> asyncssh.SSHKey:
    key = _new_key()
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return key
