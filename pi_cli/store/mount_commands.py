"""What a mount command of a user mounts, and where; it may be a provider's whole recipe.

The folder is taken from the command that mounts, whose options are known or follow from the number of its operands.
Paths elsewhere, such as log files, caches, keys and /etc/fstab, are not the folder.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import PurePosixPath

from pi_cli.store import shell_commands
from pi_cli.store.mount_tools import TOOLS, Tool
from pi_cli.store.shell_commands import HOME, UNKNOWN, Command


class Unclear(ValueError):
    """A command does not say where it mounts; the text says why."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted where. `~` is the home on the pod; an empty target is one that only the pod knows."""

    target: str = ""
    source: str = ""
    kind: str = ""  # of file system: `nfs`, `cifs`, …; `fuse` for a program of its own

    @property
    def shown_source(self) -> str:
        """Return the source as the kernel will show it; empty if it shows another one."""
        is_shown = self.source.startswith("/dev/") or (self.kind in ("nfs", "lustre") and ":/" in self.source)
        return self.source if is_shown else ""


_MOUNT_HELPER = re.compile(r"mount\.(?!sh$|bash$|py$|pl$)([\w-]+)")  # `mount.nfs4`; not a script
_WEED = re.compile(r"--?dir(?:=(.*))?")  # of `weed mount`

_KEYWORDS = {
    "if",
    "then",
    "else",
    "elif",
    "while",
    "until",
    "do",
    "!",
    "{",
    "time",
    "command",
    "exec",
    "nohup",
    "setsid",
}
_WRAPPERS = {  # programs that run another one: their options with a value, and how many operands come before it
    "sudo": ("-u -g -h -p -C -T -D -R -U -r -t --user --group", 0),
    "doas": ("-u -C", 0),
    "env": ("-u -C -S --unset --chdir", 0),
    "timeout": ("-k -s --kill-after --signal", 1),
    "nice": ("-n", 0),
    "ionice": ("-c -n", 0),
    "stdbuf": ("-i -o -e", 0),
    "flock": ("-w -E -c", 1),
}
_SHELLS = {"sh", "bash", "dash", "zsh"}
_OTHER_PROGRAMS = re.compile(  # of a recipe: none of them mounts
    r"[.:}]|\[\[?|apk|apt(-get)?|awk|cat|cd|ch(grp|mod|own)|cp|cryptsetup|curl|df|dnf|done?|dpkg|echo|exit|export|false"
    r"|fdisk|fi|findmnt|for|gpg|grep|id|install|ln|ls|lsblk|mkdir|mke2fs|mkfs(\.\w+)?|modprobe|mountpoint|mv|parted|pip3?"
    r"|printf|pwd|resize2fs|rm|rmdir|sed|service|set|sleep|snap|source|ssh-keyscan|stat|systemctl|tar|tee|test|touch|true"
    r"|umount|unzip|update-ca-certificates|user(add|mod)|vgchange|wget|which|xfs_growfs|yum"
)
_INTERPRETERS = {*_SHELLS, "python", "python3", "perl", "uv", "uvx"}
_MOUNT_VALUES = {"o", "t", "L", "U", "T", "O", "N"}
_MOUNT_OPTIONS = {  # `mount`'s long options with a value, as the short one
    "--options": "o",
    "--types": "t",
    "--label": "L",
    "--uuid": "U",
    "--fstab": "T",
    "--test-opts": "O",
    "--namespace": "N",
    "--source": "source",
    "--target": "target",
    "--target-prefix": "prefix",
}
_CHANGES = {
    "--move",
    "-M",
    "--make-shared",
    "--make-slave",
    "--make-private",
    "--make-unbindable",
    "-l",
    "--show-labels",
}
_CHANGES |= {
    "--make-rshared",
    "--make-rslave",
    "--make-rprivate",
    "--make-runbindable",
    "-V",
    "--version",
    "-h",
    "--help",
}
_MOST_UNKNOWN = 8  # options whose number of words is not known; each doubles what has to be tried


def read(command: str, models_path: str | None = None) -> Mount:
    """Return what a command mounts for the models; raise `ValueError` for an open quote, `Unclear` if it does not say.

    With a models path, the command need not say it.

    >>> read("apt install -y nfs-common; mount h:/x ~/m; echo 'h:/x /m nfs' >> /etc/fstab")
    Mount(target='~/m', source='h:/x', kind='nfs')
    >>> read("rclone mount --daemon r:m /mnt/m --cache-dir /var/cache/rclone > /var/log/rclone.log 2>&1 &").target
    '/mnt/m'
    """
    commands = list(_unwrapped(shell_commands.read(command)))
    try:
        return _chosen(list(_mounts(commands)), models_path)
    except Unclear:
        if models_path:
            return Mount()
        raise


def _chosen(mounts: list[Mount], models_path: str | None) -> Mount:
    """Return the mount that is for the models."""
    if models_path:
        around = [mount for mount in mounts if _is_within(models_path, mount.target)]
        mounts = [max(around, key=lambda mount: len(mount.target))] if around else mounts
    sources = [source for mount in mounts for source in mount.source.split(":")]
    last = [mount for mount in mounts if not any(_is_within(source, mount.target) for source in sources)]
    mounts = list({mount.target: mount for mount in last or mounts}.values())
    if not mounts:
        raise Unclear("it names no folder to mount on")
    if len(mounts) > 1:
        raise Unclear("it mounts more than one folder")
    if not mounts[0].target:
        raise Unclear("it names no absolute path to mount on")
    return mounts[0]


def _is_within(path: str, folder: str) -> bool:
    return bool(folder) and PurePosixPath(path).is_relative_to(folder)


def _unwrapped(commands: Iterable[Command]) -> Iterator[Command]:
    """Take away what only runs another command: sudo, env, timeout, `bash -c` …"""
    for command in commands:
        words = command.words
        while words:
            name = words[0].rsplit("/", 1)[-1]
            if name in _KEYWORDS:
                words = words[1:]
            elif name in _WRAPPERS:
                words = _without_wrapper(words[1:], *_WRAPPERS[name])
            elif name in {*_SHELLS, "su"} and (script := _script(words)) is not None:
                yield from _unwrapped(shell_commands.read(script.replace(HOME, "$HOME").replace(UNKNOWN, "$UNKNOWN")))
                words = []
            elif name == "eval":
                yield from _unwrapped(shell_commands.read(" ".join(words[1:])))
                words = []
            else:
                break
        command.words = words
        if words or command.text or command.files:
            yield command


def _without_wrapper(words: Sequence[str], valued: str, operands: int) -> list[str]:
    left = list(words)
    while left and (left[0].startswith("-") or re.match(r"[A-Za-z_]\w*=", left[0])):
        option = left.pop(0)
        if option == "--":
            break
        if option in valued.split() and left:
            left.pop(0)
    return left[operands:]


def _script(words: Sequence[str]) -> str | None:
    """Return the text that a shell runs: `bash -lc TEXT`."""
    for option, text in pairwise(words[1:]):
        if not option.startswith("-") and words[0] != "su":
            return None
        if re.fullmatch(r"-[a-z]*c[a-z]*", option):
            return text
    return None


def _mounts(commands: Sequence[Command]) -> Iterator[Mount]:
    """Yield what the commands mount; a program that is not known counts if no known one is there."""
    entries = list(_fstab_entries(commands))
    mounts = [mount for command in commands for mount in _known(command, entries)]
    if not mounts and any(map(_mounts_all, commands)):
        mounts = entries
    yield from mounts or (mount for command in commands for mount in _by_other_program(command))


def _fstab_entries(commands: Sequence[Command]) -> Iterator[Mount]:
    """Yield the entries that the commands add to /etc/fstab."""
    for index, command in enumerate(commands):
        files = [*command.files, *(commands[index + 1].words if command.is_piped and index + 1 < len(commands) else ())]
        if "/etc/fstab" not in [*files, *(command.words if command.words[:1] == ["tee"] else ())]:
            continue
        text = "\n".join([command.text, *command.words[1:]] if command.words[:1] != ["tee"] else [command.text])
        for line in text.replace("\\n", "\n").replace("\\t", "\t").splitlines():
            fields = line.split()
            if len(fields) >= 3 and _is_path(fields[1]) and not line.lstrip().startswith("#"):
                yield _mount(fields[1], fields[0], fields[2])


def _mounts_all(command: Command) -> bool:
    return command.words[:1] == ["mount"] and any(re.fullmatch(r"--all|-[a-zA-Z]*a[a-zA-Z]*", w) for w in command.words)


def _known(command: Command, entries: Sequence[Mount]) -> Iterator[Mount]:
    name = command.words[0].rsplit("/", 1)[-1] if command.words else ""
    words = command.words[1:]
    if name == "mount":
        yield from _by_mount(words, entries)
    elif (kind := _MOUNT_HELPER.fullmatch(name)) is not None:
        yield from _by_mount(["-t", kind[1], *words], entries)
    elif name == "systemctl" and words[:1] in (["start"], ["restart"]):
        yield from (_mount(_unit_path(word)) for word in words[1:] if word.endswith(".mount"))
    elif name == "weed" and words[:1] == ["mount"]:
        found = [(_WEED.fullmatch(word), following) for word, following in pairwise([*words, ""])]
        targets = [option[1] if option[1] is not None else following for option, following in found if option]
        yield from (_mount(target, "", "fuse") for target in targets)
    elif name in TOOLS:
        yield from _by_tool(TOOLS[name], words)


def _unit_path(unit: str) -> str:
    path = unit.removesuffix(".mount").replace("-", "/")
    return "/" + re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), path)


def _by_mount(words: Sequence[str], entries: Sequence[Mount]) -> Iterator[Mount]:
    """Read the arguments of `mount`."""
    operands, options = _mount_arguments(words)
    if "remount" in options.get("o", "").split(",") or _CHANGES & set(words):
        return
    if len(operands) > 2:
        operands = [word for word in operands if word != UNKNOWN]
    source = options.get("source") or options.get("L") or options.get("U") or ""
    target = options.get("target", "")
    if not source and (len(operands) + bool(target) > 1 or (operands and _is_source(operands[0]))):
        source = operands.pop(0)
    target = target or "".join(operands[:1])
    if not (target or source):
        return
    for entry in entries:  # `mount /mnt/models`, after the entry was added
        if entry.target == _mount(target).target or (not target and entry.source == source):
            target = entry.target.replace("~", HOME, 1)
            source, options = source or entry.source, {"t": entry.kind} | options
    yield _mount(target if len(operands) <= 1 else "", source, options.get("t", ""))


def _is_source(word: str) -> bool:
    """Return whether a single operand of `mount` is the device or share of an entry in /etc/fstab."""
    return word.startswith(("/dev/", "//")) or not _is_path(word)


def _mount_arguments(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the operands of `mount`, and the last value of each option."""
    operands: list[str] = []
    options: dict[str, str] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        name, has_value, value = word.partition("=")
        if word == "--":
            operands += left
            break
        if name in _MOUNT_OPTIONS:
            options[_MOUNT_OPTIONS[name]] = value if has_value else "".join(left[:1])
            del left[: not has_value]
        elif re.match(r"-[^-]", word):
            index = next((index for index, char in enumerate(word) if index and char in _MOUNT_VALUES), 0)
            if index:
                options[word[index]] = word[index + 1 :] or "".join(left[:1])
                del left[: not word[index + 1 :]]
        elif not word.startswith("-"):
            operands.append(word)
    return operands, options


def _by_tool(tool: Tool, words: Sequence[str]) -> Iterator[Mount]:
    """Yield where a program mounts: its last operand, if all ways to read its options that are possible agree on it."""
    if tool.subcommands:
        index = next((index for index, word in enumerate(words) if word in tool.subcommands), None)
        if index is None:
            return
        words = words[index + 1 :]
    found = {
        (operands[-1], operands[-2] if len(operands) > 1 else "")
        for operands in _possible_operands(tool, words)
        if len(operands) in tool.operands
        and _is_path(operands[-1])
        and all(re.fullmatch(tool.source, word, re.DOTALL) for word in operands[:-1])
    }
    if words:
        yield _mount(*found.pop(), "fuse") if len({target for target, _ in found}) == 1 else Mount()


def _possible_operands(tool: Tool, words: Sequence[str]) -> Iterator[list[str]]:
    flags, valued = tool.flags.split(), tool.valued.split()
    unknown = [
        index
        for index, (word, following) in enumerate(pairwise([*words, "-"]))
        if re.match(r"-[^=]+$", word) and word not in (*flags, *valued, "--") and not following.startswith("-")
    ]
    for choice in product((False, True), repeat=len(unknown)) if len(unknown) <= _MOST_UNKNOWN else ():
        takes_value = dict(zip(unknown, choice, strict=True))
        operands: list[str] = []
        is_value = False
        for index, word in enumerate(words):
            if is_value:
                is_value = False
            elif word.startswith("-") and len(word) > 1:
                is_value = takes_value.get(index, word in valued)
            else:
                operands.append(word)
        yield operands


def _by_other_program(command: Command) -> Iterator[Mount]:
    """Yield the only absolute path that a program of unknown purpose gets, such as a script of the user's."""
    name, *words = command.words or [""]
    name = name.rsplit("/", 1)[-1]
    if not name or _OTHER_PROGRAMS.fullmatch(name) or name in {*TOOLS, "weed", "mount"}:
        return
    paths = [word for before, word in pairwise(["", *words]) if _is_path(word) and not before.startswith("-")]
    if name in _INTERPRETERS:
        paths = paths[1:]
    if len({*paths}) == 1:
        yield _mount(paths[0])
    elif paths:
        yield Mount()


def _is_path(word: str) -> bool:
    return word.startswith(("/", HOME))


def _mount(target: str, source: str = "", kind: str = "") -> Mount:
    """Return a mount without what only the pod knows."""
    if not _is_path(target) or UNKNOWN in target or HOME in target[1:] or "\n" in target:
        target = ""
    if UNKNOWN in source or HOME in source:
        source = ""
    if not kind and re.match(r"[^/]+:/", source) and "://" not in source:
        kind = "nfs"
    if kind.startswith("nfs"):
        kind = "nfs"
    elif kind in ("cifs", "smb3") or (not kind and source.startswith("//")):
        kind = "cifs"
    return Mount(target.replace(HOME, "~").rstrip("/"), source, kind)
