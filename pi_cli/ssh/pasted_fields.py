"""Read pasted text that has names and values: an API's JSON, a `Host` block of ssh_config, `Host: …` and `Port: …`."""

import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.ssh.command_words import NO_COMMAND_YET, refused
from pi_cli.ssh.passwords import hide

MAX_DEPTH = 6  # of objects within objects
LIST = re.compile(r"\[\s*(?:[\"'{]|null\b|None\b|\])")
# Names of values, in small letters without signs between the words.
COMMANDS = ("sshcommand", "sshcmd", "sshconnectioncommand", "sshconnection", "sshconnectionstring", "sshurl", "sshuri", "ssh", "command", "connectioncommand", "connectcommand", "cmd", "login")  # fmt: skip # noqa: E501
HOSTS = ("sshhost", "sship", "sshaddress", "host", "hostname", "publicip", "publicipaddress", "publicipaddr", "ipaddress", "ip", "publicipv4", "ipv4", "externalip", "address", "server", "hostip")  # fmt: skip # noqa: E501
PORTS = ("sshport", "port", "sshportnumber", "publicport", "externalport")
USERS = ("sshuser", "sshusername", "user", "username", "login", "loginname", "defaultuser")
KEYS = ("sshkeypath", "identityfile", "keyfile", "keypath", "privatekey", "privatekeypath")
FIELD = re.compile(r"\s*(?:[-*•]\s+)?[*`\"']*([A-Za-z][\w /.-]{0,30}?)[*`\"']*\s*[:=：]\s*[*`\"']*\s*(.*?)[\s*`\"',]*")
ON_ONE_LINE = re.compile(r"[A-Za-z][\w.-]*=[^\s,;|]+|[A-Za-z][\w /.-]{0,30}?\s*[:=]\s*[^\s,;|]+")
IN_ONE_LINE = re.compile(rf"(?:[\w.-]+\s+)?(?:{ON_ONE_LINE.pattern})(?:(?:\s*[,;|]\s*|\s+)(?:{ON_ONE_LINE.pattern}))+")
BLOCK = re.compile(r"(?:\s*#.*\n)*\s*(?:Host|Match)[ \t]+\S.*(?:\sHostName\s|\n)", re.IGNORECASE)
LOST_BREAK = re.compile(r"\s+(?=(?:HostName|User|Port|IdentityFile|ProxyJump|IdentitiesOnly)\s)", re.IGNORECASE)
CONFIG_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*")
ALONE = "paste the command alone"
INTO_CONFIG = "put it into ~/.ssh/config, and give its alias: `pi pods setup NAME {ssh}`"


def command(text: str) -> str | None:
    """Return the ssh command that a structured text stands for; None if the text is not structured."""
    if LIST.match(text):
        return _of_list(text)
    if text.startswith("{"):
        return _of_object(text)
    if BLOCK.match(text):
        return _of_block(text)
    return _of_lines(text)


def _of_list(text: str) -> str:
    """Return the only command of a list from an API."""
    entries = _parsed(text, "it is part of a list")
    machines = [entry for entry in entries if isinstance(entry, str | Mapping)]
    if not machines:
        raise _refused(text, NO_COMMAND_YET, "wait until your provider shows one")
    if len(machines) > 1:
        first = machines[0] if isinstance(machines[0], str) else _of_mapping(text, machines[0])
        hint = fill("set up each as its own pod, the first with `pi pods setup NAME {ssh}`", ssh=hide(first))
        raise _refused(text, f"it is a list of {len(machines)} machines", hint)
    return machines[0].strip() if isinstance(machines[0], str) else _of_mapping(text, machines[0])


def _of_object(text: str) -> str:
    fields = _parsed(text, "it is part of a JSON text")
    return _of_mapping(text, fields if isinstance(fields, Mapping) else {})


def _parsed(text: str, why: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(re.sub(r"\bnull\b", "None", text))  # as Python prints it
    raise _refused(text, why, ALONE)


def _of_mapping(text: str, fields: Mapping[Any, Any]) -> str:
    """Return the command of an object: its field with one, or one made of its host, port and user."""
    found = dict(_flat(fields, 0))
    given = [
        str(value).strip() for name in COMMANDS if isinstance(value := found.get(name), str) and _is_command(value)
    ]
    if given:
        return given[0]
    if any(name in found and found[name] is None for name in COMMANDS):
        raise _refused(text, NO_COMMAND_YET, "wait until your provider shows one")
    made = _of_parts(found)
    if made is None:
        raise _refused(text, "it has no field with an ssh command, and none with a host", ALONE)
    if not _first(found, USERS):
        hint = fill("give the command: `pi pods setup NAME {ssh}`", ssh=_with_root(made))
        raise _refused(text, "it has no field with the name of a user", hint)
    return made


def _flat(fields: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object; those of objects within it first, so that its own replace them."""
    if depth > MAX_DEPTH:
        return
    for name, value in fields.items():
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(inner, Mapping):
            if _key(name) in ("portmappings", "ports") and "22" in {str(port) for port in inner}:
                yield "sshport", {str(port): target for port, target in inner.items()}["22"]
            yield from _flat(inner, depth + 1)
        elif isinstance(name, str):
            yield _key(name), inner


def _key(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _is_command(value: str) -> bool:
    return bool(re.search(r"(?:^|[\s/\\])ssh(?:\.exe)?\s|^ssh://|@", value))


def _of_parts(found: Mapping[str, Any]) -> str | None:
    """Return a command made of a host, a port, a user and a key; None without a host."""
    host, port, user, key = (_first(found, names) for names in (HOSTS, PORTS, USERS, KEYS))
    if host is None:
        return None
    if "@" in host:
        user, _, host = host.rpartition("@")
    options = [*(["-p", port] if port else []), *(["-i", key] if key and re.match(r"[~/]", key) else [])]
    return hints.command(*["ssh", *options, f"{user}@{host}" if user else host])


def _first(found: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    values = (found.get(name) for name in names)
    return next((str(value).strip() for value in values if isinstance(value, str | int) and str(value).strip()), None)


def _with_root(made: str) -> str:
    words = shlex.split(made)
    return hints.command(*[*words[:-1], f"root@{words[-1]}"])


def _of_lines(text: str) -> str | None:
    """Return the command that is meant by lines of names and values, e.g. `Host: …`, `Port: …`, `User: …`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and not text.startswith("ssh"):
        text = re.sub(r"^[\w.-]+\s+(?=\w+=)", "", text)  # the name of a host in an inventory of Ansible
        lines = ON_ONE_LINE.findall(text) if IN_ONE_LINE.fullmatch(text) else lines
    pairs = [pair for line in lines if (pair := FIELD.fullmatch(line))]
    if len(pairs) < 2 or len(pairs) < len(lines) - 1:
        return None
    found = {_key(name).removeprefix("ansible"): value for name, value in (pair.groups() for pair in pairs) if value}
    if any(name in found and _is_command(found[name]) for name in COMMANDS):
        return next(found[name] for name in COMMANDS if name in found and _is_command(found[name]))
    made = _of_parts(found)
    if made and not _first(found, USERS) and "@" not in made:
        hint = fill("give the command: `pi pods setup NAME {ssh}`", ssh=_with_root(made))
        raise _refused(text, "it names no user", hint)
    return made


def _of_block(text: str) -> str:
    """Return the command that a block of ssh_config stands for: the options as `-o`, then the host.

    Raises `BadUsage` for several blocks and for patterns: those are for the user's own configuration.
    """
    if "\n" not in text:  # the line breaks were lost when it was copied
        text = LOST_BREAK.sub("\n", text)
    lines = [CONFIG_LINE.fullmatch(line) for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    pairs = [(match[1].lower(), match[1], match[2]) for match in lines if match]
    names = [value for key, _, value in pairs if key == "host"]
    aliases = [word for value in names for word in value.split() if not re.search(r"[*?!]", word)]
    if len(pairs) != len(lines) or not aliases:
        hint = fill(INTO_CONFIG, ssh=f"ssh {aliases[-1] if aliases else 'ALIAS'}")
        raise _refused(text, "it is a part of an ssh configuration", hint)
    if len(names) > 1 or any(key in ("match", "include") for key, _, _ in pairs):
        hint = fill(INTO_CONFIG, ssh=f"ssh {aliases[-1]}")
        raise _refused(text, "it is an ssh configuration of several blocks", hint)
    host = next((value for key, _, value in pairs if key == "hostname"), aliases[0]).replace("%h", aliases[0])
    options = [("-o", f"{name} {value}") for key, name, value in pairs if key not in ("host", "hostname")]
    return hints.command(*["ssh", *(word for option in options for word in option), host.strip('"')])


def _refused(text: str, why: str, hint: str) -> BadUsage:
    shown = hide(text.replace("\\n", "\n"))
    return refused(shown, 0, len(shown), why, hint)
