"""What the tools of `pi prompt` may read: the one decision that every tool asks for, for every path.

Open are the working directory and what `--allow` names. Other folders are asked for, once in a conversation, and are
refused if there is no terminal. Credentials and the kernel's own trees are closed in open folders, too. Symlinks are
resolved first, and what was opened is checked again: a link may have been replaced after the first check.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from pi_cli.chat import credentials, hard_links
from pi_cli.chat.credentials import Credentials, folded
from pi_cli.chat.paths import tool_errors
from pi_cli.chat.schema import ToolError
from pi_cli.errors import BadUsage
from pi_cli.hints import fill

# Reading these reveals other processes' secrets (`/proc/*/environ`), never ends, or has effects on a device.
CLOSED_TREES = ("/proc", "/sys", "/dev")


class Answer(StrEnum):
    """The user's answer to a question; `always` is for the folder and all folders below it."""

    yes = "yes"
    no = "no"
    always = "always here"


@dataclass(frozen=True, slots=True)
class Question:
    """The model wants to read `real`, which it calls `path`.

    `folder` is to be opened for it: the path itself or, for a file, the folder that it is in. `is_search`: with all
    folders below that one.
    """

    path: str
    real: str
    folder: str
    is_search: bool


Ask = Callable[[Question], Awaitable[Answer]]


class NotOpen(ToolError):
    """A path is outside the open folders; the user may open its folder."""

    def __init__(self, question: Question, cwd: Path) -> None:
        what = "{path} is not open to tools, because it is outside the working directory {cwd}. Continue without it, "
        remedy = "or ask the user to start `pi prompt` with `--allow {real}`"
        super().__init__(fill(what + remedy, path=question.path, cwd=str(cwd), real=question.real))
        self.question = question


class Access:
    """What the tools may read in one conversation.

    `allowed` are files and folders that the user named; a credential is open only if it is one of these files. Without
    `ask`, what is not open is refused. The private keys that `ssh_commands` name are credentials. Raises `BadUsage` for
    what cannot be allowed.
    """

    def __init__(
        self,
        cwd: Path,
        *,
        allowed: Iterable[str] = (),
        ask: Ask | None = None,
        ssh_commands: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.cwd = cwd
        self._ask = ask
        self._asking = asyncio.Lock()  # for one question at a time
        self._ssh_commands = ssh_commands
        self._environ = environ
        self._files: set[str] = set()
        self._trees: set[str] = set()  # open with all that is below them
        self._folders: set[str] = set()  # open without the folders below them
        self._refused: set[str] = set()
        self._named: list[str] = []  # what `--allow` names
        self._real_cwd = os.path.realpath(cwd)
        self._open_tree(self._real_cwd)
        for path in allowed:
            self._allow(path)

    def locate(self, path: str, *, base: Path | None = None, is_search: bool = False) -> Path:
        """Return a path from a model as an absolute one; a relative path starts from `base` or the working directory.

        Raises ToolError if the tools may not read it; for a search, if they may not read all that is below it.
        """
        with tool_errors(path):
            absolute = "/" + os.path.normpath((base or self.cwd) / Path(path).expanduser()).lstrip("/")
            self._require(absolute, os.path.realpath(absolute), path, is_search=is_search)
        return Path(absolute)

    @contextmanager
    def opened(self, path: Path, *, directory: bool = False) -> Iterator[int]:
        """Open a regular file or a directory, check what was opened, and give its descriptor.

        Nothing else is opened: a FIFO would block forever, and opening a device may have effects.
        """
        real = os.path.realpath(path)
        self._require(str(path), real, str(path))
        require_kind(os.lstat(real).st_mode, path, directory=directory)
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            require_kind(os.fstat(descriptor).st_mode, path, directory=directory)
            true = path_of(descriptor) or real
            self._require(true, true, str(path))
            if not directory and true not in self._files and self._is_unnamed(descriptor):
                raise ToolError(closed(str(path)))
            yield descriptor
        finally:
            os.close(descriptor)

    def hides(self, entry: os.DirEntry[str]) -> bool:
        """Return whether a search skips an entry of an open folder."""
        return is_kernels(entry.path) or (self.credentials.has_entry(entry) and entry.path not in self._files)

    def ripgrep_options(self) -> list[str]:
        """Return the options that make `rg` skip what is closed; no glob may follow them."""
        return self.credentials.exclusions(self._real_cwd, self._trees, also=CLOSED_TREES)

    def closes_file(self, path: str) -> bool:
        """Return whether a file is closed although its name is not: a private key, a hard link to a credential.

        `path` is that of a file that `rg` has found in an open folder.
        """
        path = path if path.startswith("/") else f"{self._real_cwd}/{path}"
        if path in self._files:
            return False
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):  # gone in the meantime
            return True
        try:
            return self._is_unnamed(descriptor)
        finally:
            os.close(descriptor)

    def _is_unnamed(self, descriptor: int) -> bool:
        """Return whether an open file is a credential that its name does not show."""
        file = os.fstat(descriptor)
        if file.st_nlink > 1 and (file.st_dev, file.st_ino) in self.linked:
            return True
        return credentials.is_private_key(os.pread(descriptor, 200, 0))

    async def permit(self, refusal: NotOpen) -> None:
        """Ask the user about a folder, or raise ToolError if there is no terminal or the user does not allow it."""
        if self._ask is None:
            raise refusal
        question = refusal.question
        async with self._asking:
            if self._is_open(question):  # by the answer for another call
                return
            if question.folder not in self._refused:
                answer = await self._ask(question)
                if answer is Answer.no:
                    self._refused.add(question.folder)
                elif answer is Answer.always or question.is_search:
                    self._open_tree(question.folder)
                else:
                    self._folders.add(question.folder)
            if not self._is_open(question):
                raise ToolError(f"{question.path} is not open to tools: the user refused access to {question.folder}")

    def description(self) -> str:
        """Return what the tools may read, as a sentence for the model."""
        others = "the user is asked about other folders" if self._ask else "other folders are closed"
        return (
            f"They can read the working directory{''.join(f', {path}' for path in self._named)}; {others}. "
            "Files with credentials, for example `.env` and private keys, are closed."
        )

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(credentials.places(self._environ, self._ssh_commands))

    @cached_property
    def linked(self) -> frozenset[hard_links.Inode]:
        """The credentials that have a second name; looking for them takes up to a fifth of a second."""
        with suppress(RuntimeError):  # of a user without a home
            return hard_links.of_credentials(self.credentials, Path("~").expanduser())
        return frozenset()

    def _require(self, path: str, real: str, shown: str, *, is_search: bool = False) -> None:
        """Raise ToolError unless a path and what it resolves to are open."""
        if is_kernels(path) or is_kernels(real):
            raise ToolError(f"{shown} cannot be read: {', '.join(CLOSED_TREES)} are closed to tools")
        if real in self._files:
            return
        if self.credentials.has(path) or self.credentials.has(real):
            raise ToolError(closed(shown))
        if self._is_in_tree(real):
            return
        is_folder = Path(real).is_dir()
        question = Question(shown, real, real if is_folder else str(Path(real).parent), is_search and is_folder)
        if not self._is_open(question):
            raise NotOpen(question, self.cwd)

    def _is_open(self, question: Question) -> bool:
        is_in_folder = question.folder in self._folders and not question.is_search
        return is_in_folder or self._is_in_tree(question.real)

    def _is_in_tree(self, path: str) -> bool:
        return any(path == tree or path.startswith(tree.rstrip("/") + "/") for tree in self._trees)

    def _allow(self, path: str) -> None:
        """Open a file or a folder that the user named."""
        try:
            real = os.path.realpath(self.cwd / Path(path or "\0").expanduser(), strict=True)
            mode = Path(real).stat().st_mode
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a usable path"
            raise BadUsage(f"cannot allow `{path}`: {reason}", hint="`--allow` takes a file or a folder") from error
        if is_kernels(real) or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise BadUsage(
                f"cannot allow `{path}`: neither a folder nor a regular file outside {', '.join(CLOSED_TREES)}",
                hint="`--allow` takes a file or a folder",
            )
        self._named.append(real)
        if stat.S_ISREG(mode):
            self._files.add(real)
        elif self.credentials.has(real):
            raise BadUsage(
                f"cannot allow `{path}`: a folder of credentials stays closed",
                hint="name the single files in it that the model may read: `--allow FILE`",
            )
        else:
            self._open_tree(real)

    def _open_tree(self, folder: str) -> None:
        """Open a folder with all that is below it, also by the name that the file system has for it (`path_of`)."""
        self._trees.add(folder)
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._trees.add(path_of(descriptor) or folder)
            finally:
                os.close(descriptor)


def is_kernels(path: str) -> bool:
    path = folded(path)
    return any(path == tree or path.startswith(f"{tree}/") for tree in CLOSED_TREES)


def closed(path: str) -> str:
    """Return the words for a model that wants to read a credential."""
    return (
        f"{path} is closed to tools, because it may hold credentials. Continue without it; only the user can open a "
        "file like this, with `pi prompt --allow FILE`"
    )


def require_kind(mode: int, path: Path, *, directory: bool) -> None:
    """Raise an error unless a mode is that of a directory, or of a regular file."""
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if directory and not stat.S_ISDIR(mode):
        raise NotADirectoryError(path)
    if not directory and stat.S_ISDIR(mode):
        raise IsADirectoryError(path)
    if not directory and not stat.S_ISREG(mode):
        raise ToolError(f"{path} is not a regular file")


def path_of(descriptor: int) -> str:
    """Return the path of an open file, or nothing if the system does not know it."""
    if hasattr(fcntl, "F_GETPATH"):  # macOS; with the letters as the file system has them
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""
