"""Have vLLM compile while the model is downloaded: with weights that it makes up.

What vLLM compiles, and FlashInfer, Triton and others with it, does not depend on the weights. So once the small files
of a model are there, vLLM is started with `--load-format dummy` on a port of the loopback, with the very arguments and
variables of the start, and ended when it answers or when the model is there. The start then finds what was compiled.

It has the marker of the model, so that all that stops the model stops it too, and `WARM` tells the two apart. If the
agent dies, the kernel ends its server, and that its engine.

What ends a warm-up ends the start only if it would also end the real one: then it is known before the download has
taken an hour. `EXCUSED` is what may be different then.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from agent import deaths, disks, ending, gpus, home, kv_cache, memory, ports, processes, wire
from agent.machine import LOGS
from agent.processes import Process
from agent.serve_command import OFFLINE
from agent.vllm_versions import Vllm

if TYPE_CHECKING:
    from agent import protocol

WARM = "PI_WARM_UP"  # in the environment of its processes
# Anything else is small: what describes the model, its tokenizer and its own code.
WEIGHTS = (
    "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.npz", "*.tflite",
)  # fmt: skip
SETTLING = 3.0  # seconds of a download until its rate tells how long it takes
WORTH = 20.0  # seconds that are left of it: less than vLLM takes to import. PI_WARM_UP_SECONDS: less, in tests
LOOK = 1.0  # seconds between two looks at the port
GRACE = 5.0  # seconds from TERM to KILL
NICENESS = 10  # the download and other models have the processor first
EMPTY = 1024  # MiB in use of a GPU on which nothing runs
FREED = 20.0  # seconds that a driver has to take back the memory of a process that has ended
NEEDED_MEMORY = 6 * 10**9  # bytes of RAM for its processes: vLLM 0.32 takes 2.5 to 4
NEEDED_DISK = 2 * 10**9  # bytes for what is compiled
# Made-up weights are not for these: other files are loaded too, or the values have to make sense.
NOT_FOR_DUMMIES = (
    "--load-format", "--model-loader-extra-config", "--lora-modules", "--enable-lora", "--speculative-config",
    "--spec-", "--hf-overrides", "--kv-transfer-config", "--omni",
)  # fmt: skip
SOUND = ("", "fp8")  # quantisation methods whose random weights are as good as others
# Of the lines that name an error: vLLM's log has words like `tokenizer` and `dummy` in any case.
ERROR = re.compile(rb"(?:^|[ \]])(?:[A-Za-z_][A-Za-z0-9_.]{0,80})?(?:Error|Exception|error): ")
CONSEQUENCE = b"Engine core initialization failed"
EXCUSED = re.compile(
    rb"Errno 98\]|Errno 28\]|No space left|Read-only file system|No such file|FileNotFoundError|does not appear to have"
    rb"|40[13] Client Error|[Gg]ated|LocalEntryNotFound|OfflineMode|offline mode|tokenizer|dummy|load_format"
    rb"|Free memory on device"
)
# One line each of a program; 1 is PR_SET_PDEATHSIG, from linux/prctl.h.
GIVE_WAY = "\n".join(
    (
        "import ctypes, os, signal, sys",
        "os.nice(%d)" % NICENESS,
        "try: ctypes.CDLL(None).prctl(1, signal.SIGTERM)",
        "except (OSError, AttributeError): pass",
        "os.execv(sys.argv[1], sys.argv[1:])",
    )
)
MAX_CONFIG = 1 << 20
MAX_LOG = 1 << 24

Prepare = Callable[[Dict[str, str], List[str], int], Tuple[List[str], Dict[str, str]]]
"""Returns the command of vLLM and its environment: for an environment, with more arguments, on a port of loopback."""


class Failed(Exception):
    """vLLM failed with these arguments; `code` is its exit code."""

    def __init__(self, code: int, death: "protocol.DeathEvidence", pid: int) -> None:
        super().__init__(code)
        self.code = code
        self.death = death
        self.pid = pid


class Download(NamedTuple):
    """The bytes of a download that are there and in all, and where they go."""

    done: int
    total: Optional[int]
    hub: str


class WarmUp:
    """The warm-up of one start. `look` is called all the time during the download and returns at once."""

    def __init__(
        self,
        record: "protocol.Record",
        request: "protocol.StartRequest",
        settings: Dict[str, str],
        vllm: Vllm,
        prepare: Prepare,
    ) -> None:
        self._record, self._request, self._vllm, self._prepare = record, request, vllm, prepare
        self._settings = settings
        state = request["gpu_state"]
        self._gpus: "protocol.GpuState" = state or {"kind": "", "total": [], "used": []}
        whole = dict(settings, **request["environment"])
        name = kv_cache.fingerprint(dict(record, commit=""), self._gpus, whole, vllm)  # type: ignore[arg-type]
        self._done_before = os.path.join(kv_cache.folder(settings), name + ".started")
        self._log = os.path.join(LOGS, record["name"] + ".warm-up.log")
        self._began: Optional[Tuple[float, int]] = None
        self._files: "Optional[subprocess.Popen[bytes]]" = None
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self._memory: Optional[deaths.Watch] = None
        self._port = 0
        self._looked = 0.0
        self._is_over = not request["warm_up"] or request["across"] is not None
        self._has_run = self._has_failed = False
        self._worth = float(settings.get("PI_WARM_UP_SECONDS", WORTH))

    def look(self, download: Download, snapshot: Optional[str]) -> None:
        """Begin, or see how far it is; `snapshot` is the folder of the model.

        Raise `Failed` if the start would fail too.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now, download.done
        if self._is_over or now - self._looked < LOOK:
            return
        self._looked = now
        if self._process is not None:
            self._look_at_vllm()
        elif self._files is not None:
            code = self._files.poll()
            if code is not None:
                self._files = None
                if code == 0:
                    self._launch(download, snapshot or "")
                else:  # hf says the same about all files
                    self._give_up()
        elif now - self._began[0] >= min(SETTLING, self._worth) and self._seconds_left(download) >= self._worth:
            why = self._obstacle(download)
            if why is None:
                self._fetch_small_files()
            else:
                self._skip(*why)

    def _seconds_left(self, download: Download) -> float:
        assert self._began is not None
        rate = (download.done - self._began[1]) / (time.monotonic() - self._began[0])
        if download.total is None:
            return 0.0
        return (download.total - download.done) / rate if rate > 0 else float("inf")

    def _obstacle(self, download: Download) -> "Optional[Tuple[protocol.NoWarmUp, str]]":
        """Return why there is no warm-up, and the word that it is about."""
        if os.path.exists(self._done_before):
            return "warm", ""
        for argument in self._record["arguments"]:
            if argument.startswith(NOT_FOR_DUMMIES):
                return "argument", argument.partition("=")[0]
        if not self._vllm.is_for_cpu:
            if not self._gpus["used"]:
                return "unknown-gpus", ""
            if self._request["beside"] or max(self._gpus["used"]) > EMPTY:
                return "busy-gpus", ""
        size = (download.total or 0) if self._vllm.is_for_cpu else 0
        if memory.available_memory() < NEEDED_MEMORY + 2 * size:
            return "memory", ""
        if not self._has_room(download):
            return "disk", ""
        return None

    def _has_room(self, download: Download) -> bool:
        if "PI_FREE_DISK" in self._settings:  # an embedded pod: nothing is compiled
            return True
        caches = disks.existing(self._settings.get("VLLM_CACHE_ROOT") or home.HOME)
        free = disks.disk(caches)["free"]
        lacking = (download.total or 0) - download.done
        try:
            is_same = os.stat(caches).st_dev == os.stat(disks.existing(download.hub)).st_dev
        except OSError:
            return False
        return free is None or free >= NEEDED_DISK + (lacking if is_same else 0)

    def _skip(self, why: "protocol.NoWarmUp", word: str = "") -> None:
        self._is_over = True
        if why != "warm":
            wire.emit({"event": "no-warm-up", "why": why, "word": word})

    def _give_up(self) -> None:
        self._is_over = True

    def _fetch_small_files(self) -> None:
        """Download all but the weights, beside the download of everything: hf takes the files in alphabetical order."""
        settings = dict(self._settings, **self._request["download_environment"])
        settings.update({"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", WARM: "1"})
        command = [home.find_program("hf", settings), "download", self._record["model"]]
        command.append("--revision=" + (self._request["revision"] or "main"))
        for pattern in WEIGHTS:
            command += ["--exclude", pattern]
        self._files = start(command, settings, subprocess.DEVNULL)

    def _launch(self, download: Download, snapshot: str) -> None:
        method = quantisation(snapshot)
        if method not in SOUND:
            self._skip("quantised", method)
            return
        if self._seconds_left(download) < self._worth:
            self._give_up()
            return
        self._port = free_port()
        settings = dict(self._settings, **self._request["environment"])
        if not self._request["own"]:  # as in the start itself
            settings.update(OFFLINE)
        command, settings = self._prepare(settings, ["--load-format", "dummy"], self._port)
        self._memory = deaths.Watch()
        log = home.create(self._log, os.O_APPEND)
        try:
            self._process = start(command, dict(settings, **{WARM: "1"}), log)
        finally:
            os.close(log)
        self._has_run = True
        self._record["warming"] = True
        wire.emit({"event": "warm-up", "state": "began"})

    def _look_at_vllm(self) -> None:
        assert self._process is not None
        assert self._memory is not None
        self._memory.look()
        code = self._process.poll()
        if code is not None:
            self._conclude(code)
            return
        if ports.accepts(self._port) and ports.health(self._port, self._processes()) == 200:
            self.end("ready")

    def _conclude(self, code: int) -> None:
        """Fail if vLLM has refused what it would refuse again; else go on without."""
        assert self._process is not None
        assert self._memory is not None
        pid, text = self._process.pid, b""
        with contextlib.suppress(OSError):
            text = home.read_regular(self._log, MAX_LOG)
        is_fatal = 0 < code < 128 and would_end_the_start(text)
        self._has_failed = True
        self.end("ended" if is_fatal else "failed")
        if is_fatal:
            raise Failed(code, self._memory.evidence(), pid)

    def end(self, state: "protocol.WarmUpState" = "ended") -> None:
        """End it with all its processes."""
        self._is_over = True
        was_compiling = self._process is not None
        if self._files is not None or was_compiling:
            ending.end([], self._processes(), grace=GRACE)
        for process in (self._files, self._process):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
        self._files = self._process = None
        self._record.pop("warming", None)
        if was_compiling:
            wire.emit({"event": "warm-up", "state": state})

    def settle(self) -> None:
        """Wait until the GPUs are as empty as they were, before the model is loaded."""
        if not self._has_run or not self._gpus["used"]:
            return
        before = dict(zip(self._request["gpus"], self._gpus["used"]))  # noqa: B905

        def are_empty() -> bool:
            sizes = gpus.memory().sizes
            return all(sizes[gpu][0] <= used + EMPTY // 2 for gpu, used in before.items() if gpu in sizes)

        home.wait_until(are_empty, FREED)

    def hand_over_the_log(self) -> None:
        """Make the log of the warm-up that of the model, which has failed with it."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._record["log"], self._record["log"] + ".1")
        with contextlib.suppress(OSError):
            os.replace(self._log, self._record["log"])

    def remember(self) -> None:
        """Note that a start of this plan was ready: all that it needs is compiled."""
        with contextlib.suppress(OSError):
            home.write_file(self._done_before, "")
            if not self._has_failed:
                os.unlink(self._log)

    def _processes(self) -> List[Process]:
        ours = processes.marked().get(self._record["uid"], [])
        return [process for process in ours if processes.variable(process.pid, WARM)]


def would_end_the_start(log: bytes) -> bool:
    """Return whether the errors of a log would be those of the start too; not if there are none that say why."""
    lines = [line for line in log.splitlines() if ERROR.search(line[:300]) and CONSEQUENCE not in line]
    return bool(lines) and not any(EXCUSED.search(line) for line in lines)


def start(command: List[str], settings: Dict[str, str], output: int) -> "subprocess.Popen[bytes]":
    """Start a process that gives way to others, and that the kernel ends if the agent dies."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GIVE_WAY, *command],
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def free_port() -> int:
    """Return a port of the loopback that no program uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def quantisation(snapshot: str) -> str:
    """Return the method by which a model is quantised, as its configuration says; the empty string if it is not."""
    import json

    try:
        config: Any = json.loads(home.read_regular(os.path.realpath(os.path.join(snapshot, "config.json")), MAX_CONFIG))
        found = config.get("quantization_config") or config.get("text_config", {}).get("quantization_config") or {}
        return re.sub(r"[^A-Za-z0-9_-]", "", str(found.get("quant_method", "unknown")))[:40] if found else ""
    except (OSError, ValueError, AttributeError):
        return "unknown"
