"""Say why a model did not start, or died: the cause in words, vLLM's own line, and what to do about it.

vLLM prints the root cause first, from the engine; the API server's last error only says that the engine failed. So the
first error counts, and of several processes' the first that we know. Whatever is merely a warning never does.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pi_cli.diagnosis import known_machine, known_vllm, log_statements
from pi_cli.diagnosis.known_cause import REFUSED_ARGUMENTS, KnownCause
from pi_cli.diagnosis.log_statements import Statement
from pi_cli.diagnosis.start_command import StartCommand

KNOWN_CAUSES = (*known_vllm.CAUSES, *known_machine.CAUSES)
SILENT_DEATHS = known_machine.SILENT_DEATHS
NEARBY = (*known_machine.GPUS, *known_machine.MACHINE)  # what PyTorch, NCCL and compilers say besides an exception

# Not causes: what the other processes say once one has failed.
CONSEQUENCE = re.compile(
    r"Engine ?[Cc]ore (?:initialization failed|failed to start|encountered a fatal error|proc \S+ died)|Engine\w*Dead"
    r"|Frontend process failed"
    r"|WorkerProc (?:initialization failed|failed to start|hit an exception)|Worker (?:proc \S+ died|failed with error)"
    r"|CalledProcessError: Command|Error raised in subprocess|MultiprocExecutor|[Cc]ancelled"
    r"|DistNetworkError|TCPStore|Broken pipe|Connection (?:reset|closed) by peer"
    r"|^(?:SystemExit|KeyboardInterrupt|EOFError)"
)
READY = "Application startup complete."
FATAL = re.compile(
    r"(?m)^.*(?:WorkerProc hit an exception|EngineCore encountered a fatal error|proc \S+ died unexpectedly|EngineDead)"
)
PYDANTIC = re.compile(r"\s*\[type=\w+, input_value=.*$")
PAGE = re.compile(r"(https?://[^/\s'\"]+/)(?:api/models/)?([\w.-]+/[\w.-]*\w)")

WORDS = 200  # characters that the first line of an error has room for
LINE = 1000  # more is a list of everything that vLLM supports
SIGNALS = {
    4: "it wants instructions that the machine's processor lacks",
    6: "it gave up",
    7: "out of shared memory?",
    9: "out of host memory?",
    11: "it crashed",
    15: "somebody ended it",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a model failed; `line` is the line of the log that says it, `hint` what the user can do.

    `is_known` is false where the words are merely those of the first exception.
    """

    summary: str
    line: str
    hint: str | None = None
    is_known: bool = True


def find(log: str, *, pod: str, model: str, command: StartCommand | None = None) -> Cause | None:
    """Return the cause that a log tells, known or not; None when it holds no error at all.

    With the `command` as it was typed, the hint holds the one to type next.
    """
    served, said = _what_counts(log)
    errors = [each for each in said if each.is_error and not each.is_background] or (said if _is_message(log) else [])
    unknown = None if served else _first_unknown(errors)
    certain = _first(errors, [known for known in KNOWN_CAUSES if not known.is_vague])
    vague = None if certain else _first(errors, [known for known in KNOWN_CAUSES if known.is_vague])
    if vague and (nearby := _before(said, vague[0])):
        certain, vague = nearby, None
    found = certain or vague or (_first([unknown], [REFUSED_ARGUMENTS]) if unknown else _silent_death(errors))
    if found:
        line = unknown.lines[0] if unknown and vague and unknown is not found[0] else None
        return _cause(found, _names(pod, model, found[0]), command, line)
    if unknown is None or not unknown.is_error:
        return None
    return Cause(_shorten(unknown.lines[0], WORDS), _shorten(unknown.lines[0], LINE), is_known=False)


def describe_end(code: int | None, signal: int | None) -> str:
    """Say in words how vLLM ended."""
    if signal is None:
        return "vLLM has ended" if code is None else f"vLLM ended with exit code {code}"
    why = SIGNALS.get(signal)
    return f"vLLM was killed by signal {signal}{f' ({why})' if why else ''}"


def hint_of_end(signal: int | None, *, pod: str) -> str | None:
    """Say what to do about a process that was killed."""
    if signal != 9:
        return None
    return f"see with `pi ssh {pod} free -g`, or take a machine with more memory (not GPU memory)"


def last_lines(log: str, count: int = 20) -> str:
    """Return the end of a log as a person would read it: without blank lines, each as it is."""
    lines: Sequence[str] = [line.rstrip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    return "\n".join(lines[-count:])


Recognised = tuple[Statement, KnownCause, re.Match[str]]


def _what_counts(log: str) -> tuple[bool, list[Statement]]:
    """Tell whether the model had been ready and died of nothing that says so, and return what may say why.

    What a server that works logs as errors is what was wrong with requests.
    """
    _, ready, after = log.rpartition(READY)
    if not ready:
        return False, log_statements.parse(log)
    fatal = FATAL.search(after)
    return fatal is None, log_statements.parse(after[fatal.start() :] if fatal else after)


def _is_message(log: str) -> bool:
    """Tell whether a text is no log, but what a program said in the end: all of that is about the error."""
    return not any(log_statements.bare(line) != line for line in log.splitlines())


def _first(said: Iterable[Statement], candidates: Iterable[KnownCause]) -> Recognised | None:
    """Return the earliest statement that one of these matches, with the first that does."""
    candidates = list(candidates)
    for statement in said:
        text = statement.text
        for known in candidates:
            if match := re.search(known.pattern, text):
                return statement, known, match
    return None


def _silent_death(errors: Sequence[Statement]) -> Recognised | None:
    """Return what the others say when a process has died without a word."""
    return next((found for known in SILENT_DEATHS if (found := _first(errors, [known]))), None)


def _before(said: Sequence[Statement], vague: Statement) -> Recognised | None:
    """Return what was said before a vague error and explains it: by NCCL, or a compiler, which raise nothing."""
    earlier = said[: next(index for index, each in enumerate(said) if each is vague)]
    return _first(earlier, [known for known in NEARBY if not known.is_vague])


def _first_unknown(errors: Sequence[Statement]) -> Statement | None:
    """Return the first traceback's end that is a cause; without one, whatever else is called an error."""
    causes = [each for each in errors if not CONSEQUENCE.search(each.lines[0])]
    return next((each for each in causes if each.is_raised), causes[0] if causes else None)


def _cause(found: Recognised, names: dict[str, str], command: StartCommand | None, line: str | None) -> Cause:
    statement, known, match = found
    names |= {name: value for name, value in match.groupdict().items() if value is not None}
    remedy = known.remedy(command, names) if command and known.remedy else None
    words = _shorten(" ".join(known.summary.format(**names).split()), WORDS)
    place = match.start("what") if "what" in names and "what" in match.groupdict() else match.start()
    told = _shorten(line or _line_around(statement.text, place), LINE)
    return Cause(words, told, remedy or known.hint.format(**names))


def _names(pod: str, model: str, statement: Statement) -> dict[str, str]:
    page = PAGE.search(statement.text)
    return {
        "pod": pod,
        "model": model,
        "page": "".join(page.groups()) if page else f"https://huggingface.co/{model}",
        "folder": re.sub(r"[^\w.-]", "-", model.replace("/", "--")),
    }


def _line_around(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return PYDANTIC.sub("", text[start : end if end >= 0 else None]).strip()


def _shorten(line: str, most: int) -> str:
    return line if len(line) <= most else line[:most] + "…"
