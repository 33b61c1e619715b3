"""Read the ssh command a provider's dashboard shows: who, where, with which key, by which way."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import unquote

from pi_cli.errors import BadUsage
from pi_cli.ssh import command_words, ssh_options
from pi_cli.ssh.command_words import Word

_T = TypeVar("_T")
ALONE = "paste the ssh command alone"
LEAVE_OUT = "leave it out"
FIRST_COUNTS = "the first one counts, as with ssh"
REPEATABLE = ("CertificateFile", "IdentityFile")
WAYS = ("ProxyCommand", "ProxyJump")
USER = re.compile(r"(?!-)[^\s'\"`$\\;&<>|(){}]+")  # what ssh itself lets pass
HOST = re.compile(r"(?![-.])[A-Za-z0-9_.%-]+")
URI = re.compile(r"ssh://(?:([^@/]*)@)?(\[[^\]/]+\]|[^:/@\[\]]+)(?::([0-9]+))?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SshCommand:
    """Where an ssh command leads.

    `options` are lines for an ssh config, in the order ssh would honour them. `ignored` says of every option that was
    left out why it was.
    """

    host: str
    user: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()
    config_file: str | None = None
    connect_timeout: float | None = None  # seconds
    ignored: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """Return what the user's own ssh needs to go the same way."""
        given = {"-F": self.config_file, "-p": self.port, "-l": self.user}
        lines = [*self.options, *([f"ConnectTimeout {self.connect_timeout:.0f}"] if self.connect_timeout else [])]
        named = [word for flag, value in given.items() if value for word in (flag, str(value))]
        return [*named, *(word for line in lines for word in ("-o", line)), self.host]


@dataclass(slots=True)
class _Reading:
    """What has been read so far; ssh takes the first value of most options."""

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

    def command(self) -> SshCommand:
        family = [f"AddressFamily {self.family}"] if self.family else []
        options = (*self.options, *family)
        return SshCommand(
            self.host, self.user, self.port, options, self.config_file, self.connect_timeout, self.ignored
        )

    def refused(self, first: Word, last: Word, why: str, hint: str) -> BadUsage:
        return command_words.refused(self.text, first.start, last.end, why, hint)


def parse(text: str) -> SshCommand:
    """Read `ssh -p 40022 -i ~/.ssh/key root@1.2.3.4`, with or without the word `ssh`, as it was copied.

    Raises `BadUsage`, with the place marked that cannot be honoured.

    >>> parse("ssh root@1.2.3.4 -p 40022").port
    40022
    """
    return _read(text).command()


def lasting(text: str) -> str:
    """Return a command that means the same from any folder and in any shell, so that it can be remembered.

    A key given as `key.pem` or `$KEYS/a` becomes an absolute path; what needs no such change stays as it is.
    """
    reading = _read(text)
    return reading.text if reading.is_lasting else shlex.join(["ssh", *reading.command().words()])


def _read(text: str) -> _Reading:
    plain = command_words.unwrap(text)
    reading = _Reading(plain, is_lasting=plain == text.strip() and "$" not in plain)
    words = _without_ssh(command_words.split(plain), reading)
    while words:
        word = words.pop(0)
        if word.text == "--":
            if not words:
                break
            word = words.pop(0)  # no option, whatever it looks like
        elif word.text.startswith("-") and len(word.text) > 1:
            _read_flags(word, words, reading)
            continue
        if reading.host_word:
            raise _too_much(word, reading.host_word, reading)
        _read_host(word, reading)
    if not reading.host:
        end = len(plain)
        raise command_words.refused(plain, end, end, "no host in it", "paste the whole line: `ssh root@1.2.3.4 -p 22`")
    return reading


def _is_ssh(word: Word) -> bool:
    return re.split(r"[/\\]", word.text)[-1].lower() in ("ssh", "ssh.exe")


def _without_ssh(words: list[Word], reading: _Reading) -> list[Word]:
    """Drop the word `ssh`. What stands before it would run it in another way."""
    if not words or words[0].text.startswith("-") or "@" in words[0].text:
        return words
    before = [Word("", 0, 0), *words]
    at = next((n for n, word in enumerate(words) if _is_ssh(word) and not before[n].text.startswith("-")), None)
    if at is None:
        return words
    if at == 1 and words[0].text == "sudo":
        reading.ignored["sudo"] = "pi logs in as you, with your keys"
    elif at:
        others = " ".join(word.text for word in words[:at])
        raise reading.refused(words[0], words[at - 1], f"`{others}` stands before `ssh`", ALONE)
    return words[at + 1 :]


def _too_much(word: Word, host: Word, reading: _Reading) -> BadUsage:
    if "@" in word.text and reading.user is None:
        return reading.refused(host, host, f"`{host.text}` stands before `{word.text}`, and is not ssh", ALONE)
    why, hint = f"`{word.text}` would run a command on the pod", "give only the way in; for commands use `pi ssh`"
    return command_words.refused(reading.text, word.start, len(reading.text), why, hint)


def _read_flags(word: Word, words: list[Word], reading: _Reading) -> None:
    """Read one `-x…` word as getopt does: `-vvp22` is `-v -v -p 22`."""
    if word.text.startswith("--"):
        raise reading.refused(word, word, f"ssh has no option `{word.text}`", LEAVE_OUT)
    letters = word.text[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        value, last = "", word
        if letter in ssh_options.WITH_ARGUMENT:
            if not letters and words:
                last = words.pop(0)
            value, letters = letters or ("" if last is word else last.text), ""
            if not value:
                raise reading.refused(word, last, f"`-{letter}` needs a value", "paste the whole line")
        _read_flag(letter, value, reading, word, last)


def _read_flag(letter: str, value: str, reading: _Reading, first: Word, last: Word) -> None:
    shown = f"-{letter} {value}".strip()
    if letter in "46":
        reading.family = "inet" if letter == "4" else "inet6"
    elif letter == "o":
        _read_line(value, reading, first, last)
    elif letter == "F":
        reading.config_file = _read_file(value, reading, first, last)
    elif letter in ssh_options.IGNORED_FLAGS:
        reading.ignored[shown] = ssh_options.IGNORED_FLAGS[letter]
    elif keyword := ssh_options.FLAGS_FOR_KEYWORDS.get(letter):
        _read_keyword(keyword, value, shown, reading, first, last)
    else:
        why, hint = ssh_options.REFUSED_FLAGS.get(letter, ("ssh has no such option", LEAVE_OUT))
        raise reading.refused(first, last, f"pi cannot honour `-{letter}`: {why}", hint)


def _read_line(text: str, reading: _Reading, first: Word, last: Word) -> None:
    """Read what follows `-o`: `Key=value` or `Key value`."""
    key, _, value = re.sub(r"\s*=\s*|\s+", "\0", text.strip(), count=1).partition("\0")
    if quoted := re.fullmatch(r'"([^"]*)"', value):
        value = quoted[1]
    if not value:
        raise reading.refused(first, last, f"`-o {text}` is not of the form `Key=value`", "paste the whole line")
    _read_keyword(key, value, f"-o {text}", reading, first, last)


def _read_file(value: str, reading: _Reading, first: Word, last: Word) -> str:
    reading.is_lasting &= value == "none" or value.startswith(("/", "~"))
    with _refusing(f"-F {value}", reading, first, last):
        return value if value == "none" else ssh_options.path(value)


@contextmanager
def _refusing(shown: str, reading: _Reading, first: Word, last: Word) -> Iterator[None]:
    """Mark the option whose value is wrong."""
    try:
        yield
    except ValueError as error:
        why = f"pi cannot honour `{shown}`: {error}"
        raise reading.refused(first, last, why, "correct it, or leave it out") from error


def _read_keyword(key: str, value: str, shown: str, reading: _Reading, first: Word, last: Word) -> None:
    name = ssh_options.NAMES.get(key.lower())
    if why := ssh_options.ignored(key, value):
        reading.ignored[shown] = why
        return
    with _refusing(shown, reading, first, last):
        if _set_once(key.lower(), value, shown, reading):
            return
        if name is None:
            why, hint = ssh_options.REFUSED_KEYWORDS.get(key.lower(), ("pi has nothing that does it", LEAVE_OUT))
            raise reading.refused(first, last, f"pi cannot honour `{shown}`: {why}", hint)
        if name in ssh_options.FILES:
            reading.is_lasting &= value in ("none", "SSH_AUTH_SOCK") or value.startswith(("/", "~", "%"))
        _add_option(name, ssh_options.HONOURED[name](value), shown, reading)


def _set_once(key: str, value: str, shown: str, reading: _Reading) -> bool:
    """Keep what has a place of its own. Returns whether it has."""
    match key:
        case "port":
            reading.port = _first(reading.port, ssh_options.port(value), shown, reading)
        case "user":
            if not USER.fullmatch(value):
                raise ValueError(f"`{value}` is not a user name")
            reading.user = _first(reading.user, value, shown, reading)
        case "connecttimeout":
            reading.connect_timeout = _first(reading.connect_timeout, ssh_options.seconds(value), shown, reading)
        case "addressfamily":
            reading.family = _first(reading.family, ssh_options.HONOURED["AddressFamily"](value), shown, reading)
        case _:
            return False
    return True


def _first(before: _T | None, value: _T, shown: str, reading: _Reading) -> _T:
    if before is not None and before != value:
        reading.ignored[shown] = FIRST_COUNTS
    return value if before is None else before


def _add_option(name: str, value: str, shown: str, reading: _Reading) -> None:
    """Add a line of configuration; a jump host excludes a `ProxyCommand`, and the other way round, as with ssh."""
    rivals = WAYS if name in WAYS else (name,)
    before = [line for line in reading.options if line.split()[0] in rivals]
    if not before or name in REPEATABLE:
        reading.options.append(f"{name} {value}")
    elif f"{name} {value}" not in before:
        reading.ignored[shown] = FIRST_COUNTS


def _read_host(word: Word, reading: _Reading) -> None:
    """Read `[USER@]HOST`, with a port behind it where that is clear, or `ssh://USER@HOST:PORT`."""
    user, _, host = word.text.rpartition("@")
    port = ""
    if word.text.lower().startswith("ssh://"):
        uri = URI.fullmatch(word.text)
        if uri is None:
            why = f"`{word.text}` is not of the form ssh://USER@HOST:PORT"
            raise reading.refused(word, word, why, "paste the line from the provider")
        user, host, port = unquote((uri[1] or "").partition(";")[0]), uri[2].replace("%25", "%"), uri[3] or ""
    elif with_port := re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]+)", host):
        host, port = with_port[1], with_port[2]
    reading.host, reading.host_word = _host(word, host, reading), word
    if "@" in word.text:
        if not USER.fullmatch(user):
            raise reading.refused(word, word, f"`{user}` is not a user name", "paste the line from the provider")
        reading.user = _first(reading.user, user, word.text, reading)
    if port:
        with _refusing(word.text, reading, word, word):
            reading.port = _first(reading.port, ssh_options.port(port), word.text, reading)


def _host(word: Word, host: str, reading: _Reading) -> str:
    if bracketed := re.fullmatch(r"\[(.*)\]", host):
        host = bracketed[1]
    with suppress(ValueError):
        if ":" in host:
            return str(ip_address(host))
    if not HOST.fullmatch(host):
        why = f"`{host}` is not a host name or an address"
        raise reading.refused(word, word, why, "paste the line from the provider")
    return host
