"""Parse the ssh command that a provider's dashboard shows: user, host, port, keys and proxies."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import unquote

from pi_cli.errors import BadUsage
from pi_cli.ssh import command_words, ssh_options
from pi_cli.ssh.command_words import Word

_T = TypeVar("_T")
PASTE_ALONE = "paste the ssh command alone"
LEAVE_OUT = "leave it out"
FIRST_COUNTS = "the first one counts, as with ssh"
REPEATABLE = ("CertificateFile", "IdentityFile")
PROXY_OPTIONS = ("ProxyCommand", "ProxyJump")
USER = re.compile(r"(?!-)[^\s'\"`$\\;&<>|(){}]+")  # what ssh itself accepts
HOST = re.compile(r"(?![-.])[A-Za-z0-9_.%-]+")
URI = re.compile(r"ssh://(?:([^@/]*)@)?(\[[^\]/]+\]|[^:/@\[\]]+)(?::([0-9]+))?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SshCommand:
    """A parsed ssh command.

    `options` are lines for an ssh configuration, in the order of precedence. `optional` are those of `-i FILE`: unlike
    with `-o IdentityFile`, ssh leaves them out if there is no such file. `ignored` maps every option that was left out
    to the reason.
    """

    host: str
    user: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()
    config_file: str | None = None
    connect_timeout: float | None = None  # seconds
    ignored: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    @property
    def missing_keys(self) -> list[str]:
        """Return the files of `-i` that are not there: like ssh, pi does without."""
        return [ssh_options.unquoted(line.partition(" ")[2]) for line in self.options if self._is_missing(line)]

    @property
    def effective_options(self) -> tuple[str, ...]:
        """Return the options without the files of `-i` that are not there."""
        return tuple(line for line in self.options if not self._is_missing(line))

    def _is_missing(self, line: str) -> bool:
        return line in self.optional and ssh_options.is_missing(line.partition(" ")[2])

    def lasting_arguments(self) -> list[str]:
        """Return the arguments of an ssh command that means the same later, when another key may be there."""
        return self._arguments(lambda line: line in self.optional)

    def arguments(self) -> list[str]:
        """Return the arguments for the user's own ssh, which warns of the files of `-i` that are not there."""
        return self._arguments(self._is_missing)

    def _arguments(self, as_flag: Callable[[str], bool]) -> list[str]:
        flags = {"-F": self.config_file, "-p": self.port, "-l": self.user}
        lines = [*self.options, *([f"ConnectTimeout {self.connect_timeout:.0f}"] if self.connect_timeout else [])]
        named = [word for flag, value in flags.items() if value for word in (flag, str(value))]
        words = [
            ("-i", ssh_options.unquoted(line.partition(" ")[2])) if as_flag(line) else ("-o", line) for line in lines
        ]
        return [*named, *(word for pair in words for word in pair), self.host]


@dataclass(slots=True)
class _PartialCommand:
    """The command as parsed so far; as with ssh, the first value of most options counts."""

    text: str
    is_lasting: bool = True
    host: str = ""
    host_word: Word | None = None
    user: str | None = None
    port: int | None = None
    family: str | None = None
    connect_timeout: float | None = None
    options: list[str] = field(default_factory=list)
    config_file: str | None = None
    ignored: dict[str, str] = field(default_factory=dict)
    strict: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)

    def command(self) -> SshCommand:
        family = [f"AddressFamily {self.family}"] if self.family else []
        options = (*self.options, *family)
        return SshCommand(
            self.host,
            self.user,
            self.port,
            options,
            self.config_file,
            self.connect_timeout,
            self.ignored,
            frozenset(self.optional - self.strict),
        )

    def refused(self, first: Word, last: Word, why: str, hint: str) -> BadUsage:
        return command_words.refused(self.text, first.start, last.end, why, hint)


def parse(text: str) -> SshCommand:
    """Parse an ssh command as it was copied, e.g. `ssh -p 40022 -i ~/.ssh/key root@1.2.3.4`, or without `ssh`.

    Raises `BadUsage` that marks the part that cannot be honoured.

    >>> parse("ssh root@1.2.3.4 -p 40022").port
    40022
    """
    return _read(text).command()


def lasting(text: str) -> str:
    """Return a command for `pods.json`: it means the same in any folder and in any shell.

    A key given as `key.pem` or `$KEYS/a` becomes an absolute path; other commands are kept as typed.
    """
    partial = _read(text)
    return partial.text if partial.is_lasting else shlex.join(["ssh", *partial.command().lasting_arguments()])


def _read(text: str) -> _PartialCommand:
    plain = command_words.unwrap(text)
    partial = _PartialCommand(plain, is_lasting=plain == text.strip() and "$" not in plain)
    words = _without_ssh(command_words.split(plain), partial)
    while words:
        word = words.pop(0)
        if word.text == "--":
            if not words:
                break
            word = words.pop(0)  # not an option, even if it begins with `-`
        elif word.text.startswith("-") and len(word.text) > 1:
            _read_flags(word, words, partial)
            continue
        if partial.host_word:
            raise _unexpected_word(word, partial.host_word, partial)
        _read_host(word, partial)
    if not partial.host:
        end, hint = len(plain), "paste the whole line: `ssh root@1.2.3.4 -p 22`"
        raise command_words.refused(plain, end, end, "it names no host", hint)
    return partial


def _is_ssh(word: Word) -> bool:
    return re.split(r"[/\\]", word.text)[-1].lower() in ("ssh", "ssh.exe")


def _without_ssh(words: list[Word], partial: _PartialCommand) -> list[Word]:
    """Drop the word `ssh`. Words before it would change how it runs, and are refused."""
    if not words or words[0].text.startswith("-") or "@" in words[0].text:
        return words
    before = [Word("", 0, 0), *words]
    at = next((n for n, word in enumerate(words) if _is_ssh(word) and not before[n].text.startswith("-")), None)
    if at is None:
        return words
    if at == 1 and words[0].text == "sudo":
        partial.ignored["sudo"] = "pi logs in as you, with your keys"
    elif at:
        others = " ".join(word.text for word in words[:at])
        raise partial.refused(words[0], words[at - 1], f"`{others}` comes before `ssh`", PASTE_ALONE)
    return words[at + 1 :]


def _unexpected_word(word: Word, host: Word, partial: _PartialCommand) -> BadUsage:
    if "@" in word.text and partial.user is None:
        return partial.refused(host, host, f"`{host.text}` comes before `{word.text}`, and is not ssh", PASTE_ALONE)
    why, hint = f"`{word.text}` would run a command on the pod", "leave the command out; to run commands use `pi ssh`"
    return command_words.refused(partial.text, word.start, len(partial.text), why, hint)


def _read_flags(word: Word, words: list[Word], partial: _PartialCommand) -> None:
    """Parse one `-x…` word as getopt does: `-vvp22` is `-v -v -p 22`."""
    if word.text.startswith("--"):
        raise partial.refused(word, word, f"ssh has no option `{word.text}`", LEAVE_OUT)
    letters = word.text[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        value, last = "", word
        if letter in ssh_options.WITH_ARGUMENT:
            if not letters and words:
                last = words.pop(0)
            value, letters = letters or ("" if last is word else last.text), ""
            if not value:
                raise partial.refused(word, last, f"`-{letter}` needs a value", "paste the whole line")
        _read_flag(letter, value, partial, word, last)


def _read_flag(letter: str, value: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    shown = f"-{letter} {value}".strip()
    if letter in "46":
        partial.family = "inet" if letter == "4" else "inet6"
    elif letter == "o":
        _read_line(value, partial, first, last)
    elif letter == "F":
        partial.config_file = _read_file(value, partial, first, last)
    elif letter in ssh_options.IGNORED_FLAGS:
        partial.ignored[shown] = ssh_options.IGNORED_FLAGS[letter]
    elif keyword := ssh_options.FLAGS_FOR_KEYWORDS.get(letter):
        _read_keyword(keyword, value, shown, partial, first, last)
    else:
        why, hint = ssh_options.REFUSED_FLAGS.get(letter, ("ssh has no such option", LEAVE_OUT))
        raise partial.refused(first, last, f"pi cannot honour `-{letter}`: {why}", hint)


def _read_line(text: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    """Parse the argument of `-o`: `Key=value` or `Key value`."""
    key, _, value = re.sub(r"\s*=\s*|\s+", "\0", text.strip(), count=1).partition("\0")
    if quoted := re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value):
        value = re.sub(r'\\(["\\])', r"\1", quoted[1])  # as ssh does
    if not value:
        raise partial.refused(first, last, f"`-o {text}` is not of the form `Key=value`", "paste the whole line")
    _read_keyword(key, value, f"-o {text}", partial, first, last)


def _read_file(value: str, partial: _PartialCommand, first: Word, last: Word) -> str:
    partial.is_lasting &= value == "none" or value.startswith(("/", "~"))
    with _refusing(f"-F {value}", partial, first, last):
        return value if value == "none" else ssh_options.path(value)


@contextmanager
def _refusing(shown: str, partial: _PartialCommand, first: Word, last: Word) -> Iterator[None]:
    """Turn a `ValueError` into `BadUsage` that marks the option."""
    try:
        yield
    except ValueError as error:
        why = f"pi cannot honour `{shown}`: {error}"
        raise partial.refused(first, last, why, "correct it, or leave it out") from error


def _read_keyword(key: str, value: str, shown: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    name = ssh_options.CANONICAL_NAMES.get(key.lower())
    if ssh_options.is_default(key, value):
        return
    if why := ssh_options.ignored(key, value):
        partial.ignored[shown] = why
        return
    with _refusing(shown, partial, first, last):
        if _set_field(key.lower(), value, shown, partial):
            return
        if name is None:
            why, hint = ssh_options.REFUSED_KEYWORDS.get(key.lower(), ("pi has no equivalent", LEAVE_OUT))
            raise partial.refused(first, last, f"pi cannot honour `{shown}`: {why}", hint)
        if name in ssh_options.FILE_OPTIONS:
            partial.is_lasting &= value in ("none", "SSH_AUTH_SOCK") or value.startswith(("/", "~", "%"))
        _add_option(name, ssh_options.HONOURED[name](value), shown, partial)


def _set_field(key: str, value: str, shown: str, partial: _PartialCommand) -> bool:
    """Set an option that has a field of its own. Return whether it has one."""
    match key:
        case "port":
            partial.port = _keep_first(partial.port, ssh_options.port(value), shown, partial)
        case "user":
            if not USER.fullmatch(value):
                raise ValueError(f"`{value}` is not a user name")
            partial.user = _keep_first(partial.user, value, shown, partial)
        case "connecttimeout":
            partial.connect_timeout = _keep_first(partial.connect_timeout, ssh_options.seconds(value), shown, partial)
        case "addressfamily":
            partial.family = _keep_first(partial.family, ssh_options.HONOURED["AddressFamily"](value), shown, partial)
        case _:
            return False
    return True


def _keep_first(before: _T | None, value: _T, shown: str, partial: _PartialCommand) -> _T:
    if before is not None and before != value:
        partial.ignored[shown] = FIRST_COUNTS
    return value if before is None else before


def _add_option(name: str, value: str, shown: str, partial: _PartialCommand) -> None:
    """Add a line of configuration; as with ssh, `ProxyJump` and `ProxyCommand` exclude each other."""
    exclusive = PROXY_OPTIONS if name in PROXY_OPTIONS else (name,)
    before = [line for line in partial.options if line.split()[0] in exclusive]
    if not before or name in REPEATABLE:
        partial.options.append(f"{name} {value}")
        (partial.optional if shown.startswith("-i") else partial.strict).add(f"{name} {value}")
    elif f"{name} {value}" not in before:
        partial.ignored[shown] = FIRST_COUNTS


def _read_host(word: Word, partial: _PartialCommand) -> None:
    """Parse `[USER@]HOST`, with `:PORT` where that is unambiguous, or `ssh://USER@HOST:PORT`."""
    user, _, host = word.text.rpartition("@")
    port = ""
    if word.text.lower().startswith("ssh://"):
        uri = URI.fullmatch(word.text)
        if uri is None:
            why = f"`{word.text}` is not of the form ssh://USER@HOST:PORT"
            raise partial.refused(word, word, why, "paste the line from the provider")
        user, host, port = unquote((uri[1] or "").partition(";")[0]), uri[2].replace("%25", "%"), uri[3] or ""
    elif with_port := re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]+)", host):
        host, port = with_port[1], with_port[2]
    partial.host, partial.host_word = _host(word, host, partial), word
    if "@" in word.text:
        if not USER.fullmatch(user):
            raise partial.refused(word, word, f"`{user}` is not a user name", "paste the line from the provider")
        partial.user = _keep_first(partial.user, user, word.text, partial)
    if port:
        with _refusing(word.text, partial, word, word):
            partial.port = _keep_first(partial.port, ssh_options.port(port), word.text, partial)


def _host(word: Word, host: str, partial: _PartialCommand) -> str:
    if bracketed := re.fullmatch(r"\[(.*)\]", host):
        host = bracketed[1]
    with suppress(ValueError):
        if ":" in host:
            return str(ip_address(host))
    if not HOST.fullmatch(host):
        why = f"`{host}` is not a host name or an address"
        raise partial.refused(word, word, why, "paste the line from the provider")
    return host
