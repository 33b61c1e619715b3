"""Run `pi` without starting Python for every call: a process that has imported all of pi forks for each.

A fork is what `python -m pi_cli` becomes once its imports are done, with an environment, a folder, streams, signals and
an end of its own. What it cannot tell is whether pi imports what it needs: for that every command runs as a new process
too, in `tests/commands/test_new_processes.py`.
"""

import gc
import importlib
import io
import json
import locale
import os
import pkgutil
import random
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from fcntl import ioctl
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

import pi_cli
from pi_cli.pods import agent_program

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Process: TypeAlias = "Forked | subprocess.Popen[Any]"

ROOT = Path(__file__).parent.parent
NEW = (sys.executable, "-m", "pi_cli")
LARGEST_REQUEST = 1 << 17
HELD_BY_A_PIPE = 1 << 16  # bytes written before they are read
FOR_PYTHON = ("PYTHON", "LC_", "LANG")  # variables that Python looks at when it starts
# What pi, or a library that it uses, imports when it comes to need it; but not what reads the environment when it is
# imported: huggingface_hub and typer.rich_utils.
LIBRARIES = (
    "anyio._backends._asyncio", "concurrent.futures.thread", "encodings.idna", "filelock", "httpcore2", "httpx2",
    "openai", "platformdirs", "prompt_toolkit", "rich.live", "rich.markdown", "rich.spinner", "rich.syntax",
    "rich.table", "rich.traceback", "typer._click.decorators", "yaml",
)  # fmt: skip


def in_a_new_process(
    words: Sequence[str], *, input: str, timeout: float, environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run `pi` as people do."""
    return subprocess.run(
        [*NEW, *words], input=input, capture_output=True, text=True, timeout=timeout, check=False, env=environ
    )


class Forked:
    """A fork that is `pi`, with what tests need of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], streams: Sequence[IO[Any] | None], ended: IO[bytes]) -> None:
        self.args = ["pi", *words]
        self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._ended = ended
        self.pid = int(ended.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, or `None` while it runs."""
        if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
            self.returncode = int(self._ended.readline())
            self._ended.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when there is one; raise `subprocess.TimeoutExpired` if there is none in time."""
        if self.returncode is None:
            select.select([self._ended], [], [], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forkserver:
    """The process that forks: started when it is first needed, and ended by `close`."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._requests: socket.socket | None = None

    def close(self) -> None:
        if self._requests:
            self._requests.close()
            with self._process:
                self._process.wait()

    def run(
        self, words: Sequence[str], *, input: str, timeout: float, environ: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run `pi` in a fork; in a new process where a fork cannot be like one."""
        if not self._can(environ) or len(input) > HELD_BY_A_PIPE // 4:
            return in_a_new_process(words, input=input, timeout=timeout, environ=environ)
        stdin, feed = os.pipe()
        try:
            os.write(feed, input.encode(locale.getencoding()))
            forked = self.start(words, stdin=stdin, text=False, environ=environ)
        finally:
            os.close(feed)
            os.close(stdin)
        with forked:
            deadline = time.monotonic() + timeout
            try:
                out, err = _read([stream for stream in (forked.stdout, forked.stderr) if stream], deadline)
                code = forked.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as late:
                raise subprocess.TimeoutExpired(late.cmd, timeout, out, err) from None
            finally:
                forked.kill()
        return subprocess.CompletedProcess(["pi", *words], code, _text(out), _text(err))

    def start(
        self,
        words: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        text: bool = True,
        own_session: bool = False,
        terminal: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `pi`, in a session of its own or with a terminal of its own if asked; the streams are descriptors."""
        environ = os.environ if environ is None else environ
        own_session = own_session or terminal is not None
        if not self._can(environ):
            take = None if terminal is None else partial(ioctl, terminal, termios.TIOCSCTTY, 0)
            return subprocess.Popen(
                [*NEW, *words],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=text,
                env=environ,
                start_new_session=own_session,
                preexec_fn=take,  # noqa: PLW1509 - there is no other way to a terminal of its own
            )
        given, streams = [stdin], list[IO[Any] | None]()
        with ExitStack() as theirs:
            for descriptor in (stdout, stderr):
                read, write = os.pipe() if descriptor == subprocess.PIPE else (None, descriptor)
                streams.append(None if read is None else os.fdopen(read, "r" if text else "rb"))
                given.append(write)
                if read is not None:
                    theirs.callback(os.close, write)
            null = os.open(os.devnull, os.O_RDWR)
            theirs.callback(os.close, null)
            given = [null if each == subprocess.DEVNULL else each for each in given]
            on = None if terminal is None else given.index(terminal)
            return Forked(words, streams, self._fork(words, environ, given, own_session=own_session, terminal=on))

    def _can(self, environ: Mapping[str, str]) -> bool:
        """Tell whether a fork is like a new process: Python looks at some variables when it starts."""
        # The libraries of macOS do not work after a fork.
        return sys.platform == "linux" and _for_python(environ) == _for_python(self._environ)

    def _fork(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        *,
        own_session: bool = False,
        terminal: int | None = None,
    ) -> IO[bytes]:
        """Have a fork made with these three streams, and return what tells its PID and its exit code, a line each."""
        if not self._requests:
            self._requests = self._begin()
        request = json.dumps([list(words), dict(environ), str(Path.cwd()), own_session, terminal]).encode()
        read, write = os.pipe()
        try:
            socket.send_fds(self._requests, [request], [*streams, write])
        finally:
            os.close(write)
        return os.fdopen(read, "rb", buffering=0)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forkserver", str(theirs.fileno())]
            # Python looks at its streams when it starts, and most forks will have pipes.
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=-1, stdout=-1, pass_fds=[theirs.fileno()], env=self._environ
            )
        return ours


FORKSERVER = Forkserver()  # of this process; `tests/conftest.py` ends it


def _for_python(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(FOR_PYTHON)}


def _read(files: Sequence[IO[bytes]], deadline: float) -> list[bytes]:
    """Read files to their ends, or until the deadline."""
    contents = {file: bytearray() for file in files}
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                ready: Any = key.fileobj
                chunk = ready.read1(HELD_BY_A_PIPE)
                contents[ready] += chunk
                if not chunk:
                    selector.unregister(ready)
    return [bytes(content) for content in contents.values()]


def _text(output: bytes) -> str:
    return output.decode(locale.getencoding()).replace("\r\n", "\n").replace("\r", "\n")


def main() -> None:
    """Import all of pi, and be pi in every fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # we end when the socket is closed
    gc.disable()  # imports leave little to collect, and a hundred collections would look for it
    import_all()
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must not fork")
    gc.collect()
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        call = _next_call(requests)
    if call:
        _be_pi(*call)


def import_all() -> None:
    """Import all of pi and its libraries, and pack the agent, so that a fork has neither left to do."""
    for name in (*LIBRARIES, *(module.name for module in pkgutil.walk_packages(pi_cli.__path__, "pi_cli."))):
        if not name.endswith(".__main__"):
            importlib.import_module(name)
    for operations in agent_program.MODULES.values():
        for operation in operations or ():
            agent_program.packed(operation)


def _next_call(requests: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Fork for each request, and return in the fork what it asks for; nothing when the requests have ended.

    Whoever has asked is told the PID of the fork, and how it ends when it does.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data:
                    _tell_the_end(selector, key)
                    continue
                request, ends, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 4)
                if not request:
                    return None
                *streams, told = ends
                pid = os.fork()
                if pid == 0:
                    _close_what_watches_others(selector)
                    os.close(told)
                    return _take_over(streams, *json.loads(request))
                _tell(told, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))
                for end in streams:
                    os.close(end)


def _tell_the_end(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pid, told = key.data
    selector.unregister(key.fd)
    os.close(key.fd)
    _, status = os.waitpid(pid, 0)
    _tell(told, os.waitstatus_to_exitcode(status))
    os.close(told)


def _tell(told: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(told, f"{number}\n".encode())


def _close_what_watches_others(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        if key.data:
            os.close(key.fd)
            os.close(key.data[1])


def _take_over(
    streams: Sequence[int],
    words: list[str],
    environ: dict[str, str],
    folder: str,
    own_session: bool,
    terminal: int | None,
) -> tuple[list[str], dict[str, str], str]:
    """Take these streams, and the session and terminal that were asked for."""
    for descriptor, end in enumerate(streams):
        os.dup2(end, descriptor)
        os.close(end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=os.isatty(1))
    if own_session:
        os.setsid()
    if terminal is not None:
        ioctl(terminal, termios.TIOCSCTTY, 0)
    return words, environ, folder


def _be_pi(words: list[str], environ: dict[str, str], folder: str) -> None:
    """Become what `python -m pi_cli` is, and end as it does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in (
        "SIGINT",
        "SIGHUP",
    ):  # the shell of a script ignores the first for background commands, nohup the other
        if os.environ.pop(f"TESTS_IGNORE_{name}", ""):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.path[0] = folder
    sys.argv[1:] = words
    runpy.run_module("pi_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
