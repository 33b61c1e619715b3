"""Split a pasted command like a shell, expanding variables and running nothing; errors mark the part at fault."""

import os
import re
from contextlib import suppress
from dataclasses import replace

from pi_cli.errors import BadUsage
from pi_cli.hints import excerpt, fill
from pi_cli.lazy_dataclasses import dataclass

VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
SUBSTITUTION = re.compile(r"\$\([^)]*\)?|`[^`]*`?|\$[{'\"\[0-9@*#?$!-][^\s]*")
PLACEHOLDER = re.compile(r"<[A-Za-z][^<>\n]*>|<[^<>\s]+>")
STANDS_FOR_A_VALUE = re.compile(
    r"(?:[\w.~/-]*[/@:])?(?:<[^<>]+>|\{\{?[\w .-]+\}?\}|\[[A-Za-z][\w .-]*\])[\w.-]*(?:@\S*)?"
    r"|(?:[A-Z]+[_-])*(?:IP|HOST|HOSTNAME|ADDRESS|YOUR)(?:[_-][A-Z]+)*|[Yy]our[-_][\w.-]+|[xX]{1,3}(?:\.[xX]{1,3}){3}"
)
WINDOWS_VARIABLE = r"%[A-Za-z_]{3,}%|\$env:\w+|\$\{env:\w+\}"
WINDOWS_PATH = re.compile(
    rf"(?:[A-Za-z]:|{WINDOWS_VARIABLE}|~|\.{{1,2}}|\\)\\[^\s'\"]*|(?:{WINDOWS_VARIABLE})[^\s'\"]*"
)
SSH = r"(?:sudo\s+)?(?:[^\s'\"`|;&=]*[/\\])?ssh(?:\.exe)?(?=\s)|ssh://"
IS_SSH = re.compile(SSH, re.IGNORECASE)
SHELL_SIGNS = "<>()*?"
SEPARATORS = ";|&"
MASK = "***"  # in place of a password
NO_COMMAND_YET = "the machine has no ssh command yet"


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes, and its position in the text; `value` is the word with its passwords."""

    text: str
    start: int
    end: int
    value: str = ""


def refused(text: str, start: int, end: int, why: str, hint: str) -> BadUsage:
    """Return an error that shows the text with the part at fault underlined."""
    return BadUsage(f"cannot use this ssh command: {why}", hint=hint, excerpt=excerpt(text, start, end))


def a_placeholder(text: str) -> tuple[str, str]:
    """Return why a placeholder is refused, and what to do."""
    return f"`{text}` is a placeholder", "paste the line with the machine's own values"


def a_windows_path(text: str) -> tuple[str, str]:
    """Return why a path of Windows is refused, and what to do."""
    in_ssh = re.search(r"\.ssh[\\/]([\w.-]+)$", text)
    hint = "give the file's path on this machine"
    return f"`{text}` is a Windows path", fill(f"{hint}: `{{path}}`", path=f"~/.ssh/{in_ssh[1]}") if in_ssh else hint


def no_value(text: str) -> tuple[str, str] | None:
    """Return why a word is not a value of this machine, and what to do; None if it may be one."""
    if STANDS_FOR_A_VALUE.fullmatch(text):
        return a_placeholder(text)
    return a_windows_path(text) if re.match(rf"{WINDOWS_VARIABLE}|[A-Za-z]:\\", text) else None


def split(text: str) -> list[Word]:
    """Split a command into words as a shell does: quotes, backslashes, variables, a comment.

    Raises `BadUsage` for syntax that only a shell can evaluate, and for text that is cut off.
    """
    return _Splitter(text).words()


def split_with_values(plain: str, command: str) -> list[Word]:
    """Split a command without its passwords; add the words with them: the proxy of a ProxyCommand needs them."""
    words = split(plain)
    with suppress(BadUsage):
        originals = split(command) if command != plain else words
        if len(originals) == len(words):
            return [replace(word, value=original.text) for word, original in zip(words, originals, strict=True)]
    return words


class _Splitter:
    """Goes through a text from left to right; `at` is the position, `word` holds the pieces of the current word."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.start = 0
        self.word: list[str] | None = None
        self.complete: list[Word] = []

    def words(self) -> list[Word]:
        while self.at < len(self.text):
            if self.word is None:
                self.start = self.at
            self._step(self.text[self.at])
        self._end_word()
        return self.complete

    def _step(self, sign: str) -> None:
        if sign in " \t\n":
            self._space(sign)
        elif self.word is None and sign == "#":
            self.at = (self.text + "\n").index("\n", self.at)
        elif sign == "\\":
            self._backslash()
        elif sign in "'\"":
            self._quoted(sign)
        elif sign in "$`":
            self._dollar()
        elif self.text.startswith(MASK, self.at):
            self._take(MASK, len(MASK))
        else:
            self._refuse_shell(sign)
            if not self._took_windows_path():
                self._take(sign)

    def _space(self, sign: str) -> None:
        self._end_word()
        rest = self.text[self.at :].strip()
        if sign == "\n" and rest and not rest.startswith("#"):
            raise self._refused(
                len(self.text), "a second line would be a second command", "paste the ssh command alone"
            )
        self.at += 1

    def _backslash(self) -> None:
        if (share := WINDOWS_PATH.match(self.text, self.at)) and self.word is None:
            raise self._windows_path(share)
        following = self.text[self.at + 1 : self.at + 2]
        if not following:
            raise self._refused(self.at + 1, "nothing follows the backslash", "paste the whole command")
        if following == "\n":
            self.at += 2  # the command continues on the next line
        else:
            self._take(following, 2)

    def _quoted(self, quote: str) -> None:
        opened, self.word = self.at, self.word or []
        self.at += 1
        while (sign := self.text[self.at : self.at + 1]) != quote:
            if not sign:
                self.at = opened
                raise self._refused(len(self.text), "the quote is not closed: no closing quotation", "check the quotes")
            if quote == '"' and sign == "\\" and self.text[self.at + 1 : self.at + 2] in tuple('"\\$`'):
                self._take(self.text[self.at + 1], 2)
            elif quote == '"' and sign in "$`":
                self._dollar()
            else:
                self._take(sign)
        self.at += 1

    def _dollar(self) -> None:
        if windows := WINDOWS_PATH.match(self.text, self.at):
            raise self._windows_path(windows)
        if variable := VARIABLE.match(self.text, self.at):
            name = variable[1] or variable[2]
            if name not in os.environ:
                raise self._refused(variable.end(), f"`${name}` is not set", "export it, or write its value")
            self._take(os.environ[name], len(variable[0]))
        elif substitution := SUBSTITUTION.match(self.text, self.at):
            why = f"`{substitution[0]}` is shell syntax, and pi runs no shell"
            raise self._refused(substitution.end(), why, "write its value")
        else:
            self._take("$")

    def _refuse_shell(self, sign: str) -> None:
        if sign in SEPARATORS:
            raise self._refused(len(self.text), f"`{sign}` begins a second command", "paste the ssh command alone")
        if placeholder := PLACEHOLDER.match(self.text, self.at):
            raise self._refused(placeholder.end(), *a_placeholder(placeholder[0]))
        if sign in SHELL_SIGNS:
            why = f"`{sign}` is shell syntax, and pi runs no shell"
            raise self._refused(self.at + 1, why, "paste the ssh command alone")

    def _took_windows_path(self) -> bool:
        """Take `C:\\…\\ssh.exe` as a word: its backslashes are not escapes. Other Windows paths are refused."""
        path = WINDOWS_PATH.match(self.text, self.at)
        if path is None or (self.word and not "".join(self.word).startswith("-")):
            return False
        if not path[0].lower().endswith(("\\ssh", "\\ssh.exe")):
            raise self._windows_path(path)
        self._take("ssh", len(path[0]))
        return True

    def _windows_path(self, path: re.Match[str]) -> BadUsage:
        return self._refused(path.end(), *a_windows_path(path[0]))

    def _take(self, text: str, width: int = 1) -> None:
        if not text.isprintable():
            why = f"it contains a control character, {text!a}"
            raise self._refused(self.at + width, why, "type it instead of pasting")
        self.word = [*(self.word or []), text]
        self.at += width

    def _end_word(self) -> None:
        if self.word is not None:
            text = "".join(self.word)
            self.complete.append(Word(text, self.start, self.at, text))
        self.word = None

    def _refused(self, end: int, why: str, hint: str) -> BadUsage:
        return refused(self.text, self.at, end, why, hint)
