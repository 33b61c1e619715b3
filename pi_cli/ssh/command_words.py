"""Split a pasted command like a shell, expanding variables and running nothing; errors mark the part at fault."""

import json
import os
import re
from dataclasses import dataclass

from pi_cli.errors import BadUsage
from pi_cli.hints import excerpt, fill

SPACES = dict.fromkeys(map(ord, "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"), " ")  # fmt: skip # noqa: E501
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
QUOTES = {ord(sign): '"' for sign in "“”„‟«»"} | {ord(sign): "'" for sign in "‘’‚‛"}
DASHES = re.compile(r"(?<![^\s'\"])[‐‑‒–—−](?=[A-Za-z0-9])")  # at the start of an option
FENCE = re.compile(r"(`{3,}|~{3,})(?:[^\S\n]*[\w-]*[^\S\n]*\n)?(.*?)\s*\1", re.DOTALL)
PROMPT = re.compile(r"(?:PS [A-Za-z]:[^>\n]*>|[$#%>❯➜])\s+")
LIST = re.compile(r"\[\s*(?:[\"']|null\b|None\b|\])")
VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
SUBSTITUTION = re.compile(r"\$\([^)]*\)?|`[^`]*`?|\$[{'\"\[0-9@*#?$!-][^\s]*")
PLACEHOLDER = re.compile(r"<[^<>\s]+>")
WINDOWS_PATH = re.compile(r"[A-Za-z]:\\\S*")
SHELL_SIGNS = "<>()*?"
SEPARATORS = ";|&"
NO_COMMAND_YET = "the machine has no ssh command yet"


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes, and its position in the text."""

    text: str
    start: int
    end: int


def refused(text: str, start: int, end: int, why: str, hint: str) -> BadUsage:
    """Return an error that shows the text with the part at fault underlined."""
    return BadUsage(f"cannot use this ssh command: {why}", hint=hint, excerpt=excerpt(text, start, end))


def unwrap(text: str) -> str:
    """Remove what is copied along with a command: code fences, prompts, and a word processor's quotes and dashes.

    >>> unwrap("```sh\\n$ ssh root@h\\n```")
    'ssh root@h'
    >>> unwrap("ssh –p 22 root@h")
    'ssh -p 22 root@h'
    """
    text = text.replace("\r\n", "\n").translate(SPACES | INVISIBLE | QUOTES).strip()
    if fenced := FENCE.fullmatch(text):
        text = fenced[2].strip()
    elif re.fullmatch(r"`[^`]+`", text):
        text = text[1:-1].strip()
    text = _single(PROMPT.sub("", text, count=1) if PROMPT.match(text) else text)
    if quoted := re.fullmatch(r"""(["'])((?:(?!\1).)*\s(?:(?!\1).)*)\1""", text):
        text = quoted[2].strip()
    return DASHES.sub("-", text)


def _single(text: str) -> str:
    """Return the only command of a list from an API; a text that is neither a list nor null is returned unchanged."""
    if text in ("null", "None"):
        raise refused(text, 0, len(text), NO_COMMAND_YET, "wait until your provider shows one")
    if not LIST.match(text):
        return text
    try:
        entries = json.loads(text.replace("'", '"').replace("None", "null"))
    except ValueError as error:
        raise refused(text, 0, len(text), "it is part of a list", "paste the command alone") from error
    machines = [entry for entry in entries if isinstance(entry, str)]
    if not machines:
        raise refused(text, 0, len(text), NO_COMMAND_YET, "wait until your provider shows one")
    if len(machines) > 1:
        hint = fill("set up each as its own pod, the first with `pi pods setup NAME {ssh}`", ssh=machines[0])
        raise refused(text, 0, len(text), f"it is a list of {len(machines)} machines", hint)
    return machines[0].strip()


def split(text: str) -> list[Word]:
    """Split a command into words as a shell does: quotes, backslashes, variables, a comment.

    Raises `BadUsage` for syntax that only a shell can evaluate, and for text that is cut off.
    """
    return _Splitter(text).words()


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
            why = f"`{placeholder[0]}` is a placeholder"
            raise self._refused(placeholder.end(), why, "paste the line with the machine's own values")
        if sign in SHELL_SIGNS:
            why = f"`{sign}` is shell syntax, and pi runs no shell"
            raise self._refused(self.at + 1, why, "paste the ssh command alone")

    def _took_windows_path(self) -> bool:
        """Take `C:\\…\\ssh.exe` as a word: its backslashes are not escapes. Other Windows paths are refused."""
        path = WINDOWS_PATH.match(self.text, self.at)
        if path is None or (self.word and not "".join(self.word).startswith("-")):
            return False
        if not path[0].lower().endswith(("\\ssh", "\\ssh.exe")):
            raise self._refused(path.end(), f"`{path[0]}` is a Windows path", "give the file's path on this machine")
        self._take("ssh", len(path[0]))
        return True

    def _take(self, text: str, width: int = 1) -> None:
        if not text.isprintable():
            why = f"it contains a control character, {text!a}"
            raise self._refused(self.at + width, why, "type it instead of pasting")
        self.word = [*(self.word or []), text]
        self.at += width

    def _end_word(self) -> None:
        if self.word is not None:
            self.complete.append(Word("".join(self.word), self.start, self.at))
        self.word = None

    def _refused(self, end: int, why: str, hint: str) -> BadUsage:
        return refused(self.text, self.at, end, why, hint)
