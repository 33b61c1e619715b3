"""Ask the pod's vLLM whether it accepts the arguments of a start, while the model is downloaded.

`remote/parse_arguments.py`, which pi sends, runs in vLLM's own Python with the words of the command. It takes as long
as the import of vLLM (4 to 12 seconds), so it runs beside the download, which it stops if vLLM refuses the words.

When it is asked:

- **Arguments of the user** always: also without a download, where the start then waits for the answer, and still fails
  in a fraction of the time that vLLM would take to say the same.
- **Arguments of pi** only during a download, and the start does not wait for the answer: they are tested against vLLM's
  parser, so only a vLLM that is much older or newer can refuse them.
- **Accepted arguments** are not asked about again: `~/.pi/checked` has an empty file for each, named by a hash of them
  and of the vLLM, so an update of vLLM or of a package beside it counts as another one. Refused ones are.

If there is no answer, because the program fails or takes too long, the start continues, and vLLM itself decides.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional

from agent import home, machine, records, serve_command, wire
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

LIMIT = 60.0  # seconds of waiting: importing vLLM takes 4 to 12, from a network file system several times as long
LOOK = 0.05  # seconds between two checks for the answer
REPORTED_AFTER = 0.5  # seconds of waiting for the answer
KEPT = 100  # verdicts
MAX_ANSWER = 1 << 16  # bytes; the options of vLLM 0.32 take 11,000
CHECKED = os.path.join(machine.PLACE, "checked")
SECRETS = ("VLLM_API_KEY", "PI_OTHER_API_KEYS")  # of the server's environment
# It only parses: neither the Hub nor the usage statistics are contacted.
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


class Question:
    """The question about the arguments of one start. Each call returns at once, but `settle`."""

    def __init__(self, record: "protocol.Record", request: "protocol.StartRequest", settings: Dict[str, str]) -> None:
        self._record = record
        self._is_own = request["own"]
        self._parser = wire.unpacked(request["parser"])
        self._settings = {
            name: value for name, value in dict(settings, **request["environment"]).items() if name not in SECRETS
        }
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self._answer = b""
        self._verdict = ""
        self._was_killed = False

    def ask(self) -> None:
        """Begin to ask vLLM, unless that is known, or not possible."""
        program = shutil.which("vllm", path=self._settings["PATH"])
        python = python_of(program) if program else None
        if self._process or not program or not python or "--omni" in self._record["arguments"]:
            return  # with `--omni`, vLLM hands the words to another program
        self._verdict = os.path.join(CHECKED, fingerprint(program, self._record["arguments"]))
        if os.path.exists(self._verdict):
            with contextlib.suppress(OSError):
                os.utime(self._verdict)
            return
        with contextlib.suppress(OSError):  # a Python that cannot be run
            self._process = subprocess.Popen(
                [python, "-c", self._parser],
                bufsize=0,
                env=dict(self._settings, **QUIET),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)
            self._process.stdin.write(
                json.dumps(self._words()).encode() + b"\n"
            )  # it stays open: the program ends with it

    def require_no_refusal(self) -> None:
        """Refuse the start if vLLM has refused its arguments by now."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        code = self._process.poll()  # before the rest is read
        self._answer = (self._answer + (self._process.stdout.read() or b""))[:MAX_ANSWER]
        if code is not None:
            self._was_killed = code < 0
            self.end()
            self._conclude()

    def settle(self) -> None:
        """Wait for the answer about the user's own arguments; exit if pi disconnects."""
        began, is_reported = time.monotonic(), False
        self.require_no_refusal()
        while self._is_own and self._process is not None:
            if not is_reported and time.monotonic() - began > REPORTED_AFTER:
                wire.emit({"event": "phase", "text": "checking the arguments", "at": None})
                is_reported = True
            if time.monotonic() - began > LIMIT:
                self.end()
            if wire.stdin_ended(LOOK):
                self.end()
                records.forget(self._record["uid"])
                wire.leave()
            self.require_no_refusal()
        # `pi stop` stops the processes, then deletes the record.
        if self._is_own and self._was_killed and home.wait_until(lambda: not records.exists(self._record["uid"]), 2.0):
            raise Refused({"code": "stopped", "name": self._record["name"]})

    def end(self) -> None:
        """Stop the program if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with process:  # which closes the pipes
            pass

    def _words(self) -> List[str]:
        record = self._record
        return serve_command.argv(
            record["model"], record["name"], record["arguments"], port=record["port"], private=record["private"]
        )[1:]

    def _conclude(self) -> None:
        """Refuse the start, or remember that vLLM accepts the arguments, or neither if there is no answer."""
        try:
            answer = json.loads(self._answer)
            said, options = answer.get("said"), [str(name) for name in answer.get("options", [])]
        except (ValueError, AttributeError, TypeError):
            return
        if said:
            version = self._record["vllm"] or ""
            raise Refused({"code": "arguments", "name": version, "reason": str(said), "options": options})
        with contextlib.suppress(OSError):
            home.write_file(self._verdict, "")
            forget_oldest()


@contextlib.contextmanager
def asked(record: "protocol.Record", request: "protocol.StartRequest", settings: Dict[str, str]) -> Iterator[Question]:
    """Ask about the user's own arguments now, about those of pi only if a download begins in the block."""
    question = Question(record, request, settings)
    try:
        if request["own"]:
            question.ask()
        yield question
    finally:
        question.end()


def python_of(program: str) -> Optional[str]:
    """Return the Python that runs a program: that of its first line, or else the one beside it.

    The environments of setup can be moved, so there the first line names a shell.
    """
    named = None
    with contextlib.suppress(OSError), open(program, "rb") as file:
        named = re.match(rb"#! ?(/\S*/python[\d.]*)\s", file.readline(512))
    beside = [os.path.join(os.path.dirname(program), name) for name in ("python", "python3")]
    candidates = [os.fsdecode(named.group(1))] if named else beside
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def fingerprint(program: str, arguments: List[str]) -> str:
    """Return a hash of a vLLM and of arguments; the times of its folders change with every package."""
    folder = os.path.dirname(os.path.dirname(program))
    packages = glob.glob(os.path.join(glob.escape(folder), "lib", "python3*", "site-packages"))
    proof = [(path, os.stat(path).st_mtime_ns) for path in (program, *sorted(packages))]
    return hashlib.sha256(json.dumps([proof, arguments]).encode()).hexdigest()


def forget_oldest() -> None:
    """Delete the verdicts that were not used for the longest time."""
    with os.scandir(CHECKED) as entries:
        verdicts = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in verdicts[KEPT:]:
        os.unlink(entry.path)
