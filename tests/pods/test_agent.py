"""The door: what a pod may answer, what pi makes of it, and how long it waits.

`tests/hostile` replaces every field by every kind of nonsense and asks whether that did harm; here is what the user is
shown instead.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import PiError
from pi_cli.pods import agent
from pi_cli.pods.agent_link import MARK_BYTES, MAX_LINE, MAX_NOISE, MarkedLines, NotUnderstood, PodHangs
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh import login
from pi_cli.ssh.session import PodSession
from tests.conftest import Pi, pods_json, register
from tests.hostile import answers
from tests.hostile.driver import HostileSession
from tests.hostile.driver import answer as as_line
from tests.hostile.driver import line as refused_line
from tests.pods.scripted import GIVES_ITS_ANSWER, HANGS, answer, model, put_answer, script, script_by_model, survey

T = TypeVar("T")

NOT_UNDERSTOOD = "pod `dc1` gave an answer that pi does not understand: "
SILENCE = 1.5  # seconds that the agent may be silent in these tests
WRONG = {
    "port": ("8001", '"8001" is not a whole number from 1 to 65535'),
    "pid": (12.5, "12.5 is not a whole number from 0 to 4294967296"),
    "gpu": ("all", '"all" is not a list of GPU ids'),
    "uid": (5, "5 is not a text"),
    "model": (None, "null is not a text"),
    "memory": (1.5, "1.5 is not a share from 0 to 1"),
    "private": (1, "1 is not true or false"),
    "status": ("fine", '"fine" is not one of orphaned, ready, stalled, starting, unhealthy'),
    "age": ([], "a value of type list is not a number"),
    "requests": ([1], "a value of type list is not a pair"),
    "metrics": ({**answers.METRICS, "running": -1}, "-1 is not a number of at least 0"),
}
OUT_OF_RANGE = {"port": (65536, 0, -1), "pid": (-1, 1 << 33), "age": (1e300,), "memory": (0, -0.5, 2), "idle": (-1e18,)}
FOREIGN = ["x\\$(touch PWNED)", "../../etc/x", "--all", "a b", "x;touch PWNED;", "é", "q" * 65]


@pytest.fixture(scope="module")
def machine() -> Iterator[EmbeddedPod]:
    with EmbeddedPod() as pod:
        yield pod


@pytest.fixture
def dc1(machine: EmbeddedPod) -> EmbeddedPod:
    """The pod of this module, registered as `dc1`."""
    register("dc1", machine, count=2)
    return machine


def parsed(result: Any) -> Any:
    """Return what pi makes of an answer to a survey."""
    return asyncio.run(agent.survey(HostileSession("dc1", {"survey": as_line(result)}), [], forget=False))


def connected(pod: EmbeddedPod, work: Callable[[PodSession], Awaitable[T]], *, silence: float = 30.0) -> T:
    """Work over a connection on which the agent may be silent for so many seconds."""

    async def connect() -> T:
        async with login.connect("dc1", pod.ssh) as session:
            session.silence = silence
            return await work(session)

    return asyncio.run(connect())


async def ask(session: PodSession, name: str = "q") -> Any:
    """Survey the pod; return its models or the error."""
    try:
        known = [{"name": name, "uid": None, "pid": 0, "port": 0, "gpu": ""}]
        return (await agent.survey(session, known, forget=False)).models  # type: ignore[arg-type]
    except PiError as error:
        return error


# What the answer says


def test_a_wrong_value_is_named_in_the_error_of_that_pod() -> None:
    for key, (value, complaint) in WRONG.items():
        with pytest.raises(NotUnderstood) as caught:
            parsed(survey(model(**{key: value})))
        assert str(caught.value) == NOT_UNDERSTOOD + complaint
        assert caught.value.exit_code == 1


def test_a_number_out_of_range_is_not_understood() -> None:
    for key, values in OUT_OF_RANGE.items():
        for value in values:
            with pytest.raises(NotUnderstood, match=r"is not a "):
                parsed(survey(model(**{key: value})))


def test_a_missing_field_is_named() -> None:
    for key in answers.MODEL:
        with pytest.raises(NotUnderstood) as caught:
            parsed(survey({name: value for name, value in answers.MODEL.items() if name != key}))
        assert str(caught.value) == f"{NOT_UNDERSTOOD}'{key}' is missing"
    for key in survey():
        with pytest.raises(NotUnderstood, match=f"'{key}' is missing"):
            parsed({name: value for name, value in survey().items() if name != key})


def test_unknown_keys_are_ignored() -> None:
    newer = survey(model(colour="blue"), dead=[{**answers.DEAD, "coroner": {}}], vllm=None, motd=["\x1b[2J"])
    assert parsed(newer) == parsed(survey(model(), dead=[answers.DEAD]))


@pytest.mark.parametrize(
    ("folder", "paths", "kept"),
    [
        ("/hub", ["/hub/models--a--b", "/hub/models--a--b/blobs/0f.incomplete"], 2),
        ("/", ["/etc", "/home", "/root/.ssh"], 0),
        ("/hub", ["/hub", "/hub/", "/hub/models--a--b/..", "/hub/models--a/blobs/..", "/hub/version.txt"], 0),
        ("/hub", ["/hub/models--a--b/../../etc", "/other/models--a--b", "--no-preserve-root"], 0),
    ],
    ids=["cache", "root", "not models", "elsewhere"],
)
def test_only_models_of_the_cache_are_proposed_for_deletion(folder: str, paths: list[str], kept: int) -> None:
    """The hint is a command with `rm`, and the pod says which paths."""
    refusal = {
        "code": "no-room-on-disk",
        "path": folder,
        "paths": paths,
        "frees": 1,
        "free": 1,
        "lacking": 2,
        "total": 3,
    }
    session = HostileSession("dc1", {"survey": refused_line(json.dumps({"refusal": refusal}))})
    with pytest.raises(AgentRefused) as refused:
        asyncio.run(agent.survey(session, [], forget=False))
    assert list(refused.value.refusal.paths) == paths[:kept]


def test_an_answer_that_is_not_understood_records_nothing(pi: Pi, dc1: EmbeddedPod) -> None:
    before = pods_json()
    answer(dc1, survey(model(name="sound"), model(port="8001")))
    result = pi("list")
    assert (result.code, result.out) == (1, "")
    assert f'error: {NOT_UNDERSTOOD}"8001" is not a whole number from 1 to 65535\n' in result.err
    assert "hint: see what runs there with `pi ssh dc1`" in result.err
    assert pods_json() == before


def test_a_list_without_the_memory_of_the_gpus_says_that_the_driver_does_not_answer(pi: Pi, dc1: EmbeddedPod) -> None:
    answer(dc1, survey(model(memory_used=None), driver_hangs=True))
    result = pi("list")
    assert (
        "dc1: the driver does not answer, so the memory of its GPUs is not shown; `pi pods --check` waits for it\n"
    ) in result.err


def test_a_name_that_breaks_the_rule_is_shown_and_never_used(pi: Pi, dc1: EmbeddedPod) -> None:
    private = model(name="$(private)", private=True)
    answer(dc1, survey(private, model(name="sound"), *(model(name=name) for name in FOREIGN)))
    for line in ("list", "list --json"):
        result = pi(*line.split())
        assert result.code == 0, result.err
        for name in FOREIGN:
            assert f"a model with a name that pi does not allow is running and was not added: {name}\n" in result.err
            if line == "list":
                assert name in result.out
        assert "`" not in result.err.replace("found `sound` running here", "")
        assert set(re.findall("pi [a-z]+ .*", result.out)) <= {"pi forward sound"}
    foreign = {each["name"]: (each["status"], each["url"]) for each in result.json if each["name"] != "sound"}
    assert foreign == dict.fromkeys([*FOREIGN, "$(private)"], ("foreign", None))
    assert list(pods_json()["pods"]["dc1"]["models"]) == ["sound"]
    for shell in ("bash", "zsh", "fish"):
        pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": "pi stop ", "COMP_CWORD": "2"}
        pressed |= {"_TYPER_COMPLETE_ARGS": "pi stop ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        offered = pi(**pressed).out
        assert "sound" in offered
        assert not [name for name in FOREIGN if name in offered]


def test_a_name_with_control_characters_does_not_become_another_name(pi: Pi, dc1: EmbeddedPod) -> None:
    answer(dc1, survey(model(name="q\x1b]52;c;RVZJTA==\x07wen")))
    result = pi("list", "--json")
    [listed] = result.json
    assert (listed["name"], listed["status"]) == ("qwen\ufffd", "foreign")
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_free_text_loses_its_control_characters_on_every_way_out(pi: Pi, dc1: EmbeddedPod) -> None:
    """On a terminal: `tests/hostile`."""
    unsafe = {"model": "Qwen/\x1b]52;c;RVZJTA==\x07Qwen3\u009b2J-8B\u202e", "phase": "loading\x1b[31m weights\r\n1/2"}
    answer(dc1, survey(model(status="starting", **unsafe), unreadable=[{"file": "x\x1b[2J.json", "reason": "\x9b6n?"}]))
    table, listed = pi("list"), pi("list", "--json")
    assert "Qwen/Qwen3-8B<U+202E>" in table.out
    assert "starting (loading weights 1/2, 12s)" in table.out
    assert "skipped the record x.json: ?\n" in table.err
    assert (listed.json[0]["model"], listed.json[0]["phase"]) == ("Qwen/Qwen3-8B<U+202E>", "loading weights 1/2")
    assert pods_json()["pods"]["dc1"]["models"]["q"]["model"] == "Qwen/Qwen3-8B<U+202E>"
    for text in (table.out, table.err, listed.out, listed.err):
        assert text.replace("\n", "").isprintable()


# How it comes


def test_an_agent_is_waited_for_as_long_as_it_beats(dc1: EmbeddedPod) -> None:
    """All at once, since each takes seconds."""
    put_answer(dc1, survey(model()))
    beats = """for i in 1 2 3 4 5 6 7 8; do printf '\\036pi {"event": "beat"}\\n'; sleep 0.3; done"""
    script_by_model(
        dc1,
        {
            "hangs": HANGS,
            "beats": f"{beats}; {GIVES_ITS_ANSWER}",
            "beats-then-hangs": f"{beats}; {HANGS}",
            "answers-then-hangs": f"{GIVES_ITS_ANSWER}; {HANGS}",
            "log-hangs": f"""printf '\\036pi {{"result": {{}}}}\\n'; {HANGS}""",
        },
    )

    async def follow(session: PodSession) -> Any:
        source = {"name": "log-hangs", "uid": None, "pid": 0, "port": 0, "gpu": "", "position": None}
        request = {"sources": [source], "lines": None, "since": None, "grep": None, "follow": True, "looks": False}
        try:
            return await agent.logs(session, request, lambda *_: None)  # type: ignore[arg-type]
        except PiError as error:
            return error

    async def all_at_once(session: PodSession) -> list[Any]:
        names = ("beats", "answers-then-hangs", "hangs", "beats-then-hangs")
        return await asyncio.gather(*(ask(session, name) for name in names), follow(session))

    began = time.monotonic()
    beating, answered, *hanging = connected(dc1, all_at_once, silence=SILENCE)
    assert [each.name for each in beating] == [each.name for each in answered] == ["q"]
    for error in hanging:
        assert isinstance(error, PodHangs)
        assert "it answers SSH, but its python3 hangs (it sent nothing for 2 s)" in str(error)
        assert error.exit_code == 3
    assert time.monotonic() - began < 20


def test_an_agent_that_ends_without_an_answer_is_reported_with_the_reason(dc1: EmbeddedPod) -> None:
    ends = {
        "kill -9 $$": "pod `dc1` did not answer: its python3 was killed (out of memory?)",
        "exit 127": "pod `dc1` has no python3",
        "exit 0": "pod `dc1` did not answer (exit code 0): it printed nothing",
        "echo 'disk\x1b[2J quota exceeded' >&2; exit 1": "pod `dc1` did not answer (exit code 1): disk quota exceeded",
        "echo restricted shell; exit 1": "pod `dc1` did not answer (exit code 1): restricted shell",
    }

    async def ask_each(session: PodSession) -> dict[str, str]:
        messages = {}
        for commands in ends:
            script(dc1, commands)
            error = await ask(session)
            assert error.hint
            messages[commands] = str(error)
        return messages

    assert connected(dc1, ask_each) == ends


def test_a_flood_on_stderr_does_not_hide_the_answer(dc1: EmbeddedPod) -> None:
    put_answer(dc1, survey(model()))
    script(dc1, f"head -c 3000000 /dev/zero >&2; {GIVES_ITS_ANSWER}; echo the end >&2")
    assert [each.name for each in connected(dc1, ask)] == ["q"]


def test_output_without_end_is_cut_off(dc1: EmbeddedPod) -> None:
    script(dc1, "while head -c 500000 /dev/zero; do sleep 0.05; done")
    error = connected(dc1, ask)
    assert str(error) == f"{NOT_UNDERSTOOD}a line of more than {MAX_LINE} bytes"


def test_each_limit_is_named_when_it_is_exceeded() -> None:
    def feed(data: bytes) -> None:
        lines = MarkedLines("dc1", lambda _: None)
        for begin in range(0, len(data), 1 << 18):
            lines.feed(data[begin : begin + (1 << 18)])

    beat = MARK_BYTES + b'{"event": "beat"}\n'
    long_beat = MARK_BYTES + b'{"event": "beat", "x": "' + b"x" * (MAX_LINE - 100) + b'"}\n'
    for harmless in (long_beat, b"noise\n" * (MAX_NOISE // 5 - 1)):
        feed(harmless)
    for data, complaint in {
        b"E" * (MAX_LINE + 1): f"a line of more than {MAX_LINE} bytes",
        MARK_BYTES + b"E" * MAX_LINE: f"a line of more than {MAX_LINE} bytes",
        b"noise\n" * (MAX_NOISE // 5 + 1): f"more than {MAX_NOISE} bytes that are not from the agent",
        (b"x" * 1000 + beat) * 1100: f"more than {MAX_NOISE} bytes that are not from the agent",
        MARK_BYTES + b"[]\n": "JSON that is not an object",
        MARK_BYTES + b"{}\n": "a message that is neither an event nor an answer",
        MARK_BYTES + b"{not json\n": "text that is not JSON",
        MARK_BYTES + b'{"result": NaN}\n': "text that is not JSON",
    }.items():
        with pytest.raises(NotUnderstood) as caught:
            feed(data)
        assert str(caught.value) == NOT_UNDERSTOOD + complaint
