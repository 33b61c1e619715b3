"""Cache of `ssh -G` settings for hosts that match the same patterns of ssh's configuration.

Each `ssh -G` takes 4 ms of processor time, more than a login; for 64 pods that is a third of `pi list --all`.
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
from pi_cli.ssh import ssh_home
from pi_cli.ssh.ssh_command import SshCommand

CACHE_SECONDS = 10.0  # for which the cache is used without checking the files for changes
SYSTEM_SSH = "/usr/bin/ssh"  # another ssh may have its system-wide configuration elsewhere
SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
LINE = re.compile(r"\s*(\w+)[\s=]+(.*?)\s*")
DYNAMIC_KEYWORD = re.compile(r"match|canonicalize\w*")  # depends on the host in other ways than by patterns
MAX_FILES = 100

Settings = Mapping[str, tuple[str, ...]]
"""The values of every keyword, in small letters, as `ssh -G` prints them."""
ReadSettings = Callable[[SshCommand], Awaitable[Settings]]


class TooDynamic(Exception):
    """The configuration is too dynamic to cache (`Match`, `%h`)."""


@dataclass(slots=True)
class _Cache:
    """Patterns by the user's file and whether the system's counts, and settings by cache key, each with its time."""

    patterns: dict[tuple[Path | None, bool], tuple[float, list[str] | None]] = field(default_factory=dict)
    settings: dict[object, tuple[float, SshCommand, asyncio.Future[Settings]]] = field(default_factory=dict)


_caches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Cache] = WeakKeyDictionary()


async def settings(command: SshCommand, read: ReadSettings, *, with_system: bool) -> Settings:
    """Return the settings that `read` returns for a command, or has returned for one that must have the same.

    `with_system`: the system's configuration counts, besides the user's.
    """
    config = _users_file(command)
    loop = asyncio.get_running_loop()
    cache, now = _caches.setdefault(loop, _Cache()), loop.time()
    patterns_at, patterns = cache.patterns.get((config, with_system), (-CACHE_SECONDS, None))
    if now >= patterns_at + CACHE_SECONDS:
        patterns = _read_patterns(config, with_system=with_system)
        cache.patterns[config, with_system] = now, patterns
    if patterns is None:
        return await read(command)
    names_user, names_port = command.user is not None, command.port is not None
    matches = _matches(command.host, patterns)
    key = (matches, config, with_system, command.effective_options, command.connect_timeout, names_user, names_port)
    read_at, other, reading = cache.settings.get(key, (-CACHE_SECONDS, None, None))
    if reading and other and now < read_at + CACHE_SECONDS:
        with suppress(PiError):  # the error may be about the other host only
            others_settings = await asyncio.shield(reading)
            if _is_independent_of(other.host, others_settings):
                return _adapt(others_settings, other, command)
        return await read(command)
    reading = asyncio.ensure_future(read(command))
    reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may have no waiter any more
    cache.settings[key] = now, command, reading
    return await asyncio.shield(reading)


def _users_file(command: SshCommand) -> Path | None:
    name = command.config_file or "~/.ssh/config"
    return None if name == "none" else ssh_home.expanded(name)


def _adapt(others_settings: Settings, other: SshCommand, command: SshCommand) -> Settings:
    """Return the settings for `command`, derived from those for `other`."""
    adapted = dict(others_settings) | {"host": (command.host,)}
    if others_settings.get("hostname", ("",))[0].lower() == other.host.lower():
        adapted["hostname"] = (command.host.lower(),)
    if command.user is not None:
        adapted["user"] = (command.user,)
    if command.port is not None:
        adapted["port"] = (str(command.port),)
    return adapted


def _is_independent_of(host: str, settings: Settings) -> bool:
    """Return whether a host's name is part of no setting but its own name."""
    return not any(
        host.lower() in value.lower()
        for keyword, values in settings.items()
        if keyword not in ("host", "hostname")
        for value in values
    )


def _matches(host: str, patterns: Sequence[str]) -> tuple[bool, ...]:
    """Return which patterns match the host: the cache key."""
    names = (host, host.lower())
    return tuple(fnmatchcase(name, pattern.lstrip("!")) for pattern in patterns for name in names)


def _read_patterns(config: Path | None, *, with_system: bool) -> list[str] | None:
    """Return all patterns in the files, or None if hosts differ by more than patterns."""
    files = [(config, Path.home() / ".ssh")] if config else []
    files += [(SYSTEM_CONFIG, SYSTEM_CONFIG.parent)] if with_system else []
    seen: list[Path] = []
    try:
        return [pattern for file, folder in files for pattern in _patterns(file, folder, seen)]
    except TooDynamic:
        return None


def _patterns(file: Path, folder: Path, seen: list[Path]) -> Iterator[str]:
    """Yield the arguments of `Host` and `HostName` in a file and in the files that it includes."""
    seen.append(file)
    if len(seen) > MAX_FILES:
        raise TooDynamic
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeError) as error:
        raise TooDynamic from error
    for line in lines:
        if not (match := LINE.fullmatch(line)):
            continue
        keyword, arguments = match[1].lower(), match[2].replace('"', "").split()
        if DYNAMIC_KEYWORD.fullmatch(keyword) or (keyword == "hostname" and "%" in match[2]):
            raise TooDynamic
        if keyword in ("host", "hostname"):
            yield from arguments
        elif keyword == "include":
            for argument in arguments:
                yield from _included(argument, folder, seen)


def _included(argument: str, folder: Path, seen: list[Path]) -> Iterator[str]:
    if any(sign in argument for sign in "%$"):
        raise TooDynamic
    path = folder / ssh_home.expanded(argument)
    for file in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
        yield from _patterns(file, folder, seen)
