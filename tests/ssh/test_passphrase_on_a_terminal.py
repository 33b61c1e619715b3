"""The passphrase of a key, typed on a terminal: the real command, a real terminal, an embedded pod."""

import json
import os
import pty
import select
import signal
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.forkserver import FORKSERVER, Process
from tests.ssh.keys import lock


class Terminal:
    """A terminal, and the command that runs on it; stdout goes to a file, as in `pi list > file`."""

    def __init__(self, process: Process, leader: int, out: Path) -> None:
        self.process, self._leader, self._out = process, leader, out
        self.seen = ""

    def sees(self, text: str, *, times: int = 1, seconds: float = 20) -> None:
        """Wait until the text has appeared this many times."""
        deadline = time.monotonic() + seconds
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, self.seen
            self._look(0.1)

    def types(self, text: str) -> None:
        os.write(self._leader, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._leader)[3] & termios.ECHO)

    def end(self, seconds: float = 20) -> int:
        """Wait for the command to end, and return its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            self._look(0.05)
        self._look(0)
        return self.process.wait()

    @property
    def out(self) -> str:
        return self._out.read_text()

    def _look(self, seconds: float) -> None:
        with suppress(OSError):  # EIO: no process has it open
            while select.select([self._leader], [], [], seconds)[0]:
                self.seen += os.read(self._leader, 4096).decode("utf-8", "replace")
                seconds = 0


@contextmanager
def at_a_terminal(out: Path, *words: str) -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    with out.open("wb") as file:
        process = FORKSERVER.start(words, stdout=file.fileno(), stderr=follower, terminal=follower)
    try:
        yield Terminal(process, leader, out)
    finally:
        process.kill()
        process.wait()
        os.close(follower)
        os.close(leader)


@pytest.fixture
def locked(embed: Callable[..., EmbeddedPod]) -> EmbeddedPod:
    """A pod, registered as `dc1` and as `dc2`, whose key has the passphrase `secret`."""
    machine = embed("dc1")
    folder = Path(os.environ["PI_CONFIG_DIR"])
    state = pods_json()
    state["pods"]["dc2"] = state["pods"]["dc1"]
    (folder / "pods.json").write_text(json.dumps(state))
    with (folder / "known_hosts").open("a") as file:
        file.write(f"dc2 {machine.host_key}\n")
    lock(machine, "secret")
    return machine


def test_it_is_asked_once_without_echo_and_stdout_has_only_data(locked: EmbeddedPod, tmp_path: Path) -> None:
    """Fault 11."""
    with at_a_terminal(tmp_path / "out", "list", "--json", "--pod", "dc1", "--pod", "dc2") as terminal:
        terminal.sees(f"Passphrase for {locked.key}: ")
        assert not terminal.echoes
        terminal.types("wrong\n")
        terminal.sees(f"Wrong. Passphrase for {locked.key}: ")
        terminal.types("secret\n")
        assert terminal.end() == 0
        assert json.loads(terminal.out) == []
        assert terminal.seen.count("Passphrase") == 2
        assert "secret" not in terminal.seen
        assert terminal.echoes


def test_after_three_wrong_passphrases_the_login_fails(locked: EmbeddedPod, tmp_path: Path) -> None:
    """Fault 11."""
    with at_a_terminal(tmp_path / "out", "list", "--pod", "dc1", "--pod", "dc2") as terminal:
        for number in range(1, 4):
            terminal.sees("assphrase for", times=number)
            terminal.types(f"{number}\n")
        assert terminal.end() == 3
        assert f"`{locked.key}` needs its passphrase" in terminal.seen
        assert terminal.seen.count("Passphrase for") == 3


@pytest.mark.parametrize("how", ["typed", "sent"])
def test_ctrl_c_at_the_prompt_exits_at_once_and_restores_the_terminal(
    locked: EmbeddedPod, tmp_path: Path, how: str
) -> None:
    """Fault 11."""
    del locked
    with at_a_terminal(tmp_path / "out", "list") as terminal:
        terminal.sees("Passphrase for")
        if how == "typed":
            terminal.types("\x03")
        else:
            terminal.process.send_signal(signal.SIGINT)
        assert terminal.end(seconds=3) == 130
        assert terminal.echoes
        assert "Traceback" not in terminal.seen


def test_a_live_view_makes_room_for_the_prompt(locked: EmbeddedPod, tmp_path: Path) -> None:
    words = ("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1")
    with at_a_terminal(tmp_path / "out", *words) as terminal:
        terminal.sees(f"Passphrase for {locked.key}: ")
        prompted = len(terminal.seen)
        with pytest.raises(AssertionError):
            terminal.sees("connecting", times=terminal.seen.count("connecting") + 1, seconds=1)
        assert terminal.seen[prompted:] == ""  # nothing was drawn over it
        terminal.types("secret\n")
        assert terminal.end(seconds=60) == 0
        assert "downloading" in terminal.seen
    with at_a_terminal(tmp_path / "out", "stop", "q", "--pod", "dc1") as terminal:
        terminal.sees("Passphrase for")
        terminal.types("secret\n")
        assert terminal.end() == 0


def test_there_is_no_prompt_if_stderr_is_not_a_terminal(pi: Pi, locked: EmbeddedPod) -> None:
    """Fault 11, security check 16."""
    result = pi("list", "--pod", "dc1", timeout=15)
    assert result.code == 3
    assert f"`{locked.key}` needs its passphrase" in result.err
    assert f"hint: load it into your ssh agent with `ssh-add {locked.key}`" in result.err
    assert "Passphrase for" not in result.err
