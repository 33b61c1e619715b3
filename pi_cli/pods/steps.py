"""Read what `remote/pod_setup.sh` prints: its steps, what programs say in them, and why one fails.

    ==> vllm: Installing vLLM        a step begins
        vllm | Resolved 142 packages what a program printed
        vllm * waiting for apt       what the script says: what it waits for, and at last what sums the step up
        vllm ! the driver is old     a warning
        vllm x no space left         why the step fails; the first one counts
    <== vllm: done                   or skipped, stopped (because another one failed), failed CODE
    ==> ready: vLLM 0.32.0           all steps are done

Steps run side by side, so their lines are mixed. What comes before the first step is the login shell's own noise.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from pi_cli.events import Event, Note, Output, Step, StepState

BEGIN = re.compile(r"==> ([a-z]+): (.+)")
SAID = re.compile(r" {4}([a-z]+) ([|*!x]) ?(.*)")
END = re.compile(r"<== ([a-z]+): (done|skipped|stopped|failed)\b.*")
LONGEST = 65536  # bytes of a line that are kept waiting for its end


class Lines:
    """Cuts what comes in chunks into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        *lines, rest = (self._rest + chunk).split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        for line in lines:
            yield line.decode("utf-8", "replace").removesuffix("\r")

    def end(self) -> Iterator[str]:
        """Yield what was left without an end of line."""
        if self._rest:
            yield from self.feed(b"\n")


@dataclass(slots=True)
class _Open:
    title: str
    summary: str = ""
    reason: str = ""


@dataclass(slots=True)
class Script:
    """What the script has said so far; `reason` is why it failed, in its own words."""

    pod: str
    reason: str = ""
    _open: dict[str, _Open] = field(default_factory=dict)
    _stray: str = ""

    def read(self, line: str) -> Event | None:
        """Return what a line of the script means, if anything."""
        if (begun := BEGIN.fullmatch(line)) and begun[1] != "ready":
            self._open[begun[1]] = _Open(begun[2])
            return Step(self.pod, begun[1], begun[2], "began")
        if (said := SAID.fullmatch(line)) and said[1] in self._open:
            return self._hear(said[1], said[2], said[3])
        if (ended := END.fullmatch(line)) and ended[1] in self._open:
            return self._close(ended[1], cast("StepState", ended[2]))
        if line.startswith("error: "):
            self.reason = self.reason or line.removeprefix("error: ")
        self._stray = line.strip() or self._stray
        return None

    def end(self) -> Iterator[Event]:
        """Yield the end of what never ended: the script was cut off."""
        for name in list(self._open):
            yield self._close(name, "stopped")

    def last_words(self) -> str:
        """Return why the script failed, or what was said last by who knows whom, such as a login shell."""
        return self.reason or self._stray

    def _hear(self, name: str, kind: str, text: str) -> Event | None:
        step = self._open[name]
        match kind:
            case "|":
                return Output(self.pod, text, name)
            case "!":
                return Note(self.pod, text)
            case "x":
                step.reason = step.reason or text
                return None
            case _:
                step.summary = text
                return Step(self.pod, name, step.title, "waiting" if text.startswith("waiting ") else "working", text)

    def _close(self, name: str, state: StepState) -> Step:
        step = self._open.pop(name)
        if state == "failed":
            step.summary = step.reason
            self.reason = self.reason or step.reason or f"{step.title} failed"
        return Step(self.pod, name, step.title, state, step.summary)
