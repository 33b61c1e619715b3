"""Run commands of pi on many pods at once of which each gives another wrong answer, and report what that did.

    python -m tests.hostile.driver 0 1 survey stop

Only the connection is simulated: pi runs in a fork with `ssh.login.connect` replaced by one that answers from
`tests/hostile/answers.py`. Prints a JSON object: how many answers each operation was given, and what went wrong.
"""

import asyncio
import json
import os
import pty
import re
import sys
import tempfile
import termios
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from functools import partial
from pathlib import Path
from typing import Any

from pi_cli.commands import main
from pi_cli.pods import agent_link
from pi_cli.ssh import login
from pi_cli.ssh.completed import Completed, OutputSink
from pi_cli.ssh.session import READ_SIZE, PodSession
from pi_cli.store.records import is_name
from tests import forkserver
from tests.hostile import answers
from tests.hostile.mutants import Mutant, mutants

BATCH = 20
GOOD = "good"
FLEET = "pi.toml"  # in a command: the file of all pods
OWN_SEQUENCES = re.compile(r"\r?\x1b\[(?:[0-9;]*[mKA]|\d*[GH]|\?(?:25|2026)[hl]|[0J])")  # by which rich draws
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")
ENVIRONMENT = {
    "PI_API_KEY": "test-api-key-0123456789",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "TERM": "xterm-256color",
    "COLUMNS": "200",
}
ENDINGS = range(6)  # the documented exit codes


Reply = Callable[[], bytes]
"""Makes what a pod sends, in the process that reads it: all of them together are gigabytes."""


def line(text: str) -> bytes:
    return (agent_link.MARK + text + "\n").encode("utf-8", "surrogatepass")


def frame(kind: int, payload: bytes, offset: int = 0) -> bytes:
    return agent_link.HEADER.pack(kind, 0, len(payload), offset) + payload


def answer(result: Any) -> bytes:
    return line(json.dumps({"result": result}))


LOG = b"".join(
    [
        answer({}),
        frame(agent_link.EVENT, json.dumps(answers.LOG_BEGINS).encode()),
        frame(agent_link.DATA, b"INFO ready\n", 11),
        frame(agent_link.EVENT, json.dumps(answers.LOG_ENDS).encode(), 11),
    ]
)
EVENTS = b"".join(line(json.dumps(event)) for event in answers.EVENTS)
SOUND: dict[str, bytes] = {
    "survey": answer({**answers.SURVEY, "models": [answers.MODEL], "dead": [], "unreadable": []}),
    "inspect": answer(answers.INSPECTION),
    "holders": answer(answers.HOLDERS),
    "stop": answer(answers.STOPPED),
    "store": answer(answers.STORED),
    "purge": answer(answers.PURGED),
    "launches": answer(answers.LAUNCHES),
    "lease": answer(answers.LEASES),
    "clean": answer(answers.CLEANED),
    "start": EVENTS + answer(answers.STARTED),
    "logs": LOG,
}
IN_USE = answer({**answers.INSPECTION, "gpus": answers.GPUS.replace("81559, 0,", "81559, 81000,")})


@dataclass
class Experiment:
    """Commands whose pods answer one operation wrongly; `sound` are their other answers."""

    operation: str
    wrong: list[tuple[str, Reply]]
    commands: list[list[str]]
    names_pods: bool = False
    sound: Mapping[str, bytes] = field(default_factory=dict)
    before: tuple[str, ...] = ("q",)
    drawn: int = 1
    """Each so many-th batch runs on a terminal, 0: none. Drawing many pods takes more time than all the rest."""
    after: tuple[str, ...] = ("q",)
    """The models of the good pod before the commands, and after each of them."""


class HostileSession(PodSession):
    """A connection to a pod that gives the answers it was made with."""

    def __init__(self, pod: str, replies: Mapping[str, bytes]) -> None:
        self.pod, self.host = pod, "127.0.0.1"
        self._replies = replies

    async def run(self, command: str, *, input: bytes = b"") -> Completed:
        del command, input
        return Completed(0, b"", b"")

    async def require_forwarding(self, *, or_runs_nothing: bool = False) -> None:
        pass

    async def open_ahead(self, command: str) -> None:
        del command

    async def stream(
        self,
        command: str,
        sink: OutputSink,
        *,
        input: bytes = b"",
        more: Iterable[bytes] | AsyncIterable[bytes] | None = None,
        exit_timeout: Callable[[], float] | None = None,
    ) -> Completed:
        del command, exit_timeout
        if await self._answer(input, sink) and isinstance(more, AsyncIterable):
            following = b""
            async for chunk in more:
                following += chunk
                if following.endswith(b"}\n"):  # a program came first
                    await self._answer(following, sink)
                    break
        return Completed(0, b"", b"")

    async def _answer(self, input: bytes, sink: OutputSink) -> bool:
        """Answer a request; return whether another one follows."""
        length, _, rest = input.partition(b"\n")
        envelope = json.loads(rest[int(length) :])
        reply = self._replies[envelope["operation"]]
        if envelope["operation"] == "start":
            request = envelope["request"]
            reply = reply.replace(answers.UID.encode(), request["uid"].encode())
        for begin in range(0, len(reply), READ_SIZE):
            if waiting := sink(reply[begin : begin + READ_SIZE]):
                await waiting
            await asyncio.sleep(0)
        return bool(envelope.get("stays"))


def experiments(name: str) -> Iterator[Experiment]:
    """Yield what is tried of an operation."""
    if name == "survey":
        wrong = [*_answered(answers.SURVEY, "survey"), *_lines()]
        yield Experiment(name, wrong, [["list", "--all"], ["list", "--all", "--json"]])
        # Its screen is drawn in tests/hostile/test_functions.py.
        loads = [each for each in wrong if "['gpus']" in each[0] or "['metrics']" in each[0]]
        yield Experiment(name, loads, [["top", "--interval", "0.5"]], drawn=0)
    elif name == "inspect":
        wrong = _answered(answers.INSPECTION, name)
        yield Experiment(name, wrong, [["pods", "--check"], ["pods", "--check", "--json"]])
    elif name == "stop":
        yield Experiment(name, _answered(answers.STOPPED, name), [["stop", "q"]], names_pods=True, after=())
        leasing = [["lease", "q", "2h", "--then", "stop-pod"], ["lease", "q"], ["lease", "q", "--json"]]
        yield Experiment("lease", _answered(answers.LEASES, "lease"), leasing, names_pods=True, drawn=6)
    elif name == "start":
        start = ["start", "Qwen/Qwen3-8B", "--name", "q", "--detach"]
        wrong = [*_answered(answers.STARTED, name), *_events(), *_refusals()]
        yield Experiment(name, wrong, [start], names_pods=True, before=(), drawn=6)
        wrong = _answered(answers.HOLDERS, "holders")
        sound = {"inspect": IN_USE}
        yield Experiment("holders", wrong, [start], names_pods=True, sound=sound, before=(), after=(), drawn=6)
        wrong = _answered(answers.STORED, "store")
        uploading = [*start, "--vllm", "--chat-template", str(answers.TEMPLATE)]
        yield Experiment("store", wrong, [uploading], names_pods=True, before=(), drawn=6)
        wrong = _answered(answers.CLEANED, "clean")
        yield Experiment("clean", wrong, [[*start, "--clean-cache"]], names_pods=True, before=(), drawn=6)
        purging = ["pods", "remove", "dc1", "--purge", "--yes"]
        none = {"survey": answer({**answers.SURVEY, "models": [], "dead": [], "unreadable": []})}
        wrong = _answered(answers.PURGED, "purge")
        yield Experiment("purge", wrong, [purging], names_pods=True, sound=none, before=(), after=(), drawn=6)
    elif name == "launches":
        sound = {"inspect": answer({**answers.INSPECTION, "models": [answers.MODEL]})}
        wrong = _answered(answers.LAUNCHES, name)
        yield Experiment(
            name, wrong, [["diff", "--file", FLEET], ["diff", "--all", "--json", "--file", FLEET]], sound=sound
        )
    elif name == "logs":
        yield Experiment(name, [*_frames()], [["logs", "q", "--no-follow"]], names_pods=True)


def _answered(result: Any, name: str) -> list[tuple[str, Reply]]:
    return [(str(each), partial(_marked, each)) for each in mutants({"result": result}, name)]


def _marked(mutant: Mutant, before: str = "", after: str = "", then: bytes = b"") -> bytes:
    return line(f"{before}{mutant.text}{after}") + then


def _lines() -> Iterator[tuple[str, Reply]]:
    yield "nothing", lambda: b""
    yield "no newline", lambda: line('{"result": {}}')[:-1]
    yield "endless noise", lambda: b"E" * (8 << 20)
    yield "endless lines of noise", lambda: b"EVIL\x1b[6n\n" * (1 << 18)
    yield "bytes that are not UTF-8", lambda: agent_link.MARK.encode() + b'{"result": "\xff\xfe"}\n'
    yield "two answers", lambda: SOUND["stop"] + SOUND["survey"]


def _events() -> Iterator[tuple[str, Reply]]:
    for event in answers.EVENTS:
        for mutant in mutants(event, str(event["event"])):
            yield str(mutant), partial(_marked, mutant, then=answer(answers.STARTED))


def _refusals() -> Iterator[tuple[str, Reply]]:
    for refusal in answers.REFUSALS:
        for mutant in mutants(refusal, refusal["code"]):
            yield str(mutant), partial(_marked, mutant, '{"refusal": ', "}")


def _frames() -> Iterator[tuple[str, Reply]]:
    events: list[Any] = [answers.LOG_BEGINS, answers.LOG_ENDS]
    for event in events:
        for mutant in mutants(event, event["event"]):
            yield str(mutant), partial(_event_frame, mutant)
    for mutant in mutants("text", "log"):
        yield f"bytes of a {mutant}", partial(_data_frames, mutant)
    for field_name, header in {
        "kind": (9, 0, 1, 1),
        "source": (0, 7, 1, 1),
        "length": (0, 0, (1 << 32) - 1, 1),
        "offset": (0, 0, 1, (1 << 64) - 1),
    }.items():
        yield f"header: {field_name}", partial(_header, *header)


def _event_frame(mutant: Mutant) -> bytes:
    return answer({}) + frame(agent_link.EVENT, mutant.text.encode("utf-8", "surrogatepass"))


def _data_frames(mutant: Mutant) -> bytes:
    """Return a log whose bytes are the value itself, in frames of the size that an agent sends."""
    text = json.loads(mutant.text) if mutant.text.startswith('"') else mutant.text
    data = text.encode("utf-8", "backslashreplace")
    pieces = [data[begin : begin + READ_SIZE] for begin in range(0, len(data), READ_SIZE)]
    head, _, tail = LOG.partition(frame(agent_link.DATA, b"INFO ready\n", 11))
    return head + b"".join(frame(agent_link.DATA, piece) for piece in pieces) + tail


def _header(kind: int, source: int, length: int, offset: int) -> bytes:
    return answer({}) + agent_link.HEADER.pack(kind, source, length, offset) + b"x"


def attempt(experiment: Experiment, batch: dict[str, tuple[str, Reply]], *, on_terminal: bool = True) -> Iterator[str]:
    """Run the commands on pods that give these answers and a good one; yield what is wrong afterwards."""
    for command in experiment.commands:
        with tempfile.TemporaryDirectory() as home:
            os.environ.update(ENVIRONMENT, HOME=home, PI_CONFIG_DIR=f"{home}/.pi")
            state = _write_state(Path(home, ".pi"), [*batch, GOOD], experiment.before)
            names = [word for pod in (*batch, GOOD) for word in ("--pod", pod)] if experiment.names_pods else []
            replies = {pod: reply for pod, (_, reply) in batch.items()}
            words = [str(Path(home, ".pi", FLEET)) if word == FLEET else word for word in command[1:]]
            out, err, code = _run(
                [command[0], *names, *words], experiment, replies, on_terminal and "--json" not in command
            )
            culprits = {pod: what for pod, (what, _) in batch.items()}
            for fault in [*_faults(command, out, err, code), *_faults_of_state(state, experiment.after)]:
                named = [f"{pod} = {what}" for pod, what in culprits.items() if f"`{pod}`" in fault]
                yield f"{' '.join(command)}: {fault[:1500]} {named}"


def _write_state(folder: Path, pods: list[str], models: tuple[str, ...]) -> Path:
    folder.mkdir()
    model = {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 4711, "uid": answers.UID}
    gpu = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
    costs = {"price": 2.49, "currency": "$", "since": "2026-01-02T03:04:05+00:00"}
    entry = {
        "ssh": "ssh root@127.0.0.1",
        "gpus": [gpu],
        "models": dict.fromkeys(models, model),
        **costs,
    }
    path = folder / "pods.json"
    path.write_text(json.dumps({"pods": dict.fromkeys(pods, entry), "active": GOOD}))
    tables = [f"[pods.{pod}]\nssh = {json.dumps(entry['ssh'])}\n" for pod in pods]
    model_of_all = f'[models.q]\nmodel = "Qwen/Qwen3-8B"\npods = {json.dumps(pods)}\n'
    (folder / FLEET).write_text("".join([*tables, model_of_all]))
    return path


def _run(
    words: list[str], experiment: Experiment, replies: Mapping[str, Reply], on_terminal: bool
) -> tuple[str, str, int]:
    """Be pi in a fork, on a terminal or with files as its streams; return what it has printed on each of them."""
    wrong = dict(replies)

    @asynccontextmanager
    async def connect(pod: str, *_: object, **__: object) -> AsyncIterator[PodSession]:
        first = {experiment.operation: wrong.pop(pod)()} if pod in wrong else {}
        yield HostileSession(pod, {**SOUND, **experiment.sound, **first})

    ours, theirs = pty.openpty()
    files = [os.memfd_create(name) for name in ("stdout", "stderr")]
    stdout, stderr = (theirs, theirs) if on_terminal else files
    pid = os.fork()
    if pid == 0:
        os.setsid()
        ioctl(theirs, termios.TIOCSCTTY, 0)
        for number, stream in enumerate((theirs, stdout, stderr)):
            os.dup2(stream, number)
        os.closerange(3, 256)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        login.connect = connect
        sys.argv[1:] = words
        status = 99
        try:
            main.main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    os.close(theirs)
    shown = _text(_pieces(ours))
    os.close(ours)
    out, err = (_text([os.pread(file, 1 << 30, 0)]) for file in files)
    for file in files:
        os.close(file)
    return out, err + shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _pieces(terminal: int) -> Iterator[bytes]:
    with suppress(OSError):  # EIO: the process has ended
        while piece := os.read(terminal, 1 << 16):
            yield piece


def _text(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "backslashreplace")


def _faults(command: list[str], out: str, err: str, code: int) -> Iterator[str]:
    text = f"{out}{err}"
    if code not in ENDINGS:
        yield f"exit code {code}: {err[-800:]}"
    if "Traceback" in text:
        yield text[text.index("Traceback") :]
    yield from re.findall(r"this is a bug.*", text)
    for stream in (out, err):
        if match := CONTROLS.search(OWN_SEQUENCES.sub("", stream)):
            yield f"a control character on the terminal: {stream[max(0, match.start() - 200) : match.end() + 200]!r}"
    if "--json" in command:
        yield from _faults_of_json(out)


def _faults_of_json(out: str) -> Iterator[str]:
    try:
        shown = json.loads(out)
    except ValueError as error:
        yield f"not JSON: {error}: {out[:300]!r}"
        return
    yield from (f"a control character in JSON: {text!r}" for text in _strings(shown) if CONTROLS.search(text))
    pods = [row.get("pod", row.get("name")) for row in (shown["rows"] if isinstance(shown, dict) else shown)]
    if GOOD not in pods:
        yield "the good pod is missing"


def _faults_of_state(state: Path, expected: tuple[str, ...]) -> Iterator[str]:
    try:
        pods = json.loads(state.read_text())["pods"]
    except ValueError as error:
        yield f"pods.json is broken: {error}"
        return
    yield from (f"a control character in pods.json: {text!r}" for text in _strings(pods) if CONTROLS.search(text))
    for pod, entry in pods.items():
        yield from (f"`{pod}` adopted {name!r}" for name in entry["models"] if not is_name(name))
    if tuple(pods[GOOD]["models"]) != expected:
        yield f"the good pod has the models {list(pods[GOOD]['models'])}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def is_drawn(experiment: Experiment, number: int) -> bool:
    """Return whether a batch runs on a terminal."""
    return experiment.drawn > 0 and number % experiment.drawn == 0


def run(first: int, step: int, operations: Iterable[str]) -> dict[str, Any]:
    """Try each answer, or from the `first` on each so many-th: with a `step`, every kind of field and of value."""
    forkserver.import_all()
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for operation, experiment in ((name, each) for name in operations for each in experiments(name)):
        wrong = experiment.wrong[first::step]
        counts[operation] += len(wrong)
        for number, begin in enumerate(range(0, len(wrong), BATCH)):
            batch = {f"p{index}": each for index, each in enumerate(wrong[begin : begin + BATCH])}
            faults += attempt(experiment, batch, on_terminal=is_drawn(experiment, number))
    return {"answers": counts, "faults": faults}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
