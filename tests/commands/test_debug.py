"""`PI_DEBUG=1` and `pi --debug`: what pi does, on stderr and in a file, without secrets; and what a bug prints."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import KEY, TOKEN, Pi

LINE = re.compile(r"debug: +\d+\.\d{3}  \S.*")
ROOT = Path(__file__).parents[2]


def last_log() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "logs", "last.log")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_pi_debug_writes_what_pi_does_to_stderr_and_to_a_file_without_secrets(pi: Pi, pod: EmbeddedPod) -> None:
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", PI_DEBUG="1")
    answered = pi("prompt", "q", "What is 2+2?", PI_DEBUG="1")
    assert (started.code, answered.code) == (0, 0), started.err + answered.err
    assert answered.out == "4\n"
    prompted = last_log().read_text()
    for text in (answered.err, prompted):
        assert "HTTP Request: POST http" in text
    assert pi("list", PI_DEBUG="1").code == 0
    listed = last_log().read_text()
    assert re.match(r"pi \d\S* on \w+, Python 3\.\d+\.\d+: pi list\n", listed)
    for text in (started.err, listed):
        assert f"dc1: logging in to `127.0.0.1` port {pod.port}, time-out " in text
        assert re.search(r"dc1: logged in to \S+ with \S+", text)
        assert re.search(r"dc1: request to its agent: (start|survey) {", text)
        assert re.search(r'dc1: its agent sent {"(event|result)": ', text)
    assert '"download_environment": ["HF_' in started.err
    for text in (started.err, answered.err, prompted, listed):
        assert KEY not in text
        assert TOKEN not in text
    assert pod.processes()


def test_debug_changes_neither_stdout_nor_what_a_pipe_reads(pi: Pi, pod: EmbeddedPod) -> None:
    plain = pi("list", "--json")
    assert "debug" not in plain.err
    assert not last_log().exists()
    debugged = pi("--debug", "list", "--json")
    assert (debugged.code, debugged.json) == (0, plain.json)
    notes = [line for line in debugged.err.splitlines() if line.startswith("debug: ")]
    assert notes
    assert all(LINE.fullmatch(line) for line in notes)
    assert [line.removeprefix("debug: ") for line in notes] == last_log().read_text().splitlines()[1:]
    seconds = [float(line.split()[1]) for line in notes]
    assert seconds == sorted(seconds)
    assert "request to its agent: survey" in last_log().read_text()
    off = pi("list", "--json", PI_DEBUG="0")
    assert "debug" not in off.err
    assert pod.commands


def test_the_log_of_the_last_command_is_private_and_replaced(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
    log = last_log()
    log.parent.mkdir()
    log.write_text("from before\n")
    log.chmod(0o666)
    assert pi("list", PI_DEBUG="1").code == 0
    assert "from before" not in log.read_text()
    assert mode(log) == 0o600
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pods.json", "known_hosts"):
        (elsewhere / name).write_bytes(Path(os.environ["PI_CONFIG_DIR"], name).read_bytes())
    before = log.read_bytes()
    assert pi("--debug", "list", PI_CONFIG_DIR=str(elsewhere)).code == 0
    assert log.read_bytes() == before
    assert "dc1: logged in" in (elsewhere / "logs" / "last.log").read_text()
    assert mode(elsewhere / "logs" / "last.log") == 0o600
    assert mode(elsewhere / "logs") == 0o700
    assert pod.commands


BROKEN_PI = """
import os, sys
from pi_cli.commands import main, quick

def fail(*arguments):
    raise RuntimeError("unexpected " + os.environ["PI_API_KEY"] + " " + os.environ["HF_TOKEN"])

quick.answer = fail
sys.argv = ["pi", *sys.argv[1:]]
main.main()
"""


def broken_pi(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a pi that raises an exception which it does not handle."""
    command = [sys.executable, "-c", BROKEN_PI, *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ, cwd=ROOT
    )


def test_an_exception_that_pi_does_not_handle_is_one_line_and_a_log_to_report() -> None:
    last_log().parent.mkdir(parents=True)
    last_log().touch(0o644)
    done = broken_pi("list", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    message, hint = done.stderr.splitlines()
    assert message == "error: this is a bug in pi: RuntimeError: unexpected [PI_API_KEY] [HF_TOKEN]"
    assert str(last_log()) in hint
    log = last_log().read_text()
    assert mode(last_log()) == 0o600
    assert re.match(r"pi \d\S* on \w+, Python 3\.\d+\.\d+: pi list --json\n", log)
    assert "Traceback (most recent call last):" in log
    assert "in fail\n" in log
    assert "RuntimeError: unexpected [PI_API_KEY] [HF_TOKEN]" in log
    assert KEY not in log
    assert TOKEN not in log
    debugged = broken_pi("--debug", "list")
    assert debugged.returncode == 1
    assert "Traceback (most recent call last):" in debugged.stderr
    assert "error: this is a bug in pi: " in debugged.stderr.splitlines()[-2]
    assert KEY not in debugged.stderr
    assert TOKEN not in debugged.stderr
