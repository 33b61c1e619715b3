"""The balancer's process: started, watched, started again when it ends, and ended with pi."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

from pi_cli.errors import PiError
from pi_cli.gateway import engine
from pi_cli.gateway.engine import Settings
from pi_cli.hints import fill
from pi_cli.store import paths
from pi_cli.store.keys import ApiKey

READY_TIMEOUT = 60.0  # seconds; it takes 0.2 to 1 on a quiet machine
READY_PAUSE = 0.05  # seconds between two looks
END_PAUSE = 0.2  # seconds between two looks whether all answers are complete
RESTARTS = 5  # in a row, each sooner than `STEADY_AFTER` after its start
STEADY_AFTER = 60.0  # seconds after which an end is no longer the fault of the start
PAUSES = (0.2, 1.0, 2.0, 4.0, 8.0)  # seconds before a restart
ERROR_LINES = 3
# What it inherits: nothing of the user's secrets, and no proxy, through which it would look for its workers.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

Metrics = Callable[[], Awaitable[engine.Counts | None]]


class Balancer:
    """The process of the balancer, over its restarts."""

    def __init__(self, python: str, settings: Settings, key: ApiKey, log: Path) -> None:
        self._python, self._settings, self._key, self._log = python, settings, key, log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self._log

    async def keep_running(self, on_ready: Callable[[], None], on_end: Callable[[str], None]) -> NoReturn:
        """Run until cancelled. Raises `PiError` if it does not start, or ends again and again."""
        clock = asyncio.get_running_loop().time
        quick_ends = 0
        while True:
            began = clock()
            try:
                await self._start()
                await self._until_ready()
                on_ready()
                how = _how(await self._running.wait())
            finally:
                await self._end()
            quick_ends = 0 if clock() - began > STEADY_AFTER else quick_ends + 1
            if quick_ends > RESTARTS:
                raise self._failure(f"the balancer ended {quick_ends} times in a row, the last time {how}")
            on_end(how)
            await asyncio.sleep(PAUSES[min(quick_ends, len(PAUSES)) - 1] if quick_ends else 0)

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process
        return self._process

    async def _start(self) -> None:
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as log:
            self._process = await self._spawn(log)
        assert self._process.stdin
        with suppress(OSError):  # it has ended already: `_until_ready` says so
            self._process.stdin.write(engine.secrets_line(self._key.value, secrets.token_hex(32)))
            await self._process.stdin.drain()

    async def _spawn(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        """Start the launcher in a session of its own: Ctrl+C is pi's, which lets answers in progress end first.

        `-I`: it imports nothing from the folder that pi was called in.
        """
        launcher = str(paths.asset(engine.LAUNCHER))
        try:
            return await asyncio.create_subprocess_exec(
                self._python,
                "-I",
                launcher,
                *engine.arguments(self._settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={name: value for name in INHERITED if (value := os.environ.get(name))},
            )
        except OSError as error:
            raise PiError(f"cannot run `{self._python}`: {error.strerror}") from error

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while not await self._listens():
                    if self._running.returncode is not None:
                        raise self._failure(f"the balancer did not start: it ended {_how(self._running.returncode)}")
                    await asyncio.sleep(READY_PAUSE)
        except TimeoutError:
            raise self._failure(f"the balancer did not start within {READY_TIMEOUT:.0f} s") from None

    async def _listens(self) -> bool:
        """Return whether both ports answer; the second is opened after the first, for the metrics."""
        for port in (self._settings.port, self._settings.metrics_port):
            try:
                _, writer = await asyncio.open_connection(self._settings.host, port)
            except OSError:
                return False
            writer.close()
        return True

    async def _end(self) -> None:
        """End it: at once if no request is in progress, else after a while for the answers."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(engine.GRACE):
                while process.returncode is None and await self._is_busy():  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(END_PAUSE)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _is_busy(self) -> bool:
        counts = await read_metrics(self._settings.metrics_port)
        return counts is not None and counts.active > 0

    def _failure(self, message: str) -> PiError:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        hint = fill("see its log, `{log}`", log=str(self._log))
        return PiError(f"{message}{f': {last[:300]}' if last else ''}", hint=hint)


async def read_metrics(port: int) -> engine.Counts | None:
    """Ask the balancer for its metrics; None if it does not answer."""
    import httpx2

    from pi_cli.models import plain_http

    with suppress(httpx2.HTTPError):
        async with httpx2.AsyncClient(transport=plain_http.direct(), trust_env=False, timeout=2.0) as client:
            response = await client.get(f"http://{engine.HOST}:{port}/metrics")
            if response.status_code == 200:
                return engine.read_metrics(response.text)
    return None


def free_port() -> int:
    """Return a port of the loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((engine.HOST, 0))
        return int(probe.getsockname()[1])


def why_taken(port: int) -> str | None:
    """Return why a port of the loopback cannot be listened on, None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((engine.HOST, port))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return None


def _how(code: int) -> str:
    """Return how a process has ended.

    >>> _how(1), _how(-9)
    ('with exit code 1', 'by SIGKILL')
    """
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
