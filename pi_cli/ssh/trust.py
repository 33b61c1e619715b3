"""Verify host keys: against pi's own `known_hosts`, by name, and against the user's, by address."""

import functools
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_cli.errors import HostKeyChanged, PodUnreachable
from pi_cli.hints import fill
from pi_cli.ssh import host_keys
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.ssh_config import Destination


@dataclass(slots=True)
class KnownHosts:
    """The entries for a machine in the user's own `known_hosts` files.

    `exact` are keys for its address and port. `trusted` includes keys for the host without a port: ssh accepts those
    too, but their absence proves nothing.
    """

    exact: set[asyncssh.SSHKey] = field(default_factory=set)
    trusted: set[asyncssh.SSHKey] = field(default_factory=set)
    authorities: set[asyncssh.SSHKey] = field(default_factory=set)
    revoked: set[asyncssh.SSHKey] = field(default_factory=set)


@dataclass(slots=True)
class Trust:
    """Decides on one host key and remembers the key presented.

    `name` is the machine's in pi's `known_hosts`; `key_label` names the key in messages. `learn` accepts the key of an
    unknown machine, `accept_new` any key.
    """

    pod: str
    name: str
    key_label: str
    ssh: str
    destination: Destination
    learn: bool
    accept_new: bool
    pinned: asyncssh.SSHKey | None = None
    users: KnownHosts = field(default_factory=KnownHosts)
    presented: asyncssh.SSHKey | None = None

    def __post_init__(self) -> None:
        line = host_keys.read(self.name)
        self.pinned = asyncssh.import_public_key(line) if line else None
        self.users = _users_known_hosts(self.destination, only_revoked=self.pinned is not None)

    @property
    def trusted(self) -> set[asyncssh.SSHKey]:
        return {self.pinned} if self.pinned else self.users.trusted

    def options(self) -> dict[str, Any]:
        """Return the options for asyncssh, which asks `accepts` about a key that is not trusted."""
        return {
            "known_hosts": (list(self.trusted), list(self.users.authorities), list(self.users.revoked)),
            "host_key_alias": self.destination.option("hostkeyalias"),
            "server_host_key_algs": self._algorithms(),
        }

    def accepts(self, key: asyncssh.SSHKey) -> bool:
        """Decide on a key that is not trusted."""
        self.presented = key
        return self.accept_new or (self.learn and self.pinned is None and not self.users.exact)

    def remember(self, key: asyncssh.SSHKey) -> str | None:
        """Pin the key of a machine after a successful login; return its fingerprint if it was not pinned before.

        A key that one of the user's certificate authorities has signed is not pinned: the authority will sign the next
        one too.
        """
        if key == self.pinned or (key not in self.users.trusted and key != self.presented):
            return None
        host_keys.remember(self.name, " ".join(key.export_public_key("openssh").decode().split()[:2]))
        return str(key.get_fingerprint())

    def error(self, reason: str) -> PodUnreachable:
        """Return the error for a host key that is not trusted; `reason` is asyncssh's."""
        if self.presented is None:  # asyncssh decided by itself: a revoked key, or a certificate that does not match
            return PodUnreachable(
                self.pod,
                f"{self.key_label} cannot be trusted: {reason}",
                hint="your own known_hosts rules it out; ask the administrator of that machine",
            )
        shown = self.presented.get_fingerprint()
        if self.pinned:
            known = self.pinned.get_fingerprint()
            return HostKeyChanged(self.pod, known=known, shown=shown, ssh=self.ssh, key_label=self.key_label)
        if self.learn:
            accept = "if it is a new machine, accept its key with `pi pods setup {pod} {ssh} --accept-new-host-key`"
            return PodUnreachable(
                self.pod,
                f"{self.key_label} {shown} is not the one that your own known_hosts has for {self._contradiction()}: "
                "either another machine had this address before, or the connection is being intercepted",
                hint=fill(accept, pod=self.pod, ssh=self.ssh),
            )
        hint = fill("learn it with `pi pods setup {pod} {ssh}`", pod=self.pod, ssh=self.ssh)
        return PodUnreachable(self.pod, f"{self.key_label} {shown} is not known to pi", hint=hint)

    def _contradiction(self) -> str:
        """Describe the user's entry that contradicts, and the pod that has the key, if pi knows one."""
        keys = sorted(self.users.exact, key=lambda key: key.get_fingerprint())
        lines = [" ".join(key.export_public_key("openssh").decode().split()[:2]) for key in keys]
        owners = [owner for line in lines if (owner := host_keys.owner(line, other_than=self.name))]
        was = f", the key of pod `{owners[0]}`" if owners else ""
        return f"`{self.destination.known_name}` ({', '.join(key.get_fingerprint() for key in keys)}{was})"

    def _algorithms(self) -> list[str]:
        """Return the key algorithms, known types first: most machines have keys of several types, and one is known."""
        known = [algorithm.decode() for key in self.trusted for algorithm in key.sig_algorithms]
        configured = self.destination.algorithms("hostkeyalgorithms")
        possible = [algorithm.decode() for algorithm in asyncssh.public_key.get_public_key_algs()]
        plain = [name for name in configured if name in possible] or _decode(
            asyncssh.public_key.get_default_public_key_algs()
        )
        first = [name for name in plain if name in known] or [name for name in known if name != "ssh-rsa"]
        certified = _decode(asyncssh.public_key.get_certificate_algs()) if self.users.authorities else []
        return list(dict.fromkeys([*certified, *first, *plain]))


def _decode(algorithms: list[bytes]) -> list[str]:
    return [algorithm.decode() for algorithm in algorithms]


def _users_known_hosts(destination: Destination, *, only_revoked: bool) -> KnownHosts:
    """Return the user's entries for a machine. Once its key is pinned, only revocations count."""
    known = KnownHosts()
    without_port = destination.option("hostkeyalias") or destination.host
    for file in destination.known_hosts_files:
        entries = _read(file, _changed_at(file), only_revoked)
        if entries is None:
            continue
        exact, authorities, revoked, *_ = entries.match(destination.known_name, "", None)
        trusted, more_authorities, more_revoked, *_ = entries.match(without_port, "", None)
        known.exact.update(exact)
        known.trusted.update(exact, trusted)
        known.authorities.update(authorities, more_authorities)
        known.revoked.update(revoked, more_revoked)
    return known


def _changed_at(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return 0


@functools.lru_cache(maxsize=16)
def _read(file: Path, changed_at: int, only_revoked: bool) -> asyncssh.SSHKnownHosts | None:
    """Read a `known_hosts` file, once for all pods of a run; None if no line in it counts.

    Malformed lines are ignored, as with ssh.
    """
    del changed_at
    entries: asyncssh.SSHKnownHosts | None = None
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("@revoked") or not only_revoked:
                entries = entries or asyncssh.SSHKnownHosts()
                with suppress(ValueError):
                    entries.load(line)
    return entries
