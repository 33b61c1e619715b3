"""Hosts of which ssh's configuration says the same: for those, `ssh -G` is asked once.

Each `ssh -G` takes 4 ms of processor time, more than to log in does; for 64 pods, a third of `pi list --all`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from weakref import WeakKeyDictionary

from pi_cli.errors import PiError
from pi_cli.ssh.ssh_command import SshCommand

FRESH = 10.0  # seconds for which nobody looks whether the configuration has been changed
SSH = "/usr/bin/ssh"  # any other may have its system-wide configuration elsewhere
SYSTEM = Path("/etc/ssh/ssh_config")
LINE = re.compile(r"\s*(\w+)[\s=]+(.*?)\s*")
DEPENDS_ON_THE_HOST = re.compile(r"match|canonicalize\w*")  # in more ways than by patterns
MOST_FILES = 100

Answers = Mapping[str, tuple[str, ...]]
Ask = Callable[[SshCommand], Awaitable[Answers]]


class Intricate(Exception):
    """What holds for a host cannot be told without asking ssh."""


@dataclass(slots=True)
class _Lately:
    """What was read and asked for lately; `patterns` by the user's file and whether the system's counts."""

    patterns: dict[tuple[Path | None, bool], tuple[float, list[str] | None]] = field(default_factory=dict)
    asked: dict[object, tuple[float, SshCommand, asyncio.Future[Answers]]] = field(default_factory=dict)


_lately: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lately] = WeakKeyDictionary()


async def answers(command: SshCommand, ask: Ask, *, with_system: bool) -> Answers:
    """Return what `ask` says of a command, or what it has said of one that must have the same answers.

    `with_system` tells whether the system's configuration counts, besides the user's.
    """
    config = _users_file(command)
    loop = asyncio.get_running_loop()
    lately, now = _lately.setdefault(loop, _Lately()), loop.time()
    read_at, patterns = lately.patterns.get((config, with_system), (-FRESH, None))
    if now >= read_at + FRESH:
        patterns = _read(config, with_system=with_system)
        lately.patterns[config, with_system] = now, patterns
    if patterns is None:
        return await ask(command)
    is_said = command.user is None, command.port is None
    kind = (_likeness(command.host, patterns), config, with_system, command.options, command.connect_timeout, is_said)
    asked_at, other, asking = lately.asked.get(kind, (-FRESH, None, None))
    if asking and other and now < asked_at + FRESH:
        with suppress(PiError):  # what is wrong may be that other host
            found = await asyncio.shield(asking)
            if _tells_nothing_of(other.host, found):
                return _of(command, other, found)
        return await ask(command)
    asking = asyncio.ensure_future(ask(command))
    asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # if nobody waits for it any more
    lately.asked[kind] = now, command, asking
    return await asyncio.shield(asking)


def _users_file(command: SshCommand) -> Path | None:
    given = command.config_file or "~/.ssh/config"
    return None if given == "none" else Path(given).expanduser()


def _of(command: SshCommand, other: SshCommand, found: Answers) -> Answers:
    """Return the answers for `command`, out of those for `other`."""
    here = dict(found) | {"host": (command.host,)}
    if found.get("hostname", ("",))[0].lower() == other.host.lower():
        here["hostname"] = (command.host.lower(),)
    if command.user is not None:
        here["user"] = (command.user,)
    if command.port is not None:
        here["port"] = (str(command.port),)
    return here


def _tells_nothing_of(host: str, found: Answers) -> bool:
    """Tell whether a host's name is part of no answer but those that are its name."""
    return not any(
        host.lower() in value.lower()
        for keyword, values in found.items()
        if keyword not in ("host", "hostname")
        for value in values
    )


def _likeness(host: str, patterns: Sequence[str]) -> tuple[bool, ...]:
    """Return what hosts have in common to which the same patterns apply, whatever ssh makes of them."""
    names = (host, host.lower())
    return tuple(fnmatchcase(name, pattern.lstrip("!")) for pattern in patterns for name in names)


def _read(config: Path | None, *, with_system: bool) -> list[str] | None:
    """Return all patterns of the files; None where hosts differ by more than those."""
    places = [(config, Path.home() / ".ssh")] if config else []
    places += [(SYSTEM, SYSTEM.parent)] if with_system else []
    seen: list[Path] = []
    try:
        return [pattern for file, folder in places for pattern in _patterns(file, folder, seen)]
    except Intricate:
        return None


def _patterns(file: Path, folder: Path, seen: list[Path]) -> Iterator[str]:
    """Yield what stands behind `Host` and `HostName` in a file, and in those that it includes."""
    seen.append(file)
    if len(seen) > MOST_FILES:
        raise Intricate
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeError) as error:
        raise Intricate from error
    for line in lines:
        if not (match := LINE.fullmatch(line)):
            continue
        keyword, words = match[1].lower(), match[2].replace('"', "").split()
        if DEPENDS_ON_THE_HOST.fullmatch(keyword) or (keyword == "hostname" and "%" in match[2]):
            raise Intricate
        if keyword in ("host", "hostname"):
            yield from words
        elif keyword == "include":
            for word in words:
                yield from _included(word, folder, seen)


def _included(word: str, folder: Path, seen: list[Path]) -> Iterator[str]:
    if any(sign in word for sign in "%$"):
        raise Intricate
    path = folder / Path(word).expanduser()
    for file in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
        yield from _patterns(file, folder, seen)
