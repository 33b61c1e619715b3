"""Whether a machine is the one we know: pi's own `known_hosts` by name, and the user's by address."""

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
    """What the user's own `known_hosts` files say about a machine.

    `exact` are keys for its very address and port; `trusted` also those for the host whatever the port, which ssh
    accepts too, but whose absence proves nothing.
    """

    exact: set[asyncssh.SSHKey] = field(default_factory=set)
    trusted: set[asyncssh.SSHKey] = field(default_factory=set)
    authorities: set[asyncssh.SSHKey] = field(default_factory=set)
    revoked: set[asyncssh.SSHKey] = field(default_factory=set)


@dataclass(slots=True)
class Trust:
    """The judge of one machine's host key; it keeps the key that it was shown.

    `name` is that in pi's `known_hosts`, `whose` begins what is said about the key. With `learn` the key of a machine
    that is not known is accepted, with `accept_new` any.
    """

    pod: str
    name: str
    whose: str
    ssh: str
    destination: Destination
    learn: bool
    accept_new: bool
    pinned: asyncssh.SSHKey | None = None
    users: KnownHosts = field(default_factory=KnownHosts)
    shown: asyncssh.SSHKey | None = None

    def __post_init__(self) -> None:
        line = host_keys.read(self.name)
        self.pinned = asyncssh.import_public_key(line) if line else None
        self.users = _look_up(self.destination, only_revoked=self.pinned is not None)

    @property
    def trusted(self) -> set[asyncssh.SSHKey]:
        return {self.pinned} if self.pinned else self.users.trusted

    def options(self) -> dict[str, Any]:
        """Return what asyncssh needs; what is not trusted here it asks `accepts` about."""
        return {
            "known_hosts": (list(self.trusted), list(self.users.authorities), list(self.users.revoked)),
            "host_key_alias": self.destination.one("hostkeyalias"),
            "server_host_key_algs": self._algorithms(),
        }

    def accepts(self, key: asyncssh.SSHKey) -> bool:
        """Decide about a key that is not trusted."""
        self.shown = key
        return self.accept_new or (self.learn and self.pinned is None and not self.users.exact)

    def remember(self, key: asyncssh.SSHKey) -> str | None:
        """Pin the key of a machine that has let us in; return its fingerprint if it is new here.

        A key that an authority of the user's vouches for is not pinned: the authority vouches for the next one too.
        """
        if key == self.pinned or (key not in self.users.trusted and key != self.shown):
            return None
        host_keys.remember(self.name, " ".join(key.export_public_key("openssh").decode().split()[:2]))
        return str(key.get_fingerprint())

    def error(self, reason: str) -> PodUnreachable:
        """Say why a machine is not trusted; `reason` is asyncssh's."""
        shown = self.shown.get_fingerprint() if self.shown else "unknown"
        if self.shown is None:  # asyncssh has decided by itself: revoked, or a certificate that does not fit
            return PodUnreachable(
                self.pod,
                f"{self.whose} cannot be trusted: {reason}",
                hint="your own known_hosts says so; ask whoever runs that machine",
            )
        if self.pinned:
            known = self.pinned.get_fingerprint()
            return HostKeyChanged(self.pod, known=known, shown=shown, ssh=self.ssh, whose=self.whose)
        if self.learn:
            accept = "if it is a new machine, accept its key with `pi pods setup {pod} {ssh} --accept-new-host-key`"
            return PodUnreachable(
                self.pod,
                f"{self.whose} {shown} is not the one that your own known_hosts has for {self._known()}: "
                "either another machine had this address before, or somebody is in between",
                hint=fill(accept, pod=self.pod, ssh=self.ssh),
            )
        hint = fill("learn it with `pi pods setup {pod} {ssh}`", pod=self.pod, ssh=self.ssh)
        return PodUnreachable(self.pod, f"{self.whose} {shown} is not known here", hint=hint)

    def _known(self) -> str:
        """Name what contradicts: the entry of the user's, and whose key it is as far as pi knows."""
        keys = sorted(self.users.exact, key=lambda key: key.get_fingerprint())
        lines = [" ".join(key.export_public_key("openssh").decode().split()[:2]) for key in keys]
        owners = [owner for line in lines if (owner := host_keys.owner(line, but=self.name))]
        was = f", the key of pod `{owners[0]}`" if owners else ""
        return f"`{self.destination.known_name}` ({', '.join(key.get_fingerprint() for key in keys)}{was})"

    def _algorithms(self) -> list[str]:
        """Ask for the types of key that we know first: a machine mostly has several keys, and one is known."""
        known = [algorithm.decode() for key in self.trusted for algorithm in key.sig_algorithms]
        configured = self.destination.algorithms("hostkeyalgorithms")
        possible = [algorithm.decode() for algorithm in asyncssh.public_key.get_public_key_algs()]
        plain = [each for each in configured if each in possible] or _names(
            asyncssh.public_key.get_default_public_key_algs()
        )
        first = [each for each in plain if each in known] or [each for each in known if each != "ssh-rsa"]
        certified = _names(asyncssh.public_key.get_certificate_algs()) if self.users.authorities else []
        return list(dict.fromkeys([*certified, *first, *plain]))


def _names(algorithms: list[bytes]) -> list[str]:
    return [algorithm.decode() for algorithm in algorithms]


def _look_up(destination: Destination, *, only_revoked: bool) -> KnownHosts:
    """Read what the user's files say. Once pi knows a machine by name, they can only say that its key is revoked."""
    found = KnownHosts()
    without_port = destination.one("hostkeyalias") or destination.host
    for file in destination.known_hosts_files:
        entries = _read(file, _changed_at(file), only_revoked)
        if entries is None:
            continue
        exact, authorities, revoked, *_ = entries.match(destination.known_name, "", None)
        trusted, more_authorities, more_revoked, *_ = entries.match(without_port, "", None)
        found.exact.update(exact)
        found.trusted.update(exact, trusted)
        found.authorities.update(authorities, more_authorities)
        found.revoked.update(revoked, more_revoked)
    return found


def _changed_at(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return 0


@functools.lru_cache(maxsize=16)
def _read(file: Path, changed_at: int, only_revoked: bool) -> asyncssh.SSHKnownHosts | None:
    """Read a `known_hosts` file, once for all pods; None if nothing in it counts.

    Lines that make no sense are passed over, as ssh does.
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
