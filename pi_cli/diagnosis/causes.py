"""Find the cause of a failed start or of a death in a log: a summary, vLLM's own line, and a hint.

vLLM prints the root cause first, in the engine; the API server's last error only reports that the engine failed. So the
first error counts, and of the errors of several processes the first known one. Warnings never count.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pi_cli.diagnosis import (
    advice,
    known_kernels,
    known_machine,
    known_vllm,
    log_statements,
    messages,
    places,
    remedies,
)
from pi_cli.diagnosis.known_cause import REFUSED_ARGUMENTS, KnownCause
from pi_cli.diagnosis.log_statements import Statement
from pi_cli.diagnosis.offers import Offer
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.hints import Value, fill

KNOWN_CAUSES = (
    known_kernels.MEMORY_OF_GRAPHS,
    *(*known_vllm.CAUSES, *known_kernels.CAUSES, *known_machine.CAUSES),
    *known_kernels.COMPILATION,
)
SILENT_DEATHS = known_machine.SILENT_DEATHS
# Causes that PyTorch, NCCL and compilers print without raising an exception.
UNRAISED_CAUSES = tuple(
    known
    for known in (*known_kernels.UNRAISED, *known_kernels.CAUSES, *known_machine.GPUS, *known_machine.MACHINE)
    if not known.is_vague
)

# Errors of the other processes after one has failed.
CONSEQUENCE = re.compile(
    r"Engine ?[Cc]ore (?:initialization failed|failed to start|encountered a fatal error|proc \S+ died)|Engine\w*Dead"
    r"|Frontend process failed"
    r"|WorkerProc (?:initialization failed|failed to start|hit an exception)"
    r"|Worker (?:proc \S+ died|\w+ pid \d+ died|failed with error)"
    r"|CalledProcessError: Command|Error raised in subprocess|MultiprocExecutor|[Cc]ancelled"
    r"|DistNetworkError|TCPStore|Broken pipe|Connection (?:reset|closed) by peer"
    r"|^(?:SystemExit|KeyboardInterrupt|EOFError)"
)
READY_LINE = "Application startup complete."
FATAL_ERROR = re.compile(
    r"(?m)^.*(?:WorkerProc hit an exception|EngineCore encountered a fatal error|proc \S+ died unexpectedly|EngineDead)"
)
MODEL_PAGE = re.compile(r"(https?://[^/\s'\"]+/)(?:api/models/)?([\w.-]+/[\w.-]*\w)")

MAX_SUMMARY = 200  # characters, the length of an error's first line
MAX_LINE = 1000  # characters: longer lines list everything that vLLM supports
MAX_TEXT = 20_000  # characters of the begin and of the end of a message
MAX_GROUP = 4000  # characters of what a pattern matches; Python refuses to read longer numbers
SIGNAL_MEANINGS = {
    4: "it uses instructions that the machine's processor lacks",
    6: "it aborted",
    7: "out of shared memory?",
    8: "it crashed",
    9: "out of host memory?",
    11: "it crashed",
    15: "terminated by another process",
}
OUT_OF_HOST_MEMORY = 9


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a model failed; `line` is the line of the log that says so, `hint` what the user can do.

    `is_known` is false where the summary is only the message of the first exception. `starts` are the commands of the
    hint that repair something by themselves. `is_silent`: a process died without an error message, maybe by signal 9.
    """

    summary: str
    line: str
    hint: str | None = None
    is_known: bool = True
    starts: tuple[StartCommand, ...] = ()
    is_silent: bool = False


def find(
    log: str, *, pod: str, model: str, command: StartCommand | None = None, was_serving: bool = False
) -> Cause | None:
    """Return the cause of a failure, known or not; None if the log contains no error.

    With the user's `command`, the hint contains the command to type next. `was_serving`: the model had been ready,
    even if the log, of which only the end may be left, does not say so.
    """
    statements, is_request_error = _relevant(log, was_serving=was_serving)
    errors = [statement for statement in statements if statement.is_error and not statement.is_background]
    if not errors and _is_message(log):
        errors = statements
    unknown = None if is_request_error else _first_unknown(errors)
    recognised = _first_known(statements, errors)
    if recognised is None:
        recognised = _first([unknown], [REFUSED_ARGUMENTS]) if unknown else _silent_death(errors)
    if recognised:
        is_elsewhere = recognised.known.is_vague and unknown is not recognised.statement
        line = messages.telling(unknown.lines) if unknown and is_elsewhere else None
        return _cause(recognised, pod, model, command, line)
    if unknown is None or not unknown.is_error:
        return None
    return _unknown(unknown, command, pod)


def describe_end(code: int | None, signal: int | None) -> str:
    """Return how vLLM exited, for the user."""
    if signal is None:
        return "vLLM exited" if code is None else f"vLLM exited with code {code}"
    meaning = SIGNAL_MEANINGS.get(signal)
    return f"vLLM was killed by signal {signal}{f' ({meaning})' if meaning else ''}"


def of_end(code: int | None, signal: int | None, *, pod: str) -> Cause:
    """Return how vLLM exited as a cause, for a log that shows none."""
    hint = fill(known_machine.MORE_HOST_MEMORY, pod=pod) if signal == OUT_OF_HOST_MEMORY else None
    return Cause(describe_end(code, signal), "", hint, is_known=False)


def signal_in(cause: Cause) -> int | None:
    """Return the signal that the line of a silent death names."""
    named = re.search(r"(?:: |\(|code: )-(\d{1,2})\b", cause.line)
    return int(named[1]) if named else None


def hub_unreachable(*, pod: str) -> Cause:
    """Return the cause of a download for which, according to the agent, the Hub did not answer."""
    known = known_machine.HUB_UNREACHABLE
    return Cause(known.summary, "", fill(known.hint, pod=pod))


def last_lines(log: str, count: int = 20) -> str:
    """Return the last lines of a log that are not blank."""
    lines: Sequence[str] = [line.rstrip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    return "\n".join(lines[-count:])


@dataclass(frozen=True, slots=True)
class _Recognised:
    """A statement that the pattern of a known cause matches."""

    statement: Statement
    known: KnownCause
    match: re.Match[str]


def _relevant(log: str, *, was_serving: bool) -> tuple[list[Statement], bool]:
    """Return the statements that may contain the cause, and whether unknown errors are only about requests.

    The latter are what a serving model logs as errors, unless a fatal error precedes them.
    """
    _, ready, after = log.rpartition(READY_LINE)
    if not ready and not was_serving:
        return log_statements.parse(log), False
    fatal = FATAL_ERROR.search(after)
    return log_statements.parse(after[fatal.start() :] if fatal else after), fatal is None


def _is_message(log: str) -> bool:
    """Return whether a text is not a log but the final message of a program: then all of it is about the error."""
    return not any(log_statements.bare(line) != line for line in log.splitlines())


def _first_known(statements: Sequence[Statement], errors: Sequence[Statement]) -> _Recognised | None:
    """Return the first known cause. Lines before a vague one may explain it: NCCL and compilers raise no exception."""
    certain = _first(errors, [known for known in KNOWN_CAUSES if not known.is_vague])
    vague = None if certain else _first(errors, [known for known in KNOWN_CAUSES if known.is_vague])
    if vague is None:
        return certain
    position = next(index for index, statement in enumerate(statements) if statement is vague.statement)
    return _first(statements[:position], UNRAISED_CAUSES) or vague


def _first(statements: Iterable[Statement], causes: Sequence[KnownCause]) -> _Recognised | None:
    """Return the earliest statement that one of these causes matches, with the first cause that does."""
    for statement in statements:
        text = _bounded(statement.text)
        for known in causes:
            if (match := re.search(known.pattern, text)) and _is_within(statement, known):
                return _Recognised(statement, known, match)
    return None


def _bounded(text: str) -> str:
    """Return the begin and the end of a message of any length, for patterns that may look at each part of it twice."""
    return text if len(text) <= 2 * MAX_TEXT else f"{text[:MAX_TEXT]}\n{text[-MAX_TEXT:]}"


def _is_within(statement: Statement, known: KnownCause) -> bool:
    return not known.within or any(re.search(known.within, frame.function) for frame in statement.frames)


def _silent_death(errors: Sequence[Statement]) -> _Recognised | None:
    """Return the report of another process on one that died without an error message."""
    return next((recognised for known in SILENT_DEATHS if (recognised := _first(errors, [known]))), None)


def _first_unknown(errors: Sequence[Statement]) -> Statement | None:
    """Return the end of the first traceback that is not a consequence; without one, the first other error."""
    causes = [error for error in errors if not CONSEQUENCE.search(error.lines[0])]
    return next((error for error in causes if error.is_raised), causes[0] if causes else None)


def _cause(
    recognised: _Recognised, pod: str, model: str, command: StartCommand | None, line: str | None = None
) -> Cause:
    known, statement = recognised.known, recognised.statement
    groups = {name: _safe(text) for name, text in recognised.match.groupdict().items() if text is not None}
    matches = _about_the_model(pod, model, statement) | groups
    values: dict[str, Value] = {**matches}
    if "packages" in groups:
        values["packages"] = groups["packages"].split()
    remedy = known.remedy(command, matches) if command and known.remedy else None
    if known is REFUSED_ARGUMENTS and (found := advice.find(statement.text)):
        remedy = advice.offered(found, command)
    position = recognised.match.start("what" if "what" in groups else 0)
    shown = line or _line_around(recognised.match.string, position)
    if shown == statement.lines[0].strip():
        shown = messages.telling(statement.lines)
    summary = _shorten(fill(known.summary, **values), MAX_SUMMARY)
    remedy = remedy or Offer(fill(known.hint, **values))
    is_silent = known in known_machine.MAYBE_OUT_OF_MEMORY
    return Cause(summary, _shorten(shown, MAX_LINE), remedy.hint, starts=remedy.starts, is_silent=is_silent)


def _unknown(statement: Statement, command: StartCommand | None, pod: str) -> Cause:
    """Return what an error says that no row is about, where in vLLM it was raised, and what vLLM advises."""
    told = messages.telling(statement.lines)
    summary, remedy = told, None
    place = places.innermost(statement.frames)
    if place and places.is_bare(told):
        summary = f"{told.rstrip(': ')} in {place}"
    feature = places.feature(statement.frames)
    if found := advice.find(statement.text):
        remedy = advice.offered(found, command)
    elif feature:
        remedy = remedies.without_feature(feature, command)
    elif part := places.part(statement.frames, told):
        remedy = remedies.of_part(part, command, pod)
    hint, starts = (remedy.hint, remedy.starts) if remedy else (None, ())
    return Cause(_shorten(summary, MAX_SUMMARY), _shorten(told, MAX_LINE), hint, is_known=False, starts=starts)


def _about_the_model(pod: str, model: str, statement: Statement) -> dict[str, str]:
    page = MODEL_PAGE.search(statement.text)
    return {
        "pod": pod,
        "model": model,
        "page": _safe("".join(page.groups())) if page else f"https://huggingface.co/{model}",
        "folder": re.sub(r"[^\w.-]", "-", model.replace("/", "--")),
    }


def _safe(text: str) -> str:
    """Return a text from a log as one line of limited length that cannot end the backticks around it."""
    return " ".join(text[:MAX_GROUP].split()).replace("`", "'")


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return messages.DETAILS.sub("", text[start : end if end >= 0 else None]).strip()


def _shorten(line: str, length: int) -> str:
    return line if len(line) <= length else line[:length] + "…"
