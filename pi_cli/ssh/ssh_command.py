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
from pi_cli.ssh import command_words, ssh_mistakes, ssh_options
from pi_cli.ssh.command_words import MASK, Word

_T = TypeVar("_T")
LEAVE_OUT = "leave it out"
ALONE = re.compile(r"""ssh (?!.*:\S*@|.*(?i:pass|pwd|secret|token|key=|port |-pw|://))[\w@.:/~ ='"%,+-]+""", re.ASCII)
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

    def jump(self) -> str:
        """Return the host as a jump host: `USER@HOST:PORT`."""
        return (f"{self.user}@" if self.user else "") + self.host + (f":{self.port}" if self.port else "")

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
    partial, words = _prepared(text)
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
            _refuse_program_before(partial)
            raise ssh_mistakes.unexpected_word(partial.text, word, words, partial.host_word, partial.jump())
        _read_host(word, partial)
    if not partial.host:
        end, hint = len(partial.text), "paste the whole line: `ssh root@1.2.3.4 -p 22`"
        raise command_words.refused(partial.text, end, end, "it names no host", hint)
    return partial


def _prepared(text: str) -> tuple[_PartialCommand, list[Word]]:
    """Find the command in a text and split it, without its passwords and the word `ssh`.

    A command alone takes no time: the patterns for other texts are not needed for the command of a recorded pod.
    """
    plain = command = text.strip()
    ignored: dict[str, str] = {}
    if not ALONE.fullmatch(plain):
        from pi_cli.ssh import passwords, pasted

        found = pasted.find(text)
        plain, command, ignored = passwords.hide(found.command), found.command, dict(found.ignored)
        _refuse_other_program(plain)
    partial = _PartialCommand(plain, is_lasting=plain == text.strip() and "$" not in plain, ignored=ignored)
    return partial, _without_ssh(command_words.split_with_values(plain, command), partial)


def _refuse_other_program(plain: str) -> None:
    """Refuse the command of another program that is known; an alias of ssh may have the same name."""
    first, *others = plain.split() or [""]
    is_address = re.match(r"(?!ssh:)[a-z-]+:(?://|\s)|ssh-remote\+", plain, re.IGNORECASE)
    is_alias = not others or (others[0].startswith("-") and not re.search(r"@|\s--", plain))
    if command_words.IS_SSH.match(plain) or first.startswith("-") or (is_alias and not is_address):
        return
    _refuse_program(plain)


def _refuse_program_before(partial: _PartialCommand) -> None:
    """Refuse the command of another program, whose name was read as the host."""
    if partial.host_word and partial.host_word.start == 0:
        _refuse_program(partial.text)


def _refuse_program(text: str) -> None:
    from pi_cli.ssh import other_programs  # seldom needed, and full of patterns

    other_programs.refuse(text)


def _is_ssh(word: Word) -> bool:
    return re.split(r"[/\\]", word.text)[-1].lower() in ("ssh", "ssh.exe")


def _without_ssh(words: list[Word], partial: _PartialCommand) -> list[Word]:
    """Drop the word `ssh`. Words before it would change how it runs, and are refused."""
    if not words or words[0].text.startswith("-") or "@" in words[0].text:
        return words
    before = [Word("", 0, 0), *words]
    at = next((n for n, word in enumerate(words) if _is_ssh(word) and not before[n].text.startswith("-")), None)
    if at is None or (at and _is_host(words[0], words[:at])):
        return words
    if at == 1 and words[0].text == "sudo":
        partial.ignored["sudo"] = "pi logs in as you, with your keys"
    elif at:
        raise ssh_mistakes.words_before_ssh(partial.text, words, at)
    return words[at + 1 :]


def _is_host(first: Word, before: list[Word]) -> bool:
    """Return whether the words before a word `ssh` are a host and its options: `jump -t ssh root@h`."""
    return len(before) > 1 and all(word.text.startswith("-") for word in before[1:]) and "=" not in first.text


def _read_flags(word: Word, words: list[Word], partial: _PartialCommand) -> None:
    """Parse one `-x…` word as getopt does: `-vvp22` is `-v -v -p 22`."""
    if ssh_mistakes.LONG_OPTION.fullmatch(word.text):
        raise ssh_mistakes.long_option(partial.text, word, words)
    if word.text.startswith("--"):
        raise partial.refused(word, word, f"ssh has no option `{word.text}`", LEAVE_OUT)
    letters = word.value[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        value, last = "", word
        if letter in ssh_options.WITH_ARGUMENT:
            if not letters and words:
                last = words.pop(0)
            value, letters = letters or ("" if last is word else last.value), ""
            if not value:
                raise partial.refused(word, last, f"`-{letter}` needs a value", "paste the whole line")
        _read_flag(letter, value, partial, word, last)


def _hidden(value: str) -> str:
    from pi_cli.ssh import passwords  # patterns that few commands need

    return passwords.hide(value)


def _read_flag(letter: str, value: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    is_hidden = first.text != first.value or last.text != last.value
    shown = f"-{letter} {_hidden(value) if is_hidden else value}".strip()
    if letter in "iF" and re.search(r"\\[\w.]", partial.text[last.start : last.end]) and value[:1] not in "'\"":
        raw = partial.text[last.start : last.end].removeprefix(f"-{letter}")
        if not re.search("['\"]", raw):
            raise partial.refused(first, last, *command_words.a_windows_path(raw))
    if letter == "P" and value.isdigit():
        _refuse_program_before(partial)
        why = f"`-P {value}` names a tag, not a port"
        raise partial.refused(first, last, why, ssh_mistakes.corrected(partial.text, first, last, f"-p {value}"))
    if letter in "46":
        partial.family = "inet" if letter == "4" else "inet6"
    elif letter == "o":
        _read_line(value, shown, partial, first, last)
    elif letter == "F":
        partial.config_file = _read_file(value, partial, first, last)
    elif letter in ssh_options.IGNORED_FLAGS:
        partial.ignored[shown] = ssh_options.IGNORED_FLAGS[letter]
    elif keyword := ssh_options.FLAGS_FOR_KEYWORDS.get(letter):
        _read_keyword(keyword, value, shown, partial, first, last)
    else:
        why, hint = ssh_options.REFUSED_FLAGS.get(letter, ("ssh has no such option", LEAVE_OUT))
        raise partial.refused(first, last, f"pi cannot honour `-{letter}`: {why}", hint)


def _read_line(text: str, shown: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    """Parse the argument of `-o`: `Key=value` or `Key value`."""
    key, _, value = re.sub(r"\s*=\s*|\s+", "\0", text.strip(), count=1).partition("\0")
    if quoted := re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value):
        value = re.sub(r'\\(["\\])', r"\1", quoted[1])  # as ssh does
    if not value:
        raise partial.refused(first, last, f"`{shown}` is not of the form `Key=value`", "paste the whole line")
    _read_keyword(key, value, shown, partial, first, last)


def _read_file(value: str, partial: _PartialCommand, first: Word, last: Word) -> str:
    _refuse_placeholder(value, partial, first, last)
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
        if partial.text.find(MASK, first.start, last.end) >= 0:
            why = f"pi cannot honour `{shown}`"  # the reason may quote the password
        raise partial.refused(first, last, why, "correct it, or leave it out") from error


def _read_keyword(key: str, value: str, shown: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    name = ssh_options.CANONICAL_NAMES.get(key.lower())
    if ssh_options.is_default(key, value):
        return
    if why := ssh_options.ignored(key, value):
        partial.ignored[shown] = why
        return
    if name != "ProxyCommand":
        _refuse_placeholder(value, partial, first, last)
    with _refusing(shown, partial, first, last):
        if _set_field(key.lower(), value, shown, partial):
            return
        if name is None:
            why, hint = ssh_options.REFUSED_KEYWORDS.get(key.lower(), ("pi has no equivalent", LEAVE_OUT))
            raise partial.refused(first, last, f"pi cannot honour `{shown}`: {why}", hint)
        if name in ssh_options.FILE_OPTIONS:
            partial.is_lasting &= value in ("none", "SSH_AUTH_SOCK") or value.startswith(("/", "~", "%"))
        _add_option(name, ssh_options.HONOURED[name](value), shown, partial)


def _refuse_placeholder(value: str, partial: _PartialCommand, first: Word, last: Word) -> None:
    """Refuse what stands in a page for a value of the machine, and a path of Windows."""
    if reasons := command_words.no_value(value):
        raise partial.refused(first, last, *reasons)


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
        user, host, port = _parts_of_uri(word, partial)
    elif with_port := re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]+)", host):
        host, port = with_port[1], with_port[2]
    partial.host, partial.host_word = _host(word, host, partial), word
    if "@" in word.text:
        if user.endswith(f":{MASK}"):
            raise ssh_mistakes.with_password(partial.text, word, user)
        if not USER.fullmatch(user):
            raise partial.refused(word, word, f"`{user}` is not a user name", "paste the line from the provider")
        partial.user = _keep_first(partial.user, user, word.text, partial)
    if port:
        with _refusing(word.text, partial, word, word):
            partial.port = _keep_first(partial.port, ssh_options.port(port), word.text, partial)


def _parts_of_uri(word: Word, partial: _PartialCommand) -> tuple[str, str, str]:
    """Return the user, the host and the port of `ssh://USER@HOST:PORT`, each of which may be empty but for the host."""
    uri = URI.fullmatch(word.text)
    if uri is None:
        why = f"`{word.text}` is not of the form ssh://USER@HOST:PORT"
        raise partial.refused(word, word, why, "paste the line from the provider")
    user = (uri[1] or "").partition(";")[0]
    if user.endswith(f":{MASK}"):
        partial.ignored[f":{MASK}"] = ssh_options.KEYS_ONLY
        partial.is_lasting, user = False, user.removesuffix(f":{MASK}")
    return unquote(user), uri[2].replace("%25", "%"), uri[3] or ""


def _host(word: Word, host: str, partial: _PartialCommand) -> str:
    if bracketed := re.fullmatch(r"\[(.*)\]", host):
        host = bracketed[1]
    with suppress(ValueError):
        if ":" in host:
            return str(ip_address(host))
    _refuse_placeholder(word.text, partial, word, word)
    _refuse_placeholder(host, partial, word, word)
    if path := re.fullmatch(r"([\w.-]+)(?::[/~]\S*|:|/\S*)", host):
        why, right = f"`{host}` is not a host name or an address", word.text.replace(host, path[1])
        raise partial.refused(word, word, why, ssh_mistakes.corrected(partial.text, word, word, right))
    if not HOST.fullmatch(host):
        why = f"`{host}` is not a host name or an address"
        raise partial.refused(word, word, why, "paste the line from the provider")
    return host
