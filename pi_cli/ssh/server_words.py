"""What a server says before a login is complete: shown if the login takes long or fails, once for each pod."""

import asyncio
import re
from dataclasses import dataclass, field

from pi_cli.safe import safe, safe_line
from pi_cli.ssh.speaker import speaker

SHOWN_AFTER = 2.0  # seconds; many servers greet everybody with a legal notice, which nobody needs to see
MAX_LINES = 20
MAX_LINE = 500  # characters: addresses to log in at are long
MAX_TEXT = 1 << 14  # characters
URL = re.compile(r"https?://[^\s\"'<>`]+")
# Of pam_nologin(8) with systemd's texts, with which nobody but root can log in until the machine has booted.
NOT_YET = re.compile(
    r"system is (booting|starting) up|system is going down|not permitted to log in (yet|any ?more)|nologin",
    re.IGNORECASE,
)
# An account that stays refused; any other text may be an administrator's own in /etc/nologin.
FOREVER = re.compile(
    r"expired|locked|disabled|denied|password|not allowed|not permit|not authori[sz]ed|no active job|banned|blocked"
    r"|revoked|failed|refused",
    re.IGNORECASE,
)


@dataclass(slots=True)
class ServerWords:
    """The words of one server; `who` names it in what is shown."""

    who: str
    text: str = ""
    last_word: str = ""  # what it said after it had accepted a key
    is_waiting_for: str = ""  # what pi waits for, once it waits for the user
    _shown: int = 0
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def hear(self, text: str, *, is_last: bool = False) -> None:
        """Take words; they are shown in two seconds, unless `silence` is called before."""
        is_new = text.strip() not in self.text
        self.text = f"{self.text}{text.rstrip()}\n"[:MAX_TEXT]
        if is_last and is_new:
            self.last_word = f"{self.last_word}\n{text}".strip()[:MAX_TEXT]
        self.silence()
        self._timer = asyncio.get_running_loop().call_later(SHOWN_AFTER, self.show)

    def precede(self, text: str) -> None:
        """Take words that came before the SSH banner."""
        if not self._shown:
            self.text = f"{text}{self.text}"

    def silence(self) -> None:
        """Show nothing any more of its own accord: the login is complete."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    @property
    def url(self) -> str | None:
        match = URL.search(self.text)
        return safe_line(match[0]) if match else None

    @property
    def says_not_yet(self) -> bool:
        return bool(NOT_YET.search(self.text))

    @property
    def is_not_yet(self) -> bool:
        """Whether a server that has closed the connection will let users in later, to judge by what it said."""
        if self.says_not_yet:
            return True
        return bool(self.last_word) and not self.url and not FOREVER.search(self.last_word)

    @property
    def reason(self) -> str:
        """The first line that was said after a key was accepted, or that says that it is too early."""
        lines = _lines(self.last_word or self.text)
        return next((line for line in lines if NOT_YET.search(line)), lines[0] if lines else "")

    def show(self, *, has_failed: bool = False) -> None:
        """Show what was said and not shown yet, and what pi waits for."""
        self.silence()
        new, self._shown = self.text[self._shown :], len(self.text)
        if lines := _lines(new):
            speaker.get().block(f"{self.who}\0{new}", [f"{self.who} says: {line}" for line in lines])
        if self.is_waiting_for and not has_failed:
            speaker.get().note(f"{self.who}: {self.is_waiting_for}")


def _lines(text: str) -> list[str]:
    """Return the lines of a text, made safe, without empty ones; of a long text the first, and those with a URL."""
    lines = [line.rstrip().expandtabs(4)[:MAX_LINE] for line in safe(text).splitlines() if line.strip()]
    if len(lines) <= MAX_LINES:
        return lines
    addresses = [line for line in lines[MAX_LINES:] if URL.search(line)][:3]
    return [*lines[:MAX_LINES], *addresses, f"… ({len(lines) - MAX_LINES - len(addresses)} more lines)"]
