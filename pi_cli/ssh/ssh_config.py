"""The settings of the user's own ssh for an ssh command, from `ssh -G`: only ssh can resolve its configuration."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.ssh import ssh_config_files, ssh_home
from pi_cli.ssh.ssh_command import SshCommand
from pi_cli.ssh.ssh_config_files import Settings

SSH_PORT = 22
MAX_HOPS = 8
DEFAULT_KEYS = tuple(
    f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
)
DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
UNSUPPORTED = {  # pi can neither honour these nor ignore them without differing from ssh
    "proxyusefdpass": "ProxyUseFdpass",
    "revokedhostkeys": "RevokedHostKeys",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A jump host or the pod: `given` is the host as it was typed, `settings` are those of `ssh -G`."""

    given: str
    host: str
    port: int
    user: str
    settings: Settings

    def option(self, keyword: str) -> str | None:
        """Return the value of an option; None if it is not set, or is `none`."""
        [value, *_] = self.settings.get(keyword, ("none",))
        return None if value.lower() == "none" else value

    def algorithms(self, keyword: str) -> list[str]:
        return (self.option(keyword) or "").split(",") if self.option(keyword) else []

    def path(self, text: str) -> Path:
        """Expand a path as ssh does: `~`, `${VARIABLE}`, and tokens, e.g. `%h`."""
        return ssh_home.expanded(os.path.expandvars(self.expand(text)))

    def expand(self, text: str) -> str:
        """Replace tokens. Raises `PiError` for a token that pi does not support."""
        return re.sub("%(.)", lambda match: self._token(match[1], text), text)

    @property
    def identity_files(self) -> list[tuple[Path, bool]]:
        """Return every private key file that ssh would try, and whether the user named it."""
        values = [value for value in self.settings.get("identityfile", DEFAULT_KEYS) if value.lower() != "none"]
        return [(self.path(value), value not in DEFAULT_KEYS) for value in values]

    @property
    def certificate_files(self) -> list[Path]:
        return [self.path(value) for value in self.settings.get("certificatefile", ())]

    @property
    def agent(self) -> str | None:
        """Return the path of the agent's socket."""
        value = self.settings.get("identityagent", ("SSH_AUTH_SOCK",))[0]
        if value.lower() == "none":
            return None
        if value == "SSH_AUTH_SOCK" or value.startswith("$"):
            return os.environ.get(value.strip("${}")) or None
        return str(self.path(value))

    @property
    def known_hosts_files(self) -> list[Path]:
        users = _split_files(self.settings.get("userknownhostsfile", DEFAULT_KNOWN_HOSTS))
        systems = _split_files(self.settings.get("globalknownhostsfile", GLOBAL_KNOWN_HOSTS))
        return [self.path(file) for file in (*users, *systems)]

    @property
    def known_name(self) -> str:
        """Return the name of the machine in `known_hosts` files."""
        return self.option("hostkeyalias") or (self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}")

    def __str__(self) -> str:
        address = f" ({self.host})" if self.given.lower() != self.host else ""
        return f"`{self.given}`{address}" + (f" port {self.port}" if self.port != SSH_PORT else "")

    def _token(self, letter: str, text: str) -> str:
        me = ssh_home.account()
        values = {
            "%": "%", "d": str(Path.home()), "h": self.host, "i": str(me.pw_uid), "j": self.option("proxyjump") or "",
            "k": self.option("hostkeyalias") or self.given, "L": socket.gethostname().partition(".")[0],
            "l": socket.gethostname(), "n": self.given, "p": str(self.port), "r": self.user, "u": me.pw_name,
        }  # fmt: skip
        if letter not in values:
            raise PiError(f"your ssh configuration cannot be used: pi does not support `%{letter}` in `{text}`")
        return values[letter]


async def route(command: SshCommand, *, hops: int = 0) -> tuple[Destination, ...]:
    """Return the jump hosts of an ssh command and the pod, in order.

    As with ssh, `-o` and `-i` apply to the pod only; a jump host has the settings of the configuration, its own jump
    hosts included.
    """
    destination = await _resolve(command)
    jump = destination.option("proxyjump")
    if jump is None:
        return (destination,)
    if hops == MAX_HOPS:
        raise PiError(f"your ssh configuration cannot be used: `{command.host}` is reached through itself")
    before, _, last = jump.rpartition(",")
    hop = _parse_hop(last, command.config_file, before)
    return (*await route(hop, hops=hops + 1), destination)


async def _resolve(command: SshCommand) -> Destination:
    settings = await _settings(command)
    for keyword, name in UNSUPPORTED.items():
        if settings.get(keyword, ("no",))[0].lower() not in ("no", "none"):
            raise PiError(
                f"your ssh configuration cannot be used: pi does not support `{name}`",
                hint=fill("set `{name} none` for `{host}` if you can do without", name=name, host=command.host),
            )
    [host] = settings.get("hostname", (command.host,))
    [user] = settings.get("user", (command.user or ssh_home.account().pw_name,))
    [port] = settings.get("port", (str(command.port or SSH_PORT),))
    return Destination(command.host, host.lower(), int(port), user, settings)


async def _settings(command: SshCommand) -> Settings:
    """Return the settings of the installed ssh, from the cache if they are those of another recent host."""
    match shutil.which("ssh"):
        case None:
            return _without_ssh(command)
        case ssh_config_files.SYSTEM_SSH:
            with_system = not command.config_file and not ssh_home.is_elsewhere()
            return await ssh_config_files.settings(command, _run_ssh_g, with_system=with_system)
        case _:
            return await _run_ssh_g(command)


async def _run_ssh_g(command: SshCommand) -> Settings:
    """Have ssh resolve its configuration: `Match exec`, `Include`, canonical names and the rest.

    This waits in a thread: if a process of asyncio's own is cancelled while it starts, asyncio waits for it forever.
    """
    argv = ["ssh", "-G", "-T", *ssh_home.config_option(command.config_file), *command.arguments()]
    started = subprocess.Popen(argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)  # noqa: ASYNC220 - as asyncio does
    with started as process:
        try:
            stdout, stderr = await asyncio.to_thread(process.communicate)
        except BaseException:
            process.kill()  # a `Match exec` may run forever
            raise
    if process.returncode != 0:
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        raise PiError(f"your ssh configuration cannot be used: {lines[0] if lines else 'ssh -G failed'}")
    settings = _parse_settings(stdout.decode("utf-8", "replace").splitlines())
    account_home = ssh_home.account().pw_dir  # ssh uses the password database, pi uses $HOME
    if settings.get("userknownhostsfile") == (" ".join(DEFAULT_KNOWN_HOSTS).replace("~", account_home),):
        settings |= {"userknownhostsfile": DEFAULT_KNOWN_HOSTS}
    return settings


def _without_ssh(command: SshCommand) -> Settings:
    """Return the settings of the ssh command alone. Raises `PiError` if there is a configuration to read as well."""
    config = ssh_home.expanded(command.config_file or "~/.ssh/config")
    if config.exists():
        raise PiError(
            f"your ssh configuration cannot be used: no ssh client is installed to read `{config}`",
            hint="install the OpenSSH client",
        )
    return _parse_settings(option.replace('"', "") for option in command.effective_options)


def _parse_settings(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    settings: dict[str, tuple[str, ...]] = {}
    for line in lines:
        keyword, _, value = line.strip().partition(" ")
        settings[keyword.lower()] = (*settings.get(keyword.lower(), ()), value)
    return settings


def _parse_hop(text: str, config_file: str | None, before: str) -> SshCommand:
    """Parse one hop of a `ProxyJump`: `[user@]host[:port]` or an ssh URI; an IPv6 address is in brackets."""
    user, _, address = text.removeprefix("ssh://").rstrip("/").rpartition("@")
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?|([0-9a-fA-F:]+)", address)
    if match is None:
        raise PiError(f"your ssh configuration cannot be used: `{text}` is not a valid jump host")
    port = match[2] or match[4]
    options = (f"ProxyJump {before}",) if before else ()
    return SshCommand(match[1] or match[3] or match[5], user or None, int(port) if port else None, options, config_file)


def _split_files(values: tuple[str, ...]) -> list[str]:
    """Split the paths that `ssh -G` prints on one line, unless the line is one existing path with blanks."""
    return [file for value in values for file in ([value] if Path(value).exists() else value.split()) if file != "none"]
