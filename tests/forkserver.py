"""Run `pi` without starting Python for every call: a process that has imported all of pi forks for each.

A fork is what `python -m pi_cli` becomes once its imports are done, with an environment, a folder, streams, signals and
an end of its own. What it cannot tell is whether pi imports what it needs: for that every command runs as a new process
too, in `tests/commands/test_new_processes.py`.
"""

import gc
import importlib
import json
import locale
import os
import pkgutil
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pi_cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = Path(__file__).parent.parent
LARGEST_REQUEST = 1 << 17
HELD_BY_A_PIPE = 1 << 16  # bytes written before anybody reads
FOR_PYTHON = ("PYTHON", "LC_", "LANG")  # variables that Python looks at when it starts
# What pi imports when it comes to need it, but huggingface_hub, which reads the environment when it is imported.
LIBRARIES = (
    "filelock", "httpx2", "openai", "platformdirs", "prompt_toolkit", "rich.live", "rich.spinner",
    "rich.table", "yaml",
)  # fmt: skip


def in_a_new_process(
    words: Sequence[str], *, input: str, timeout: float, environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run `pi` as people do."""
    command = [sys.executable, "-m", "pi_cli", *words]
    return subprocess.run(
        command, input=input, capture_output=True, text=True, timeout=timeout, check=False, env=environ
    )


class Forkserver:
    """The process that forks, until the block ends."""

    def __enter__(self) -> Self:
        self._for_python = _for_python(os.environ)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forkserver", str(theirs.fileno())]
            # Python looks at its streams when it starts, and the forks will have pipes.
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, pass_fds=[theirs.fileno()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.close()
        with self._process:
            self._process.wait()

    def run(
        self, words: Sequence[str], *, input: str, timeout: float, environ: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run `pi` in a fork; in a new process where it is to differ from ours in what Python looks at."""
        if _for_python(environ) != self._for_python or len(input) > HELD_BY_A_PIPE // 4:
            return in_a_new_process(words, input=input, timeout=timeout, environ=environ)
        request = json.dumps([list(words), dict(environ), str(Path.cwd())]).encode()
        with ExitStack() as ours:
            stdout, stderr, ended = self._ask(request, input.encode(locale.getencoding()), ours)
            pid, end = int(ended.readline()), b""
            try:
                out, err, end = _read((stdout, stderr, ended), time.monotonic() + timeout)
            finally:
                if not end:
                    os.kill(pid, signal.SIGKILL)
                    ended.readline()
        if not end:
            raise subprocess.TimeoutExpired(["pi", *words], timeout, out, err)
        return subprocess.CompletedProcess(["pi", *words], int(end), _text(out), _text(err))

    def _ask(self, request: bytes, input: bytes, ours: ExitStack) -> list[IO[bytes]]:
        """Have a fork made, and return what tells of it: its two streams, and its PID and exit code, a line each."""
        (stdin, feed), *outputs = (os.pipe() for _ in range(4))
        reads: list[IO[bytes]] = [ours.enter_context(os.fdopen(read, "rb", buffering=0)) for read, _ in outputs]
        theirs = [stdin, *(write for _, write in outputs)]
        try:
            os.write(feed, input)
            socket.send_fds(self._requests, [request], theirs)
        finally:
            for end in (feed, *theirs):
                os.close(end)
        return reads


def _for_python(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(FOR_PYTHON)}


def _read(files: Sequence[IO[bytes]], deadline: float) -> list[bytes]:
    """Read files to their ends, or until the deadline."""
    contents = dict.fromkeys(files, b"")
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                ready: Any = key.fileobj
                chunk = ready.read(HELD_BY_A_PIPE)
                contents[ready] += chunk
                if not chunk:
                    selector.unregister(ready)
    return list(contents.values())


def _text(output: bytes) -> str:
    return output.decode(locale.getencoding()).replace("\r\n", "\n").replace("\r", "\n")


def main() -> None:
    """Import all of pi, and be pi in every fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # we end when the socket is closed
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the watchers
    import_all()
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must not fork")
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        call = _next_call(requests)
    if call:
        _be_pi(*call)


def import_all() -> None:
    """Import all of pi and its libraries, so that a fork has nothing left to import."""
    for name in (*LIBRARIES, *(module.name for module in pkgutil.walk_packages(pi_cli.__path__, "pi_cli."))):
        if not name.endswith(".__main__"):
            importlib.import_module(name)


def _next_call(requests: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Fork for each request, and return in the fork what it asks for; nothing when the requests have ended."""
    while True:
        request, ends, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 4)
        if not request:
            return None
        if os.fork() == 0:
            _fork_and_watch(*ends)
            words, environ, folder = json.loads(request)
            return words, environ, folder
        for end in ends:
            os.close(end)


def _fork_and_watch(stdin: int, stdout: int, stderr: int, told: int) -> None:
    """Fork once more and return there, with these streams; here, tell its PID, and how it ends when it does."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        os.write(told, f"{pid}\n".encode())
        os.closerange(0, told)  # streams end with those who use them
        _, status = os.waitpid(pid, 0)
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    for descriptor, end in enumerate((stdin, stdout, stderr)):
        os.dup2(end, descriptor)
        os.close(end)
    os.close(told)


def _be_pi(words: list[str], environ: dict[str, str], folder: str) -> None:
    """Become what `python -m pi_cli` is, and end as it does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = folder
    sys.argv[1:] = words
    runpy.run_module("pi_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
