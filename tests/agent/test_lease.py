"""The lease on a download, between processes that share a folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent import home
from agent.download import lease as leases

from tests.until import until

REMOTE = Path(home.__file__).parents[1]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from agent import wire
from agent.download.lease import Lease
lease = Lease(sys.argv[2], sys.argv[3], "pod-" + sys.argv[3], abandoned=float(sys.argv[4]))
while not lease.take():
    if wire.stdin_ended(0.05):
        sys.exit()
print("held", flush=True)
while lease.keep():
    if wire.stdin_ended(0.05):
        lease.release()
        print("released", flush=True)
        sys.exit()
print("lost", flush=True)
"""


class Start:
    """A process that tries to take the lease; `output` is what it printed."""

    def __init__(self, folder: Path, uid: str, *, abandoned: float) -> None:
        self._path = folder / f"{uid}.out"
        words = [sys.executable, "-I", "-c", PROGRAM, str(REMOTE), str(folder / "lease"), uid, str(abandoned)]
        with self._path.open("w") as file:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file)

    @property
    def output(self) -> list[str]:
        return self._path.read_text().split()

    def leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(timeout=10) == 0


@pytest.fixture
def starts() -> Iterator[ExitStack]:
    """The processes pushed here are killed at the end."""
    with ExitStack() as stack:
        yield stack


def begin(starts: ExitStack, folder: Path, uid: str, *, abandoned: float = 60.0) -> Start:
    start = Start(folder, uid, abandoned=abandoned)
    starts.enter_context(start.process)
    starts.callback(start.process.kill)
    return start


def holders(processes: list[Start]) -> list[Start]:
    return [start for start in processes if start.output[-1:] == ["held"]]


def test_one_process_has_the_lease_and_releases_it_when_it_exits(starts: ExitStack, tmp_path: Path) -> None:
    processes = [begin(starts, tmp_path, f"{number}") for number in range(4)]
    for _ in range(4):
        until(lambda: len(holders(processes)) == 1)
        [holder] = holders(processes)
        assert json.loads((tmp_path / "lease").read_text())["uid"] == str(processes.index(holder))
        holder.leave()
    assert [start.output for start in processes] == [["held", "released"]] * 4
    assert list(tmp_path.glob("lease*")) == []


def test_a_holder_that_was_killed_on_this_machine_is_not_waited_for(starts: ExitStack, tmp_path: Path) -> None:
    first = begin(starts, tmp_path, "first")
    until(lambda: first.output == ["held"])
    second = begin(starts, tmp_path, "second")
    first.process.kill()
    first.process.wait()
    until(lambda: second.output == ["held"], seconds=10)


def test_a_lease_without_updates_is_taken_over_by_one_of_many(starts: ExitStack, tmp_path: Path) -> None:
    """The holder was on another machine, so only its updates show whether it is alive."""
    (tmp_path / "lease").write_text(json.dumps({"uid": "gone", "pod": "dc9", "pid": 1, "where": "elsewhere"}))
    processes = [begin(starts, tmp_path, f"{number}", abandoned=1.0) for number in range(5)]
    until(lambda: len(holders(processes)) == 1)
    [holder] = holders(processes)
    holder.leave()
    until(lambda: len(holders(processes)) == 1)


def test_a_lease_with_updates_is_never_taken_over(starts: ExitStack, tmp_path: Path) -> None:
    beats = [{"uid": "living", "pod": "dc9", "pid": 1, "where": "elsewhere", "beat": number} for number in range(12)]
    (tmp_path / "lease").write_text(json.dumps(beats[0]))
    waiting = begin(starts, tmp_path, "waiting", abandoned=2.0)
    for beat in beats:
        (tmp_path / "next").write_text(json.dumps(beat))
        (tmp_path / "next").replace(tmp_path / "lease")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.process.wait(timeout=0.5)
    assert waiting.output == []


def test_a_holder_that_reads_another_uid_in_the_lease_gives_up(starts: ExitStack, tmp_path: Path) -> None:
    """It may have been suspended for a while, during which another start took over."""
    first = begin(starts, tmp_path, "first")
    until(lambda: first.output == ["held"])
    (tmp_path / "lease").write_text(json.dumps({"uid": "other", "pod": "dc9", "pid": 1, "where": "elsewhere"}))
    until(lambda: first.output == ["held", "lost"])
    assert json.loads((tmp_path / "lease").read_text())["uid"] == "other"


def test_a_lease_that_cannot_be_written_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    lease = leases.Lease(str(tmp_path / "folder" / "lease"), "first", "dc1")
    assert lease.take()
    assert lease.keep()
    lease.release()
