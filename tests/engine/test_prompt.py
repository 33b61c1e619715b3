"""`pi prompt` with a real vLLM: thinking, tools on real files, both APIs, Ctrl+C, and a long chat."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.engine.conftest import Engine
from tests.engine.test_main_job import START
from tests.terminal import at_a_terminal
from tests.until import until

QUESTIONS = ["What is 2+2?", "What is the capital of France?"]
APIS = ("chat", "responses")


@pytest.fixture(scope="module")
def tiny(engine: Engine) -> Iterator[Engine]:
    """The pod with the tiny model, for all tests of this module; afterwards it is without models."""
    assert engine.setup.code == 0, engine.setup.err
    started = engine.pi(*START)
    assert started.code == 0, started.err
    yield engine
    engine.pi("stop", "--all")
    until(lambda: not [each for each in engine.pod.processes() if "PI_MODEL_UID" in each.environ])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "things"
    made.mkdir()
    (made / "apples.txt").write_text("TODO: pick them\n")
    return made


def running(engine: Engine) -> float:
    """Return how many requests vLLM's engine works on."""
    [listed] = engine.pi("list", "--json").json
    request = urllib.request.Request(f"http://{engine.pod.address}:{listed['port']}/metrics")
    request.add_header("Authorization", f"Bearer {KEY}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        found = re.search(r"^vllm:num_requests_running\S* (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("api", APIS)
def test_it_thinks_and_answers(tiny: Engine, api: str) -> None:
    result = tiny.pi("prompt", "tiny", "--api", api, "What is 2+2?")
    assert (result.code, result.out) == (0, "4\n")
    assert re.fullmatch(r"Simple arithmetic: two plus two is four\.\n15 tokens · \d+ tok/s\n", result.err)


@pytest.mark.parametrize("api", APIS)
def test_it_looks_at_a_real_directory(tiny: Engine, folder: Path, api: str) -> None:
    result = tiny.pi("prompt", "tiny", "--api", api, "--allow", str(folder), f"List the files in {folder}")
    assert (result.code, result.out) == (0, 'Listed. The first entry in it is "apples.txt"\n')
    assert f"● ls(path={folder})\n  ⎿ apples.txt\n" in result.err


@pytest.mark.parametrize("api", APIS)
def test_it_does_two_things_at_once(tiny: Engine, folder: Path, api: str) -> None:
    result = tiny.pi("prompt", "tiny", "--api", api, "--json", "--allow", str(folder), f"Survey {folder}")
    assert result.code == 0, result.err
    happened = [json.loads(line) for line in result.out.splitlines()]
    tools = [(each["type"], each["name"]) for each in happened if each["type"].startswith("tool_")]
    assert tools == [("tool_call", "ls"), ("tool_call", "rg"), ("tool_result", "ls"), ("tool_result", "rg")]
    assert "".join(each["text"] for each in happened if each["type"] == "text").strip()


def test_it_finds_a_file_and_reads_it(tiny: Engine, folder: Path) -> None:
    result = tiny.pi("prompt", "tiny", "--allow", str(folder), f"Find {folder}/*.txt and read the first match")
    assert result.out == 'Done. The file starts with this line: "TODO: pick them"\n'


@pytest.mark.parametrize("api", APIS)
def test_ctrl_c_in_the_middle_of_an_answer_ends_it_on_the_pod_too(tiny: Engine, api: str) -> None:
    """Fault 84."""
    command = [sys.executable, "-m", "pi_cli", "prompt", "tiny", "--api", api, *["Count to 100"] * 5]
    with subprocess.Popen(command, env=tiny.settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.stdout.read()
        assert process.wait(30) == 130
    assert time.monotonic() - began < 3
    until(lambda: running(tiny) == 0)


def test_the_conversation_continues(tiny: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert tiny.pi("prompt", "tiny", f"List the files in {folder}").code == 0
    for api in APIS:
        assert tiny.pi("prompt", "tiny", "-c", "--api", api, "What is the capital of France?").out == "Paris\n"


def test_a_context_that_is_full_is_made_room_in(tiny: Engine, folder: Path) -> None:
    """100 kB of a file are more than 32,768 tokens of a model that takes every byte for one."""
    (folder / "long.txt").write_text("".join(f"line {number}\n" for number in range(20_000)))
    result = tiny.pi("prompt", "tiny", "--allow", str(folder), f"Read {folder}/long.txt and summarize")
    assert (result.code, result.out) == (0, 'Done. The file starts with this line: "line 0"\n'), result.err


def test_a_chat_of_twenty_prompts_on_a_terminal(tiny: Engine, folder: Path) -> None:
    with at_a_terminal(
        "prompt", "tiny", "-i", "--allow", str(folder), environ=tiny.settings | {"TERM": "xterm-256color"}
    ) as terminal:
        for number in range(20):
            terminal.asks(times=number + 1)
            terminal.type(f"{QUESTIONS[number % 2]}\r" if number % 5 else f"List the files in {folder}\r")
            terminal.shows("tok/s", times=number + 1)
        terminal.asks(times=21)
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert terminal.text.count("apples.txt") >= 4
    assert running(tiny) == 0


def test_a_chat_of_twenty_prompts_from_a_pipe(tiny: Engine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pi_cli", "prompt", "tiny", "-i"],
        input="".join(f"{question}\n" for question in QUESTIONS * 10),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=tiny.settings,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["4", "Paris"] * 10)
