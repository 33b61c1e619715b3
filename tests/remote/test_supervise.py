"""`remote/setup/supervise.sh`: what it runs ends with stdin, even if it leaves the session or ignores TERM."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.until import until

SUPERVISE = Path(__file__).parents[2] / "remote/setup/supervise.sh"

Supervise = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Run bash code under supervision, in a folder of its own; kill what outlives the test."""
    with ExitStack() as stack:

        def begin(code: str) -> "subprocess.Popen[str]":
            command = ["bash", str(SUPERVISE), "bash", "-c", code]
            process = subprocess.Popen(command, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin
        for pid in pids(tmp_path):
            subprocess.run(["kill", "-KILL", str(pid)], check=False)


def pids(folder: Path) -> list[int]:
    """Return the processes in the file `pids` that are still alive."""
    noted = [int(line) for line in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []
    return [pid for pid in noted if is_alive(pid)]


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_a_command_that_ends_by_itself_gives_its_status_and_leaves_its_daemons(
    supervise: Supervise, tmp_path: Path
) -> None:
    process = supervise("setsid sleep 600 > /dev/null 2>&1 & echo $! >> pids; echo out; echo err >&2; exit 13")
    assert process.stdout
    assert process.stdout.read() == "out\nerr\n"
    assert process.wait(10) == 13
    assert len(pids(tmp_path)) == 1


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("sleep 600 & echo $! >> pids; echo $$ >> pids; echo go; wait", id="a child"),
        pytest.param("(echo $BASHPID >> pids; sleep 600 & wait) & echo go; wait", id="a branch"),
        pytest.param("setsid sleep 600 & echo $! >> pids; echo go; wait", id="a session of its own"),
        pytest.param(
            "setsid bash -c 'sleep 600 & echo $! >> pids' & wait; echo go; sleep 600", id="a daemon without parents"
        ),
        pytest.param(
            "cd / && exec 3<&- && setsid nohup sleep 600 & echo $! >> pids; echo go", id="what is left behind"
        ),
    ],
)
def test_everything_that_was_started_ends_with_stdin(supervise: Supervise, tmp_path: Path, code: str) -> None:
    process = supervise(f"{code}; sleep 600")
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "go\n"
    until(lambda: pids(tmp_path))
    process.stdin.close()
    process.wait(10)
    until(lambda: pids(tmp_path) == [], seconds=4)


def test_a_process_that_ignores_term_is_killed_after_five_seconds(supervise: Supervise, tmp_path: Path) -> None:
    process = supervise("trap '' TERM; setsid bash -c 'echo $$ >> pids; echo go; while :; do sleep 1; done'; :")
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "go\n"
    process.stdin.close()
    until(lambda: pids(tmp_path) == [], seconds=9)


def test_a_process_that_lost_the_mark_is_found_by_its_parents(supervise: Supervise, tmp_path: Path) -> None:
    """Like a process under sudo, which clears the environment and starts a new session."""
    process = supervise("env -i setsid bash -c 'echo $$ >> pids; echo go; sleep 600 & wait'; :")
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "go\n"
    process.stdin.close()
    until(lambda: pids(tmp_path) == [], seconds=4)


def test_other_processes_are_not_touched(supervise: Supervise, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        process = supervise("echo $$ >> pids; echo go; sleep 600")
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "go\n"
        process.stdin.close()
        until(lambda: pids(tmp_path) == [], seconds=4)
        assert is_alive(bystander.pid)
        bystander.kill()
