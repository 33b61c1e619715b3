"""The commands in a text for a shell, as words: enough of the shell's grammar to see what a pasted recipe runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

HOME = "\0"  # in a word: the home folder of the machine that runs the command
UNKNOWN = "\1"  # in a word: a variable or an output that only that machine knows

_OPERATORS = ("&&", "||", "|&", ";;", ";", "|", "&", "(", ")")
_REDIRECTION = re.compile(r"(?:\d+|&)?(?:<<<|<<-?|>>|>\||<>|[<>]&?)(?:-(?=\s|$)|\d+(?=[\s;&|)]|$))?")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(slots=True)
class Command:
    """A simple command: its words, what a here-document feeds it, and the files that it writes to."""

    words: list[str] = field(default_factory=list)
    text: str = ""
    files: list[str] = field(default_factory=list)
    is_piped: bool = False  # its output is the input of the next command


def read(text: str) -> list[Command]:
    """Return the simple commands of a text; raise `ValueError` for an open quote.

    >>> [command.words for command in read("a 'b c' > /f 2>&1; # d\\n\\\\\\ne && x=/m; y $x/z | tee ~/f &")]
    [['a', 'b c'], ['e'], ['y', '/m/z'], ['tee', '\\x00/f']]
    """
    return list(_Reader(text.replace("\r\n", "\n")).commands())


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._variables: dict[str, str] = {}
        self._documents: list[tuple[Command, str]] = []  # whose text begins at the next line

    def commands(self) -> Iterator[Command]:
        command = Command()
        while self._at < len(self._text):
            rest = self._text[self._at :]
            if rest[0] == "\n" or (operator := next((each for each in _OPERATORS if rest.startswith(each)), "")):
                if rest[0] != "\n" and (found := _REDIRECTION.match(rest)) and found[0].startswith("&"):
                    self._redirect(command, found[0])
                    continue
                command.is_piped = rest[0] == "|" and not rest.startswith("||")
                if self._assign(command):
                    yield command
                command = Command()
                self._at += 1 if rest[0] == "\n" else len(operator)
                if rest[0] == "\n":
                    self._read_documents()
            elif rest.startswith("\\\n"):
                self._at += 2
            elif rest[0].isspace():
                self._at += 1
            elif rest[0] == "#":
                self._at = self._end_of_line()
            elif found := _REDIRECTION.match(rest):
                self._redirect(command, found[0])
            else:
                command.words.append(self._word())
        if self._assign(command):
            yield command

    def _assign(self, command: Command) -> bool:
        """Note what a command assigns; return whether it runs something."""
        words = command.words[1:] if command.words[:1] in (["export"], ["local"]) else command.words
        found = [_ASSIGNMENT.fullmatch(word) for word in words]
        if all(found):
            self._variables.update((each[1], each[2]) for each in found if each)
            return bool(command.text or command.files)
        while command.words and _ASSIGNMENT.fullmatch(command.words[0]):
            del command.words[0]
        return True

    def _redirect(self, command: Command, operator: str) -> None:
        self._at += len(operator)
        if operator[-1] in "-0123456789" and not operator.endswith("<<-"):
            return  # a copy of a descriptor: 2>&1
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        word = self._word()
        if operator.endswith(("<<", "<<-")):
            self._documents.append((command, word))
        elif operator.endswith("<<<"):
            command.text += word
        elif ">" in operator:
            command.files.append(word)

    def _read_documents(self) -> None:
        for command, end in self._documents:
            while self._at < len(self._text):
                line, self._at = self._text[self._at : self._end_of_line()], self._end_of_line() + 1
                if line.lstrip("\t") == end:
                    break
                command.text += f"{line}\n"
        self._documents.clear()

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _word(self) -> str:
        word, quote = "", ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if quote != "'" and char == "\\":
                word += self._escaped(in_quotes=bool(quote))
            elif quote != "'" and char in "$`":
                word += self._expansion()
            elif char == quote:
                quote = ""
                self._at += 1
            elif not quote and char in "'\"":
                quote = char
                self._at += 1
            elif not quote and (char.isspace() or char in ";|&()<>"):
                break
            else:
                word += self._tilde(word) if char == "~" and not quote else char
                self._at += 1
        if quote:
            raise ValueError("no closing quotation")
        return word

    def _tilde(self, word: str) -> str:
        """Return what a `~` outside of quotes stands for: the home of the user, or of another one."""
        if word and not word.endswith("="):
            return "~"
        following = self._text[self._at + 1 : self._at + 2]
        return HOME if not following or following in "/;|&()<>" or following.isspace() else UNKNOWN

    def _escaped(self, *, in_quotes: bool) -> str:
        char = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if char == "\n":
            return ""
        return char if not in_quotes or char in '$`"\\' else f"\\{char}"

    def _expansion(self) -> str:
        rest = self._text[self._at :]
        if found := _VARIABLE.match(rest):
            self._at += found.end()
            name = found[1] or found[2]
            return self._variables.get(name, HOME if name == "HOME" else UNKNOWN)
        self._at += max(1, _end_of_expansion(rest))
        return UNKNOWN if rest[0] == "`" or rest[1:2] in ("(", "{", "@", "*", "?", "!", "#", "$") else "$"


def _end_of_expansion(text: str) -> int:
    """Return where a `$(…)`, a `${…}` or a pair of backticks ends; its own quotes are not read."""
    if text[0] == "`":
        return text.find("`", 1) + 1 or len(text)
    if text[1:2] not in ("(", "{"):
        return 2 if text[1:2] in ("@", "*", "?", "!", "#", "$") else 1
    depth = 0
    for index, char in enumerate(text):
        depth += (char in "({") - (char in ")}")
        if index and not depth:
            return index + 1
    return len(text)
