"""The processes of the engine, managed by the server: start them, detect their death, stop them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.log import LogWriter

CORE = Path(__file__).with_name("core.py")


class Cores:
    """`VLLM::EngineCore`, and one worker for each of several GPUs; without workers it allocates the memory itself."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self._settings, self._home = settings, home
        self._names = home / ".demo" / "names"
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, gpu_count: int) -> None:
        """Start the processes, without GPU memory."""
        workers = [f"Worker_TP{rank}" for rank in range(gpu_count)] if gpu_count > 1 else []
        for name in ("EngineCore", *workers):
            await self._start(name)

    async def allocate(self, memory: dict[int, int]) -> None:
        """Allocate memory: MiB by GPU, one GPU for each worker."""
        workers = list(self._processes.values())[-len(memory) :]
        for process, (gpu, mib) in zip(workers, memory.items(), strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({gpu: mib}).encode() + b"\n")
            await process.stdout.readline()

    def core_log(self) -> LogWriter:
        """Return the log of the engine core."""
        return LogWriter("EngineCore", self._processes["EngineCore"].pid)

    def worker_log(self) -> LogWriter:
        """Return the log of the process that loads the model first."""
        name = "Worker_TP0" if len(self._processes) > 1 else "EngineCore"
        return LogWriter(name, self._processes[name].pid)

    def kill(self, number: int) -> None:
        """Kill the engine core with a signal."""
        _send(self._processes["EngineCore"], signal.Signals(number))

    def is_stopped(self) -> bool:
        """Return whether the engine core was stopped (SIGSTOP): it lives, and does nothing."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self._processes['EngineCore'].pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"
        return False

    async def died(self) -> dict[str, int]:
        """Wait until a process exits; return the exit codes by name."""
        waiting = {asyncio.create_task(process.wait()): name for name, process in self._processes.items()}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return {waiting[task]: task.result() for task in done}

    async def end(self) -> None:
        """Send SIGTERM to all processes, and SIGKILL after two seconds."""
        exits = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        for process in self._processes.values():
            _send(process, signal.SIGTERM)
        if exits:
            await asyncio.wait(exits, timeout=2)
        for process in self._processes.values():
            _send(process, signal.SIGKILL)
        await asyncio.gather(*exits)

    async def _start(self, name: str) -> None:
        title = f"VLLM::{name}"
        options = ["ignore-term"] if self._settings.simulated("ignore-term") is not None else []
        process = await asyncio.create_subprocess_exec(
            *[title, "-I", "-S", str(CORE), str(self._home), *options],
            executable=self._python_named(title),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": f"{self._names}:{os.environ.get('PATH', '')}"},
            start_new_session=self._settings.simulated("engine-setsid") is not None,
        )
        self._processes[name] = process
        assert process.stdout is not None
        await process.stdout.readline()

    def _python_named(self, title: str) -> Path:
        """Link Python under the name that `ps` should show; Python finds itself on PATH by that name."""
        self._names.mkdir(parents=True, exist_ok=True)
        link = self._names / title
        with contextlib.suppress(FileExistsError):
            link.symlink_to(Path(sys.executable).resolve())
        return link


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
