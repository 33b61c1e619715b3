"""How the agent is sent: its program before the request, or only the name under which the pod has kept the program."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.pods import shell
from pi_cli.store import kept_programs

if TYPE_CHECKING:
    from pi_cli.ssh.completed import Completed


def with_size(program: bytes) -> bytes:
    """Return a program as `shell.AGENT` reads it; the request follows."""
    return b"%d\n%s" % (len(program), program)


@dataclass(slots=True)
class Sending:
    """One request to a pod, a line, and the program that it is for. The pod may keep programs that it `may_be_kept`."""

    pod: str
    program: bytes
    line: bytes
    may_be_kept: bool = False
    digest: str = field(init=False, default="")
    kept: str | None = field(init=False, default=None)
    """The hash of the program on the pod, if that is what is sent."""

    def __post_init__(self) -> None:
        if self.may_be_kept:
            self.digest = hashlib.sha256(self.program).hexdigest()[:16]
            self.kept = kept_programs.read(self.pod, self.digest)

    @property
    def command(self) -> str:
        return shell.KEPT_AGENT if self.kept else shell.AGENT

    @property
    def input(self) -> bytes:
        return f"{self.kept}\n".encode() + self.line if self.kept else with_size(self.program) + self.line

    def has_missed(self, done: Completed) -> bool:
        """Return whether the pod has run nothing, since it has not kept the program: it is sent the next time."""
        if self.kept is None or done.status != shell.NOT_KEPT:
            return False
        self.kept = None
        kept_programs.remember(self.pod, self.digest, None)
        return True

    def was_kept(self, name: object) -> bool:
        """Remember that the pod has kept the program that was sent, under this name; return whether it can be one."""
        if not isinstance(name, str) or not kept_programs.HASH.fullmatch(name):
            return False
        if self.may_be_kept and self.kept is None:
            kept_programs.remember(self.pod, self.digest, name)
        return True
