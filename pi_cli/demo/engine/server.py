"""One `vllm serve`: start, serve, detect dead processes, exit."""

import asyncio
import importlib
import inspect
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

from pi_cli.demo import gpus, owner
from pi_cli.demo.engine import checks, failures, nodes, startup, web
from pi_cli.demo.engine.api import Api, KeyGuard
from pi_cli.demo.engine.cores import Cores
from pi_cli.demo.engine.cors import Cors
from pi_cli.demo.engine.failures import ARGUMENTS, BIND, CONFIG, INIT, LOAD, MEMORY, READY, WARMUP, Failed
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.log import LogWriter

Middleware = Callable[[web.App], web.App]


class EngineDied(Exception):
    """A process of the engine died; `codes` are the exit codes by name."""

    def __init__(self, codes: dict[str, int]) -> None:
        super().__init__(str(codes))
        self.codes = codes


def run(settings: Settings, version: str) -> int:
    """Start, serve until a signal, and return the exit status."""
    if settings.simulated("ignore-term") is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = Server(settings, version)
    status = asyncio.run(server.live())
    if status < 0:  # the model was still loading: die of the signal, as if it had not been caught
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return status


class Server:
    """The API server, with its port, the processes of the engine and the log."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings, self._version = settings, version
        self._home = Path.home()
        self._log = LogWriter("APIServer")
        self._cores = Cores(settings, self._home)
        self._pace = startup.pace(settings)
        self._serves = False

    async def live(self) -> int:
        """Serve until SIGTERM or SIGINT (exit status 0, or -1 while loading), or fail to start (1)."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        if self._settings.simulated("ignore-term") is None:
            loop.add_signal_handler(signal.SIGTERM, stopping.set)
        loop.add_signal_handler(signal.SIGINT, stopping.set)
        serving = asyncio.create_task(self._serve())
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        except Failed as failure:
            self._explain(failure)
            return 1
        except EngineDied as death:
            self._traceback(failures.engine_failed(death.codes))
            return 1
        finally:
            for task in (serving, stop):
                task.cancel()
            await asyncio.gather(serving, stop, return_exceptions=True)
            await self._cores.end()
        if not self._serves:
            return -1
        startup.print_shutdown(self._log)
        return 0

    async def _serve(self) -> None:
        """Start in the same order as vLLM, then serve until a process dies."""
        await self._pace.pause(0.1)
        startup.print_banner(self._log, self._settings, self._version)
        self._inject_failure(ARGUMENTS, name="nope", known="known")
        checks.arguments(self._settings)
        self._inject_failure(BIND)
        own = nullcontext() if nodes.is_node(self._settings) else self._bind()
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(own)
            await self._pace.pause(0.1)
            chosen = (
                {"CUDA_VISIBLE_DEVICES": self._settings.text("device-ids")} if self._settings.has("device-ids") else {}
            )
            available = gpus.visible(self._home, {**os.environ, **chosen})
            self._inject_failure(CONFIG, size=8, count=len(available), context=131072)
            layout = checks.lay_out(self._settings, available)
            startup.resolve(self._log, self._settings, layout)
            await self._cores.start(len(layout.memory))
            await stack.enter_async_context(nodes.met(self._settings, self._cores.worker_log()))
            await self._unless_engine_dies(self._start_engine(layout))
            if listener is None:
                await self._compute()
                return
            self._inject_failure(READY)
            work = partial(gpus.work, self._home, os.getpid(), [*layout.memory])
            app = Api(self._settings, version=self._version, context=layout.context, on_work=work)
            app.is_stopped = self._cores.is_stopped
            await self._open(app, listener)

    def _bind(self) -> socket.socket:
        """Bind the port now, but do not listen yet: connections are refused until the model is loaded."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host(), self._settings.number("port", 8000)))
        except OSError:
            listener.close()
            raise Failed(failures.PORT_BUSY) from None
        return listener

    def _host(self) -> str:
        """Return the address to listen on. An embedded pod is this machine: its models are not shown to the network."""
        return "127.0.0.1" if owner.MARKER in os.environ else self._settings.text("host")

    async def _unless_engine_dies(self, work: Coroutine[None, None, None]) -> None:
        doing, dying = asyncio.create_task(work), asyncio.create_task(self._cores.died())
        try:
            await asyncio.wait([doing, dying], return_when=asyncio.FIRST_COMPLETED)
            if dying.done():
                raise EngineDied(dying.result())
            doing.result()
        finally:
            for task in (doing, dying):
                task.cancel()
            await asyncio.gather(doing, dying, return_exceptions=True)

    async def _start_engine(self, layout: checks.MemoryLayout) -> None:
        settings, pace = self._settings, self._pace
        core, worker = self._cores.core_log(), self._cores.worker_log()
        startup.initialize(core, settings, self._version, layout)
        _, cards = gpus.installed(self._home)
        facts = {"device": "cuda:0", "free": 3.25, "total": 79.65, "wanted": 73.28}
        self._inject_failure(INIT, **facts, utilization=settings.utilization)
        checks.free_memory(layout, cards, gpus.allocations(self._home), settings.utilization)
        await self._cores.allocate(layout.memory)
        self._inject_failure(LOAD, total=79.65)
        await startup.load(worker, settings, layout, pace)
        await startup.compile_graph(worker, pace)
        self._inject_failure(MEMORY)
        startup.allocate(worker, core, settings, layout)
        self._inject_failure(WARMUP)
        await startup.capture(worker, core, settings, layout, pace)

    def _inject_failure(self, where: str, **facts: object) -> None:
        """Fail here if `--simulate fail=…` says so."""
        name = self._settings.simulated("fail") or ""
        failure = failures.KNOWN.get(name)
        if failure and failure.where == where:
            raise Failed(failure, model=self._settings.model, **facts)
        stage, victim, number = failures.DEATHS.get(name, ("", "", 0))
        if stage == where and victim == "server":
            os.kill(os.getpid(), number)
        elif stage == where:
            self._cores.kill(number)

    async def _open(self, api: Api, listener: socket.socket) -> None:
        """Listen and serve; from now on, the death of the engine makes the server unhealthy, but does not stop it."""
        app: web.App = Cors(api, self._settings.text("allowed-origins", "[]") or "[]")
        keys = self._settings.given.get("api-key") or [key for key in [os.environ.get("VLLM_API_KEY")] if key]
        if keys:
            app = KeyGuard(app, keys)
        for name in self._settings.given.get("middleware", []):
            app = _middleware(name)(app)
        startup.print_address(self._log, self._settings)
        self._log.uvicorn(f"Started server process [{os.getpid()}]")
        self._log.uvicorn("Waiting for application startup.")
        if self._settings.simulated("never-listen") is not None:
            await asyncio.Event().wait()
        self._log.unlogged = frozenset(self._settings.text("disable-access-log-for-endpoints").split(","))
        server = await web.start(app, listener, self._log)
        self._log.uvicorn("Application startup complete.")
        self._serves = True
        spam = asyncio.create_task(startup.spam(self._log, self._settings))
        try:
            await self._watch(api)
        finally:
            spam.cancel()
            server.close()

    async def _compute(self) -> None:
        """Live as a node: without a server, until a process of the engine dies."""
        dying, owned = asyncio.create_task(self._cores.died()), asyncio.create_task(_owner_gone())
        try:
            await asyncio.wait([dying, owned], return_when=asyncio.FIRST_COMPLETED)
            if dying.done():
                raise EngineDied(dying.result())
        finally:
            dying.cancel()
            owned.cancel()

    async def _watch(self, api: Api) -> None:
        """Wait for the engine to die, then for the owner of the pod."""
        codes = await self._cores.died()
        api.engine_is_alive = False
        name = next(iter(codes))
        self._log.error("core_client.py:600", f"Engine core proc {name} died unexpectedly, shutting down client.")
        await _owner_gone()

    def _explain(self, failure: Failed) -> None:
        """Print a failure as vLLM does: first the engine's, then the server's, which only refers to it."""
        if failure.where in (ARGUMENTS, BIND, CONFIG, READY):
            self._traceback(failure.text)
            return
        core = self._cores.core_log()
        source = "core.py:1510"
        core.error(source, "EngineCore failed to start.")
        core.error(source, _traceback("vllm/v1/engine/core.py", "run_engine_core", failure.text))
        core.raw("Process EngineCore:")
        core.raw(_traceback("multiprocessing/process.py", "_bootstrap", failure.text))
        self._traceback(failures.engine_failed({"EngineCore": 1}))

    def _traceback(self, text: str) -> None:
        self._log.raw(_traceback("vllm/entrypoints/cli/main.py", "main", text))


async def _owner_gone() -> None:
    while True:
        await asyncio.sleep(owner.CHECK_SECONDS)
        if not owner.is_alive():
            return


def _traceback(path: str, function: str, text: str) -> str:
    frame = f'  File "/root/venv/lib/python3.12/site-packages/{path}", line 1, in {function}'
    return f"Traceback (most recent call last):\n{frame}\n{text}"


def _middleware(name: str) -> Middleware:
    """Import an ASGI middleware class from PYTHONPATH, as `--middleware module.Class` asks."""
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    module, _, attribute = name.rpartition(".")
    middleware = getattr(importlib.import_module(module), attribute)
    if not inspect.isclass(middleware):
        raise ValueError(f"Invalid middleware {name}. Must be a function or a class.")
    return cast("Middleware", middleware)
