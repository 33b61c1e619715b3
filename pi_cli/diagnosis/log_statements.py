"""Read vLLM's log as what its processes say: where an error begins and ends, and who only warns.

Each of them (`APIServer`, `EngineCore`, `Worker_TP1`…) puts its name before its lines, which come interleaved. A record
of its logger repeats its head on every line; tracebacks and progress bars have none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SPEAKER = re.compile(r"^(?:\((?P<process>[^()]*?\bpid=\d+)[^()]*\)|\[(?P<rank>rank\d+)\]:) ?")
# vLLM's own; what it looked like in older versions, without brackets; uvicorn's and Python's, with a colon.
HEAD = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)(?: [\d-]+ [\d:.,]+ (?:\[[^\]]*\]|[\w.]+:\d+\]) ?|:\s*(?=\S))"
)
QUIET = ("DEBUG", "INFO", "WARNING")

TRACEBACK = re.compile(r"^Traceback \(most recent call last\):")
CHAIN = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")
BACKGROUND = re.compile(r"^Exception (?:in thread|ignored in)\b")
EXCEPTION = re.compile(
    r"^(?:\w+\.)*(?:[A-Z]\w*)?(?:Error|Exception|KeyboardInterrupt|SystemExit)(?::|$)"
    r"|^\S+(?: serve)?: error: |^Fatal Python error|^terminate called|^cannot run /"
)
RETRIED = re.compile(r", retrying \d+ of \d+$")
# What cannot belong to the message of an exception: PyTorch's and NCCL's own records, warnings, what follows a death.
RECORD = re.compile(r"^(?:\[?[WEIF]\d{4} |\S+:\d+:\d+ \[\d+\] |\S+\.py:\d+: \w*Warning|sys:1: |Process \S+:$|Loading )")


@dataclass(slots=True)
class Statement:
    """What one process says at one time: an error with its whole message, or a line that is neither good nor bad.

    `is_raised`: it ends a traceback. `is_background`: that of a thread which nobody waits for.
    """

    lines: list[str]
    is_error: bool = False
    is_raised: bool = False
    is_background: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


NOTHING = Statement([])


def parse(log: str) -> list[Statement]:
    """Return what is said, in the order in which it begins; what a logger calls a warning, or less, is left out."""
    speakers: dict[str, _Speaker] = {}
    return list(_heard(log, speakers))


def bare(line: str) -> str:
    """Return a line without its speaker and head.

    >>> bare("(EngineCore pid=71) ERROR 11-23 13:31:46 [core.py:1510] ValueError: no")
    'ValueError: no'
    """
    return _split(line)[2]


def _heard(log: str, speakers: "dict[str, _Speaker]") -> Iterator[Statement]:
    for line in re.split(r"[\r\n]+", COLOUR.sub("", log)):
        name, level, text = _split(line)
        if text.strip() and (new := speakers.setdefault(name, _Speaker()).hear(level, text.rstrip())):
            yield new


def _split(line: str) -> tuple[str, str, str]:
    """Return who speaks, how loud, and what."""
    name = level = ""
    while speaker := SPEAKER.match(line):
        name, line = name or speaker[1] or speaker[2], line[speaker.end() :]
    if head := HEAD.match(line):
        level, line = head["level"], line[head.end() :]
    return name, level, line


@dataclass(slots=True)
class _Speaker:
    """One process while we listen to it; `goes_on` is the error whose message may have more lines."""

    goes_on: Statement | None = None
    level: str = ""
    in_frames: bool = False
    is_background: bool = False

    def hear(self, level: str, text: str) -> Statement | None:
        """Take in a line, and return the statement that begins with it, if one does."""
        if level in QUIET or RETRIED.search(text):
            self.goes_on, self.in_frames = None, False
            return None
        if self.in_frames:
            if text[0].isspace():
                return None  # source code: it may quote any error there is
            self.in_frames = False
            return self._begin(level, Statement([text], is_error=True, is_raised=True))
        if TRACEBACK.match(text):
            self.goes_on, self.in_frames = None, True
            return None
        if BACKGROUND.match(text) or CHAIN.match(text):
            self.is_background = BACKGROUND.match(text) is not None or (self.goes_on or NOTHING).is_background
            self.goes_on = None
            return None
        return self._outside(level, text)

    def _outside(self, level: str, text: str) -> Statement | None:
        is_exception = EXCEPTION.match(text) is not None
        belongs = self.goes_on is not None and self.level == level and (not level or self.goes_on.is_raised)
        if self.goes_on and belongs and not is_exception and not RECORD.match(text):
            self.goes_on.lines.append(text)
            return None
        self.is_background = False
        return self._begin(level, Statement([text], is_error=is_exception or bool(level)))

    def _begin(self, level: str, statement: Statement) -> Statement:
        statement.is_background, self.is_background = self.is_background, False
        self.goes_on, self.level = statement if statement.is_error else None, level
        return statement
