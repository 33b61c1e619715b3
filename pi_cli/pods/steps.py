"""Parse the output of `remote/pod_setup.sh`: its steps, the output of programs in them, and why a step failed.

    ==> vllm: Installing vLLM        a step begins
        vllm | Resolved 142 packages output of a program
        vllm * waiting for apt       progress; the last of these lines is the summary of the step
        vllm ! the driver is old     a warning
        vllm x no space left         why the step fails; the first of these lines counts
        vllm > --home /data          with this option it would not have failed
        vllm ~ 4000000000 60 300     bytes that it will download, and how many seconds it usually takes; 0: unknown
        vllm % 12 45 packages        what has been downloaded (`bytes`) or done so far, of how many; 0: unknown
        vllm %                       the step still runs, with nothing to count
    <== vllm: done                   or skipped, stopped (because another step failed), failed CODE
    ==> ready: vLLM 0.32.0           all steps are done

Steps run at the same time, so their lines interleave. Lines before the first step are from the login shell.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from pi_cli.events import Announced, Counted, Event, Note, Output, Step, StepState
from pi_cli.safe import safe

BEGIN = re.compile(r"==> ([a-z]+): (.+)")
DETAIL = re.compile(r" {4}([a-z]+) ([|*!x>~%]) ?(.*)")
SHOWN = "|*!x"  # the kinds of details whose text is only shown
ANNOUNCED = re.compile(r"([0-9]{1,15}) ([0-9]{1,6}) ([0-9]{1,6})")
COUNTED = re.compile(r"([0-9]{1,15}) ([0-9]{1,15}) ([a-z ]{1,30})")
END = re.compile(r"<== ([a-z]+): (done|skipped|stopped|failed)\b.*")
MAX_LINE = 65536  # bytes: a longer line is passed on in parts


class LineBuffer:
    """Splits chunks of bytes into lines of text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        *lines, rest = (self._rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            yield line.decode("utf-8", "replace").removesuffix("\r")

    def end(self) -> Iterator[str]:
        """Yield the last line if it has no line break."""
        if self._rest:
            yield from self.feed(b"\n")


@dataclass(slots=True)
class _RunningStep:
    title: str
    summary: str = ""
    reason: str = ""


@dataclass(slots=True)
class Script:
    """The state of the script according to its output; `reason` is its own message about why it failed.

    `other_home` is a value of `--home` with which it would not have failed; a pod can propose no other option.
    """

    pod: str
    reason: str = ""
    has_begun: bool = False
    other_home: str = ""
    _running: dict[str, _RunningStep] = field(default_factory=dict)
    _last_line: str = ""

    def read(self, line: str) -> Event | None:
        """Return the event that a line of the script reports, if it reports one; its texts are safe for a terminal."""
        is_sound = line.isprintable()
        line = safe(line).replace("\n", " ")  # which is what becomes of a carriage return
        if (begin := BEGIN.fullmatch(line)) and begin[1] != "ready":
            self.has_begun = True
            self._running[begin[1]] = _RunningStep(begin[2])
            return Step(self.pod, begin[1], begin[2], "began")
        if (detail := DETAIL.fullmatch(line)) and detail[1] in self._running:
            return self._detail(detail[1], detail[2], detail[3]) if is_sound or detail[2] in SHOWN else None
        if (end := END.fullmatch(line)) and end[1] in self._running:
            return self._end_step(end[1], cast("StepState", end[2]))
        if line.startswith("error: "):
            self.reason = self.reason or line.removeprefix("error: ")
        self._last_line = line.strip() or self._last_line
        return None

    def end(self) -> Iterator[Event]:
        """Yield the end of every step that is still running: the script was cut off."""
        for name in list(self._running):
            yield self._end_step(name, "stopped")

    def failure(self) -> str:
        """Return why the script failed; if it gave no reason, the last line outside steps, e.g. of a login shell."""
        return self.reason or self._last_line

    def _detail(self, name: str, kind: str, text: str) -> Event | None:
        step = self._running[name]
        match kind:
            case "|":
                return Output(self.pod, text, name)
            case "!":
                return Note(self.pod, text)
            case "x":
                step.reason = step.reason or text
                return None
            case ">":
                if text.startswith("--home /") and text.isprintable():
                    self.other_home = self.other_home or text.removeprefix("--home ")
                return None
            case "~":
                return self._announced(name, text)
            case "%":
                return self._counted(name, text)
            case _:
                step.summary = text
                return Step(self.pod, name, step.title, "waiting" if text.startswith("waiting ") else "working", text)

    def _announced(self, name: str, text: str) -> Announced | None:
        if not (found := ANNOUNCED.fullmatch(text)):
            return None
        size, shortest, longest = map(int, found.groups())
        return Announced(self.pod, name, size or None, (shortest, longest) if longest else None)

    def _counted(self, name: str, text: str) -> Counted | None:
        if found := COUNTED.fullmatch(text):
            return Counted(self.pod, name, int(found[1]), int(found[2]) or None, found[3])
        return None if text else Counted(self.pod, name)

    def _end_step(self, name: str, state: StepState) -> Step:
        step = self._running.pop(name)
        if state == "failed":
            step.summary = step.reason
            self.reason = self.reason or step.reason or f"{step.title} failed"
        return Step(self.pod, name, step.title, state, step.summary)
