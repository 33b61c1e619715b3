"""Parse vLLM's log into the statements of its processes: where each error begins and ends, without warnings.

Each process (`APIServer`, `EngineCore`, `Worker_TP1`…) prefixes its lines with its name, and their lines interleave. A
log record repeats its head on every line; tracebacks and progress bars have no head.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROCESS_NAME = re.compile(r"^(?:\((?P<process>[^()]*?\bpid=\d+)[^()]*\)|\[(?P<rank>rank\d+)\]:) ?")
# The heads of vLLM, of its older versions (without brackets), and of uvicorn and Python (with a colon).
RECORD_HEAD = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)(?: [\d-]+ [\d:.,]+ (?:\[[^\]]*\]|[\w.]+:\d+\]) ?|:\s*(?=\S))"
)
QUIET_LEVELS = ("DEBUG", "INFO", "WARNING")

# Records that only end what was before them, with another such record of the same process behind them. A model that
# serves writes a hundred megabytes of these.
QUIET = r"(?:INFO|DEBUG)(?: [\d-]+ [\d:.,]+ \[|:)"
QUIET_RUN = re.compile(rf"^((?:\([^()\n]*\) )?){QUIET}[^\r\n]*\n(?=\1{QUIET})", re.MULTILINE)

TRACEBACK = re.compile(r"^Traceback \(most recent call last\):")
CHAIN = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")
BACKGROUND = re.compile(r"^Exception (?:in thread|ignored in)\b")
EXCEPTION = re.compile(
    r"^(?:\w+\.)*(?:[A-Z]\w*)?(?:Error|Exception|KeyboardInterrupt|SystemExit)(?::|$)"
    r"|^(?:\w+\.)+[A-Z]\w*(?:Failed|OutOfResources)(?::|$)|^\S+(?: serve)?: error: |^Fatal Python error|^cannot run /"
)
# What ends a process without an exception: glibc, a signal handler, a CUDA check in C++, the watchdog of NCCL.
DEATH = re.compile(
    r"^(?:Failed: Cuda error|!+ Segfault encountered|terminate called|Segmentation fault|Bus error|Illegal instruction"
    r"|(?:free|malloc|realloc|munmap_chunk|malloc_consolidate)\(\): |corrupted (?:size|double-linked)|double free or"
    r"|\*{3} (?:SIG[A-Z]+ received|Aborted at|stack smashing|buffer overflow)"
    r"|(?:\[rank\d+\]:)?\[[EF]\d{3,4} .*(?:Watchdog caught|watchdog thread terminated))"
)
FRAME = re.compile(r'^ *File "(?P<file>[^"]{0,1000})", line (?P<line>\d+)(?:, in (?P<function>\S+))?')
ANNOUNCING = (" raised:", " output:", " error:", " exception:")
MAX_FRAMES = 100  # of a traceback, the innermost: a recursion that never ends prints a thousand
RETRIED = re.compile(r", retrying \d+ of \d+$")
# Lines that cannot belong to an exception's message: records of PyTorch and NCCL, warnings, reports of a dead process.
OTHER_RECORD = re.compile(
    r"^(?:\[?[WEIF]\d{3,4} |\S+:\d+:\d+ \[\d+\] |\S+\.py:\d+: \w*Warning|sys:1: |Process \S+:$|Loading )"
)


class Frame(NamedTuple):
    """A line of a traceback: the file, the number of the line, and the function."""

    file: str
    line: str
    function: str


@dataclass(slots=True)
class Statement:
    """One statement of one process: an error with its full message, or a plain line.

    `is_raised`: it ends a traceback, whose `frames` are the places in the code, outermost first. `is_background`: the
    traceback is that of a background thread.
    """

    lines: list[str]
    frames: tuple["Frame", ...] = ()
    is_error: bool = False
    is_raised: bool = False
    is_background: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


NOTHING = Statement([])


def parse(log: str) -> list[Statement]:
    """Return the statements in the order in which they begin, without log records at the level of warnings or below."""
    return list(_statements(log))


def bare(line: str) -> str:
    """Return a line without its process name and head.

    >>> bare("(EngineCore pid=71) ERROR 11-23 13:31:46 [core.py:1510] ValueError: no")
    'ValueError: no'
    """
    return _split(line)[2]


def _statements(log: str) -> Iterator[Statement]:
    readers: dict[str, _Reader] = {}
    for line in re.split(r"[\r\n]+", QUIET_RUN.sub("", COLOUR.sub("", log))):
        process, level, text = _split(line)
        if text.strip() and (new := readers.setdefault(process, _Reader()).read(level, text.rstrip())):
            yield new


def _split(line: str) -> tuple[str, str, str]:
    """Return the process name, the log level and the text of a line."""
    process = level = ""
    while name := PROCESS_NAME.match(line):
        process, line = process or name[1] or name[2], line[name.end() :]
    if head := RECORD_HEAD.match(line):
        level, line = head["level"], line[head.end() :]
    return process, level, line


@dataclass(slots=True)
class _Reader:
    """Reads the lines of one process; `unfinished` is the error whose message may have more lines."""

    unfinished: Statement | None = None
    level: str = ""
    in_frames: bool = False
    is_background: bool = False
    frames: deque[Frame] = field(default_factory=lambda: deque(maxlen=MAX_FRAMES))

    def read(self, level: str, text: str) -> Statement | None:
        """Read a line, and return the statement that begins with it, if one does."""
        if level in QUIET_LEVELS or RETRIED.search(text):
            self.unfinished, self.in_frames = None, False
            return None
        if self.in_frames:
            if text[0].isspace():
                self._see_frame(text)
                return None  # source code, which may quote any error
            self.in_frames = False
            return self._begin(level, Statement([text], tuple(self.frames), is_error=True, is_raised=True))
        if TRACEBACK.match(text):
            self.unfinished, self.in_frames = None, True
            self.frames.clear()
            return None
        if BACKGROUND.match(text) or CHAIN.match(text):
            self.is_background = BACKGROUND.match(text) is not None or (self.unfinished or NOTHING).is_background
            self.unfinished = None
            return None
        return self._outside_frames(level, text)

    def _see_frame(self, text: str) -> None:
        if frame := FRAME.match(text):
            self.frames.append(Frame(frame["file"], frame["line"], frame["function"] or ""))

    def _outside_frames(self, level: str, text: str) -> Statement | None:
        is_death = DEATH.match(text) is not None
        is_exception = is_death or EXCEPTION.match(text) is not None
        belongs = self.unfinished is not None and self.level == level and (not level or self.unfinished.is_raised)
        if self.unfinished and belongs and not OTHER_RECORD.match(text):
            # `BackendCompilerFailed: … raised:` announces another exception, which is a part of the message.
            announced = self.unfinished.lines[-1].endswith(ANNOUNCING)
            if not is_exception or (announced and not is_death):
                self.unfinished.lines.append(text)
                return None
        self.is_background = False
        return self._begin(level, Statement([text], is_error=is_exception or bool(level)))

    def _begin(self, level: str, statement: Statement) -> Statement:
        statement.is_background, self.is_background = self.is_background, False
        self.unfinished, self.level = statement if statement.is_error else None, level
        return statement
