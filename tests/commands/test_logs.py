"""`pi logs`: what vLLM prints, as it is, until it dies or we go."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.until import until


def tails(pod: EmbeddedPod) -> list[str]:
    return [" ".join(process.command) for process in pod.processes() if "tail" in Path(process.command[0]).name]


def follow(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "pi_cli", "logs", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_last_lines_come_byte_for_byte(pi: Pi, pod: EmbeddedPod) -> None:
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    log = (pod.home / ".vllm_logs" / "q.log").read_bytes()
    with follow("q", "-n", "3", "--no-follow") as last:
        assert last.communicate()[0].splitlines() == log.splitlines()[-3:]
    with follow("q", "-n", "all", "--no-follow") as whole:
        assert log in whole.communicate()[0]


def test_following_shows_what_comes_and_ctrl_c_ends_only_the_watching(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 59."""
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    with follow("q", "-n", "1") as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        with (pod.home / ".vllm_logs" / "q.log").open("ab") as log:
            log.write(b"[/INST] :smile: {} %s [bold]x[/bold]\n")
        assert b"[/INST] :smile: {} %s [bold]x[/bold]\n" in iter(watching.stdout.readline, b"")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=5) == 130
        assert watching.stderr is not None
        assert b"Traceback" not in watching.stderr.read()
    until(lambda: not tails(pod))
    assert pi("list", "--json").json[0]["status"] == "ready"


def test_a_reader_that_goes_away_ends_it(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 60."""
    pi("start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate", "spam=2000")
    with follow("q") as watching:
        assert watching.stdout is not None
        watching.stdout.read(100)
        watching.stdout.close()
        watching.wait(timeout=10)
        assert watching.stderr is not None
        assert watching.stderr.read() == b""
    until(lambda: not tails(pod))


def test_it_ends_by_itself_when_the_model_dies(pi: Pi, pod: EmbeddedPod) -> None:
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    with follow("q", "-n", "1") as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        for process in pod.processes():
            if "PI_MODEL_UID" in process.environ:
                os.kill(process.pid, signal.SIGKILL)
        said = watching.communicate(timeout=15)[1]
    assert watching.returncode in (0, 3)
    assert b"has ended" in said or b"connection" in said


def test_the_log_of_a_dead_model_is_shown(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 66."""
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    pi("stop", "q")
    result = pi("logs", "q")
    assert result.code == 0
    assert "Application startup complete" in result.out
    assert "`q` does not run; this is its last log" in result.err
    assert pod.commands


def test_a_model_without_log_is_an_error(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("logs", "nothing")
    assert result.code == 1
    assert "there is no log at" in result.err
    assert pod.commands


def test_on_a_terminal_control_sequences_are_neutralised(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 62."""
    pi("start", "Qwen/Qwen3-8B", "--name", "q")
    with (pod.home / ".vllm_logs" / "q.log").open("ab") as log:
        log.write(b"\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\x1b[6n\x1b[31mred\x1b[0m end\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pi_cli", "logs", "q", "-n", "1", "--no-follow"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as shown:
        os.close(theirs)
        shown.wait(timeout=30)
        screen = os.read(ours, 65536)
    os.close(ours)
    assert b"red" in screen
    assert b"\x1b[31m" in screen
    for sequence in (b"\x1b]", b"\x1b[2J", b"\x1b[6n", b"\x07"):
        assert sequence not in screen
