"""Read the ssh command a provider's dashboard shows: who, where, with which key, by which way."""

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from pi_cli.errors import BadUsage

# ssh(1), OpenSSH 9.9: options without and with an argument.
FLAGS = set("46AaCfGgKkMNnqsTtVvXxYy")
WITH_ARGUMENT = set("BbcDEeFIiJLlmOopQRSWw")

# What has no meaning for pi (forwardings, terminals, verbosity) is left out and said so.
IGNORED_FLAGS = set("AaCfgKkMNnqTtvXxYy") | set("DEeLRSc")
IGNORED_OPTIONS = {
    "addkeystoagent", "batchmode", "checkhostip", "compression", "controlmaster", "controlpath", "controlpersist",
    "exitonforwardfailure", "forwardagent", "forwardx11", "globalknownhostsfile", "hashknownhosts", "localforward",
    "loglevel", "numberofpasswordprompts", "remoteforward", "requesttty", "serveralivecountmax", "serveraliveinterval",
    "stricthostkeychecking", "tcpkeepalive", "updatehostkeys", "userknownhostsfile", "visualhostkey",
}  # fmt: skip
HONOURED_OPTIONS = {
    "addressfamily": "AddressFamily", "bindaddress": "BindAddress", "certificatefile": "CertificateFile",
    "ciphers": "Ciphers", "connecttimeout": "ConnectTimeout", "hostkeyalgorithms": "HostKeyAlgorithms",
    "hostname": "HostName", "identitiesonly": "IdentitiesOnly", "identityagent": "IdentityAgent",
    "identityfile": "IdentityFile", "kexalgorithms": "KexAlgorithms", "macs": "MACs", "port": "Port",
    "preferredauthentications": "PreferredAuthentications", "proxycommand": "ProxyCommand", "proxyjump": "ProxyJump",
    "pubkeyauthentication": "PubkeyAuthentication", "user": "User",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SshCommand:
    """Where an ssh command leads. `options` are lines for an ssh config, in the order ssh would honour them."""

    host: str
    user: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()
    config_file: str | None = None
    ignored: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """What has been read so far; ssh takes the first value of most options."""

    user: str | None = None
    port: int | None = None
    options: list[str] = field(default_factory=list)
    config_file: str | None = None
    ignored: list[str] = field(default_factory=list)


def parse(text: str) -> SshCommand:
    """Read `ssh -p 40022 -i ~/.ssh/key root@1.2.3.4`, with or without the word `ssh`.

    Raises `BadUsage`, naming the word that cannot be honoured.

    >>> parse("ssh root@1.2.3.4 -p 40022").port
    40022
    """
    words = _split(text)
    if words and Path(words[0]).name == "ssh":
        words = words[1:]
    reading, host = _Reading(), None
    while words:
        word = words.pop(0)
        if word == "--" and host is None and words:
            host = words.pop(0)
        elif len(word) > 1 and word.startswith("-"):
            _read_flags(word, words, reading)
        elif host is None:
            host = word
        else:
            raise _refused(text, f"`{word}` would run a command on the pod", "give only the way to the machine")
    if host is None:
        raise _refused(text, "no host in it", "paste the whole line, such as `ssh root@1.2.3.4 -p 22`")
    return _finish(text, host, reading)


def _split(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _refused(text, str(error).lower(), "check the quotes") from error
    if stray := re.search(r"[;&|<>`\n\r\0]|\$\(", text):
        raise _refused(text, f"`{stray.group()!s}` is for a shell", "paste the ssh command alone")
    return words


def _read_flags(word: str, words: list[str], reading: _Reading) -> None:
    """Read one `-x…` word as getopt does: `-vvp22` is `-v -v -p 22`."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in WITH_ARGUMENT:
            if not letters and not words:
                raise _refused(word, f"`-{letter}` needs a value", "paste the whole line")
            value, letters = letters or words.pop(0), ""
            _read_option(letter, value, reading)
        elif letter in "46":
            reading.options.append(f"AddressFamily {'inet' if letter == '4' else 'inet6'}")
        elif letter in IGNORED_FLAGS:
            reading.ignored.append(f"-{letter}")
        else:
            raise _refused(word, f"pi cannot honour `-{letter}`", "leave it out")


def _read_option(letter: str, value: str, reading: _Reading) -> None:
    match letter:
        case "p":
            reading.port = reading.port or _read_port(value)
        case "l":
            reading.user = reading.user or value
        case "i":
            reading.options.append(f"IdentityFile {_quote(_expand(value))}")
        case "J":
            reading.options.append(f"ProxyJump {value}")
        case "F":
            reading.config_file = _expand(value)
        case "b":
            reading.options.append(f"BindAddress {value}")
        case "o":
            _read_keyword(value, reading)
        case _ if letter in IGNORED_FLAGS:
            reading.ignored.append(f"-{letter} {value}")
        case _:
            raise _refused(f"-{letter} {value}", f"pi cannot honour `-{letter}`", "leave it out")


def _read_keyword(text: str, reading: _Reading) -> None:
    """Read what follows `-o`: `Key=value` or `Key value`."""
    key, _, value = re.sub(r"\s*=\s*|\s+", "\0", text.strip(), count=1).partition("\0")
    if not value:
        raise _refused(f"-o {text}", "`-o` needs `Key=value`", "paste the whole line")
    if key.lower() in IGNORED_OPTIONS:
        reading.ignored.append(f"-o {text}")
    elif key.lower() == "port":
        reading.port = reading.port or _read_port(value)
    elif key.lower() == "user":
        reading.user = reading.user or value
    elif name := HONOURED_OPTIONS.get(key.lower()):
        is_path = name in ("IdentityFile", "CertificateFile", "IdentityAgent")
        reading.options.append(f"{name} {_quote(_expand(value)) if is_path else value}")
    else:
        raise _refused(f"-o {text}", f"pi cannot honour `-o {key}`", "leave it out, or put it into ~/.ssh/config")


def _finish(text: str, host: str, reading: _Reading) -> SshCommand:
    user, port = reading.user, reading.port
    if host.startswith("ssh://"):
        host, uri_port = _read_uri(text, host)
        port = port or uri_port
    if "@" in host:
        before, _, host = host.rpartition("@")
        user = user or before
    host = host.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host) or host.startswith("-"):
        raise _refused(text, f"`{host}` is not a host name or an address", "paste the line from the provider")
    if user is not None and not re.fullmatch(r"[^\s@'\"$\\]+", user):
        raise _refused(text, f"`{user}` is not a user name", "paste the line from the provider")
    ignored = tuple(dict.fromkeys(reading.ignored))
    return SshCommand(host, user, port, tuple(reading.options), reading.config_file, ignored)


def _read_uri(text: str, uri: str) -> tuple[str, int | None]:
    """Split `ssh://user@host:port` into `user@host` and the port."""
    match = re.fullmatch(r"ssh://((?:[^@/]+@)?(?:\[[^\]]+\]|[^:/@]+))(?::(\d+))?/?", uri)
    if match is None:
        raise _refused(text, f"`{uri}` is not of the form ssh://user@host:port", "paste the line from the provider")
    return match[1], _read_port(match[2]) if match[2] else None


def _read_port(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise BadUsage(f"`{value}` is not a port", hint="a port is a number from 1 to 65535")
    return int(value)


def _expand(path: str) -> str:
    return os.path.expandvars(str(Path(path).expanduser()))


def _quote(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _refused(text: str, why: str, hint: str) -> BadUsage:
    return BadUsage(f"cannot use the ssh command `{text}`: {why}", hint=hint)
