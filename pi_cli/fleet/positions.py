"""Where the keys and values of a TOML text stand: `tomllib` says so only for what it cannot read. Pure."""

import re
import tomllib
from collections.abc import Callable, Mapping

Path = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, from 1

BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
SPACE = re.compile(r"[ \t]*")
PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
OTHER = re.compile(r"[^,\]}#\n]*")  # a number, a boolean, a time


def find(text: str) -> Mapping[Path, Position]:
    r"""Return the positions of the keys and of the elements of arrays in a text that `tomllib` has read.

    A key that is written several times, as in `[a.b]` and `[a.c]`, is where it is first.

    >>> find('[pods.dc1]\nssh = "ssh root@h"\n')[("pods", "dc1", "ssh")]
    (2, 1)
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    """Walks over a TOML text that is known to be valid."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts: dict[Path, int] = {}

    def scan(self) -> dict[Path, Position]:
        table: Path = ()
        self._skip(BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                self._at += 2 if self._text.startswith("[[", self._at) else 1
                table = self._key(())
                self._at = (self._text + "\n").index("\n", self._at)  # brackets and a comment, which are of no interest
            else:
                self._pair(table)
            self._skip(BLANK)
        return {path: self._position(at) for path, at in self._starts.items()}

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._skip(SPACE)
        self._at += len("=")
        self._skip(SPACE)
        self._value(path)

    def _key(self, table: Path) -> Path:
        """Read a dotted key; note where each of its parts is."""
        path = table
        while True:
            self._skip(SPACE)
            start, part = self._at, self._take(PART)
            path = (*path, next(iter(tomllib.loads(f"{part} = 0"))))
            self._starts.setdefault(path, start)
            self._skip(SPACE)
            if not self._text.startswith(".", self._at):
                return path
            self._at += 1

    def _value(self, path: Path) -> None:
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._sequence("]", lambda index: self._element((*path, index)))
        elif opening == "{":
            self._sequence("}", lambda _: self._pair(path))
        elif not self._take(TEXT):
            self._take(OTHER)

    def _element(self, path: Path) -> None:
        self._starts.setdefault(path, self._at)
        self._value(path)

    def _sequence(self, closing: str, read: Callable[[int], None]) -> None:
        """Walk over an array or an inline table."""
        self._at += 1
        index = 0
        while True:
            self._skip(BLANK)
            if self._text.startswith(closing, self._at):
                self._at += 1
                return
            read(index)
            index += 1
            self._skip(BLANK)
            self._at += self._text.startswith(",", self._at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _position(self, at: int) -> Position:
        return self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at)
