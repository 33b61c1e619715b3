"""Ask `remote/pod_agent.py` to do something on a pod: one request, events while it works, one result."""

import json
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

from pi_cli.errors import PiError
from pi_cli.pods import shell
from pi_cli.pods.ssh import Completed, PodSession
from pi_cli.store import paths

# In the order they import each other, with the operations that need them: on a slow link one feels the rest.
MODULES = {
    "pod_machine": None,
    "pod_vllm": {"start", "survey", "inspect"},
    "pod_download": {"start"},
    "pod_start": {"start"},
    "pod_list": {"survey", "inspect"},
    "pod_inspect": {"inspect"},
    "pod_logs": {"logs"},
    "pod_agent": None,
}
MARK = b"\x1epi "

DOCSTRING = re.compile(r'^([ \t]*)"""(?s:.*?)"""$', re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*#.*\n", re.MULTILINE)

Sink = Callable[[dict[str, Any]], None]


class AgentRefused(PiError):
    """The pod said no; `code` is one of those in `remote/`."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


async def ask(session: PodSession, operation: str, on_event: Sink = lambda _: None, **request: Any) -> Any:
    """Run an operation to its result, telling `on_event` what happens meanwhile.

    Raises `AgentRefused` when the pod says no, `PodUnreachable` when the link is lost, `PiError` when no agent runs.
    """
    answers: list[dict[str, Any]] = []

    def sort(message: dict[str, Any]) -> None:
        if "event" in message:
            on_event(message)
        else:
            answers.append(message)

    reader = _Lines(sort)
    done = await session.stream(shell.AGENT, reader.feed, input=_payload(operation, request))
    return _result(session.pod, answers, done, reader.noise)


async def pour(session: PodSession, operation: str, sink: Callable[[bytes], None], **request: Any) -> Any:
    """Run an operation whose result is followed by raw bytes; pass those on, return the result."""
    answers: list[dict[str, Any]] = []
    reader = _Lines(answers.append)

    def receive(chunk: bytes) -> None:
        if not answers:
            reader.feed(chunk)
            chunk = reader.take_rest() if answers else b""
        if chunk:
            sink(chunk)

    done = await session.stream(shell.AGENT, receive, input=_payload(operation, request))
    return _result(session.pod, answers, done, reader.noise)


def _result(pod: str, answers: list[dict[str, Any]], done: Completed, noise: bytes) -> Any:
    if not answers:
        raise _no_answer(pod, done, noise)
    if error := answers[-1].get("error"):
        raise AgentRefused(error["code"], error["message"])
    return answers[-1]["result"]


class _Lines:
    """Find marked lines in chunks; what login shells print between them is kept as `noise` for error messages."""

    def __init__(self, sink: Sink) -> None:
        self.noise = b""
        self._sink = sink
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for index, line in enumerate(lines):
            before, mark, message = line.partition(MARK)
            self.noise = (self.noise + before)[-4096:]
            if mark:
                answer = json.loads(message)
                self._sink(answer)
                if "result" in answer:
                    self._rest = b"\n".join([*lines[index + 1 :], self._rest])
                    return

    def take_rest(self) -> bytes:
        """Return the raw bytes that came behind the result."""
        rest, self._rest = self._rest, b""
        return rest


def _payload(operation: str, request: dict[str, Any]) -> bytes:
    line = json.dumps({"operation": operation} | request).encode()
    program = _program(operation)
    return b"%d\n%s%s\n" % (len(program), program, line)


@cache
def _program(operation: str) -> bytes:
    """Return the agent's modules for an operation, in order, compressed.

    What is written in them for people is a third of it, and half a second on a line of 128 kbit/s.
    """
    names = [name for name, needing in MODULES.items() if needing is None or operation in needing]
    modules = [(name, bare(paths.asset(f"remote/{name}.py").read_text(encoding="utf-8"))) for name in names]
    return zlib.compress(json.dumps(modules).encode(), 9)


def bare(module: str) -> str:
    """Take docstrings and lines of comments out of a module."""
    return COMMENT.sub("", DOCSTRING.sub(r'\1""', module))


def _no_answer(pod: str, done: Completed, noise: bytes) -> PiError:
    if done.status == 127:
        return PiError(f"pod `{pod}` has no python3", hint=f'prepare it with `pi pods setup {pod} "ssh …"`')
    said = (done.stderr or noise).decode("utf-8", "replace").strip().splitlines()
    return PiError(f"pod `{pod}` did not answer (exit code {done.status}): {said[-1] if said else 'it said nothing'}")
