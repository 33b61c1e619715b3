"""What the user's own ssh makes of an ssh command: `ssh -G` reads the configuration, as only ssh itself can."""

import asyncio
import os
import pwd
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
from pi_cli.ssh.ssh_config_files import Answers

SSH_PORT = 22
MOST_HOPS = 8
DEFAULT_KEYS = tuple(
    f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
)
DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
REFUSED = {  # what pi can neither do nor leave out without doing something else than ssh would
    "proxyusefdpass": "ProxyUseFdpass",
    "revokedhostkeys": "RevokedHostKeys",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A machine on the way to a pod, or the pod: `given` is the host as it was typed, `answers` what `ssh -G` says."""

    given: str
    host: str
    port: int
    user: str
    answers: Answers

    def one(self, keyword: str) -> str | None:
        """Return the value of an option; None if there is none, or it is `none`."""
        [value, *_] = self.answers.get(keyword, ("none",))
        return None if value.lower() == "none" else value

    def algorithms(self, keyword: str) -> list[str]:
        return (self.one(keyword) or "").split(",") if self.one(keyword) else []

    def path(self, text: str) -> Path:
        """Fill in a path as ssh does: `~`, `${VARIABLE}` and tokens such as `%h`."""
        return Path(os.path.expandvars(self.filled_in(text))).expanduser()

    def filled_in(self, text: str) -> str:
        """Replace tokens. Raises `PiError`, naming the one that pi does not know."""
        return re.sub("%(.)", lambda match: self._token(match[1], text), text)

    @property
    def identity_files(self) -> list[tuple[Path, bool]]:
        """Return (file, whether somebody named it) for every private key that ssh would look for."""
        named = [value for value in self.answers.get("identityfile", DEFAULT_KEYS) if value.lower() != "none"]
        return [(self.path(value), value not in DEFAULT_KEYS) for value in named]

    @property
    def certificate_files(self) -> list[Path]:
        return [self.path(value) for value in self.answers.get("certificatefile", ())]

    @property
    def agent(self) -> str | None:
        """Return the path of the agent's socket."""
        said = self.answers.get("identityagent", ("SSH_AUTH_SOCK",))[0]
        if said.lower() == "none":
            return None
        if said == "SSH_AUTH_SOCK" or said.startswith("$"):
            return os.environ.get(said.strip("${}")) or None
        return str(self.path(said))

    @property
    def known_hosts_files(self) -> list[Path]:
        users = _files(self.answers.get("userknownhostsfile", DEFAULT_KNOWN_HOSTS))
        return [
            self.path(file) for file in (*users, *_files(self.answers.get("globalknownhostsfile", GLOBAL_KNOWN_HOSTS)))
        ]

    @property
    def known_name(self) -> str:
        """Return the name under which a `known_hosts` file has the machine's key."""
        return self.one("hostkeyalias") or (self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}")

    def __str__(self) -> str:
        alias = f" ({self.host})" if self.given.lower() != self.host else ""
        return f"`{self.given}`{alias}" + (f" port {self.port}" if self.port != SSH_PORT else "")

    def _token(self, letter: str, text: str) -> str:
        me = pwd.getpwuid(os.getuid())
        values = {
            "%": "%", "d": str(Path.home()), "h": self.host, "i": str(me.pw_uid), "j": self.one("proxyjump") or "",
            "k": self.one("hostkeyalias") or self.given, "L": socket.gethostname().partition(".")[0],
            "l": socket.gethostname(), "n": self.given, "p": str(self.port), "r": self.user, "u": me.pw_name,
        }  # fmt: skip
        if letter not in values:
            raise PiError(f"your ssh configuration cannot be used: pi does not know `%{letter}` in `{text}`")
        return values[letter]


async def route(command: SshCommand, *, hops: int = 0) -> tuple[Destination, ...]:
    """Return the machines that an ssh command leads through, the pod last.

    As with ssh, `-o` and `-i` are for the pod alone; a jump host has what the configuration says about it, its own
    jump hosts included.
    """
    destination = await _resolve(command)
    jump = destination.one("proxyjump")
    if jump is None:
        return (destination,)
    if hops == MOST_HOPS:
        raise PiError(f"your ssh configuration cannot be used: `{command.host}` is reached through itself")
    before, _, last = jump.rpartition(",")
    hop = _read_hop(last, command.config_file, before)
    return (*await route(hop, hops=hops + 1), destination)


async def _resolve(command: SshCommand) -> Destination:
    answers = await _answers(command)
    for keyword, name in REFUSED.items():
        if answers.get(keyword, ("no",))[0].lower() not in ("no", "none"):
            raise PiError(
                f"your ssh configuration cannot be used: pi does not know how to honour `{name}`",
                hint=fill("set `{name} none` for `{host}` if you can do without", name=name, host=command.host),
            )
    [host] = answers.get("hostname", (command.host,))
    [user] = answers.get("user", (command.user or pwd.getpwuid(os.getuid()).pw_name,))
    [port] = answers.get("port", (str(command.port or SSH_PORT),))
    return Destination(command.host, host.lower(), int(port), user, answers)


async def _answers(command: SshCommand) -> Answers:
    """Ask the ssh that is here, unless it has said the same of another host a moment ago."""
    match shutil.which("ssh"):
        case None:
            return _without_ssh(command)
        case ssh_config_files.SSH:
            with_system = not command.config_file and not ssh_home.is_elsewhere()
            return await ssh_config_files.answers(command, _ask_ssh, with_system=with_system)
        case _:
            return await _ask_ssh(command)


async def _ask_ssh(command: SshCommand) -> Answers:
    """Have ssh read its configuration: `Match exec`, `Include`, canonical names and all.

    With a thread, since of asyncio's own processes one that is cancelled while it begins is waited for without end.
    """
    words = ["ssh", "-G", "-T", *ssh_home.option(command.config_file), *command.words()]
    begun = subprocess.Popen(words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)  # noqa: ASYNC220 - as asyncio does
    with begun as asked:
        try:
            said, complaint = await asyncio.to_thread(asked.communicate)
        except BaseException:
            asked.kill()  # a `Match exec` may take for ever
            raise
    if asked.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        raise PiError(f"your ssh configuration cannot be used: {lines[0] if lines else 'ssh -G failed'}")
    answers = _collect(said.decode("utf-8", "replace").splitlines())
    account = pwd.getpwuid(os.getuid()).pw_dir  # ssh goes by the password database, pi by $HOME
    if answers.get("userknownhostsfile") == (" ".join(DEFAULT_KNOWN_HOSTS).replace("~", account),):
        answers |= {"userknownhostsfile": DEFAULT_KNOWN_HOSTS}
    return answers


def _without_ssh(command: SshCommand) -> Answers:
    """Go by the ssh command alone, as long as there is no configuration that it would be wrong to pass over."""
    config = Path(command.config_file or "~/.ssh/config").expanduser()
    if config.exists():
        raise PiError(
            f"your ssh configuration cannot be used: there is no ssh here to read `{config}`",
            hint="install the OpenSSH client",
        )
    return _collect(option.replace('"', "") for option in command.options)


def _collect(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    answers: dict[str, tuple[str, ...]] = {}
    for line in lines:
        keyword, _, value = line.strip().partition(" ")
        answers[keyword.lower()] = (*answers.get(keyword.lower(), ()), value)
    return answers


def _read_hop(text: str, config_file: str | None, before: str) -> SshCommand:
    """Read one hop of a `ProxyJump`: `[user@]host[:port]` or an ssh URI; an address of IPv6 stands in brackets."""
    user, _, where = text.removeprefix("ssh://").rstrip("/").rpartition("@")
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?|([0-9a-fA-F:]+)", where)
    if match is None:
        raise PiError(f"your ssh configuration cannot be used: `{text}` is no jump host")
    port = match[2] or match[4]
    options = (f"ProxyJump {before}",) if before else ()
    return SshCommand(match[1] or match[3] or match[5], user or None, int(port) if port else None, options, config_file)


def _files(values: tuple[str, ...]) -> list[str]:
    """Split what `ssh -G` prints on one line, unless it is one path with a blank in it."""
    return [file for value in values for file in ([value] if Path(value).exists() else value.split()) if file != "none"]
