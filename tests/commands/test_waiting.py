"""A sign of life: within a second of waiting, every command says for whom, and takes that line away again."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.terminal import Terminal, at_a_terminal
from tests.until import until
from tests.view.screen import Screen

MODEL = {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 7, "uid": "0" * 32}
GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
COMMANDS = [
    "prompt q hello",
    "prompt q hello --json",
    "prompt q -i",
    "run q -- true",
    "env q",
    "forward q",
    "check q",
    "check q --json",
    "stop q",
    "stop --all",
    "logs q",
    "logs q --no-follow",
    "list",
    "list --json",
    "list --all",
    "start Qwen/Qwen3-8B --name r",
    "start Qwen/Qwen3-8B --name r --json",
    "start --attach q",
    "ssh dead true",
    "pods --check",
    "pods list --check --json",
    "pods remove dead --purge --yes",
    "pods setup dead",
]


@pytest.fixture(autouse=True)
def dead() -> Iterator[None]:
    """A pod whose port accepts connections, and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        pod = {"ssh": f"ssh -p {listener.getsockname()[1]} root@127.0.0.1", "gpus": [GPU], "models": {"q": MODEL}}
        folder = Path(os.environ["PI_CONFIG_DIR"])
        folder.mkdir()
        (folder / "pods.json").write_text(json.dumps({"pods": {"dead": pod}, "active": "dead"}))
        yield


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_names_the_pod_that_it_waits_for(line: str) -> None:
    if line.startswith("ssh") and not shutil.which("ssh"):
        pytest.skip("needs the OpenSSH client")
    with at_a_terminal(*line.split()) as terminal:
        until(lambda: "dead" in terminal.text.replace(line, "") and "connecting" in terminal.text, terminal.text)
        assert terminal.process.poll() is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start someone/model --name r", "asking the Hugging Face Hub at `http://127.0.0.1:"),
        ("models update", "fetching the recipes of `http://127.0.0.1:"),
    ],
)
def test_a_server_that_says_nothing_is_named_too(line: str, words: str) -> None:
    port = json.loads(Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_text())["pods"]["dead"]["ssh"].split()[2]
    silent = dict.fromkeys(("HF_ENDPOINT", "PI_RECIPES_URL"), f"http://127.0.0.1:{port}")
    with at_a_terminal(*line.split(), columns=120, environ=silent) as terminal:
        terminal.shows(words)
        assert terminal.process.poll() is None


def test_after_ctrl_c_the_line_is_gone() -> None:
    with at_a_terminal("stop", "q") as terminal:
        terminal.shows("connecting to `dead` (1s)")  # it counts
        terminal.type("\x03")
        assert terminal.wait() == 130
        until(lambda: rows(terminal) in ([""], ["^C"]), terminal.raw)


def rows(terminal: Terminal) -> list[str]:
    """Return what is on the screen; rich and the line editor are not drawn here, which know more sequences."""
    screen = Screen(80)
    screen.raw = terminal.raw
    return screen.rows


def test_it_is_never_on_stdout_and_never_in_a_pipe(pi: Pi) -> None:
    failed = pi("stop", "q", PI_CONNECT_TIMEOUT="1.5")
    assert failed.code == 3
    assert failed.out == ""
    assert failed.err.startswith("error: cannot reach pod `dead`")


def test_a_terminal_that_cannot_remove_a_line_gets_one_that_stays() -> None:
    with at_a_terminal("stop", "q", environ={"TERM": "dumb"}) as terminal:
        terminal.shows("connecting to `dead` (3s)\n")
        assert "\x1b" not in terminal.raw


@pytest.mark.usefixtures("pod")
def test_waiting_for_the_first_token_is_said_until_it_arrives(pi: Pi) -> None:
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1", "--vllm", "--simulate", "rate=0.8")
    assert started.code == 0, started.err
    with at_a_terminal("prompt", "dc1/q", "--max-tokens", "1", "What is 2+2?") as terminal:
        terminal.shows("waiting for the first token (0s)")
        assert terminal.wait() in (0, 1)
        until(lambda: terminal.raw.endswith("\n"))
        assert "waiting" not in "\n".join(rows(terminal))
