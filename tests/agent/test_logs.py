"""The pod's side of `pi logs`, fed to python3 as pi does it: which bytes it sends, and when it ends."""

import fcntl
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pi_cli.pods.agent_link import MARK_BYTES as MARK
from tests.agent.log_machine import LogMachine, LogReader
from tests.agent.machine import start_request
from tests.until import until


@pytest.fixture
def machine(environment: Path) -> Iterator[LogMachine]:
    with ExitStack() as stack:
        log_machine = LogMachine(environment, stack)
        log_machine.folder.mkdir()
        yield log_machine
        for record in log_machine.records():
            if record["pid"]:
                with suppress(ProcessLookupError):
                    os.killpg(record["pid"], signal.SIGKILL)


def test_existing_and_new_lines_are_sent_byte_for_byte(machine: LogMachine) -> None:
    machine.launch()
    machine.write(b"one\n\xff\x00\x1b]0;t\x07\r50%\rhalf a li")
    reader = machine.read()
    reader.until_text(b"one\n\xff\x00\x1b]0;t\x07\r50%\rhalf a li")
    machine.write(b"ne\nmore")
    reader.until_text(b"one\n\xff\x00\x1b]0;t\x07\r50%\rhalf a line\nmore")
    assert reader.first()["alive"]
    assert reader.position()["offset"] == machine.log().stat().st_size


def seconds_until_seen(machine: LogMachine, reader: LogReader) -> list[float]:
    """Append lines one by one and measure how long each takes to be sent."""
    took = []
    expected = reader.text()
    for number in range(15):
        line = b"line %d\n" % number
        expected += line
        began = time.monotonic()
        machine.write(line)
        while reader.text() != expected:
            assert time.monotonic() - began < 10
        took.append(time.monotonic() - began)
    return took


def test_a_line_is_sent_at_once(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"begin\n")
    reader = machine.read()
    reader.until_text(b"begin\n")
    assert statistics.median(seconds_until_seen(machine, reader)) < 0.06  # polling would take a tenth of a second


def test_without_ctypes_it_polls_ten_times_a_second(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"begin\n")
    reader = machine.read(without_ctypes=True)
    reader.until_text(b"begin\n")
    assert max(seconds_until_seen(machine, reader)) < 2
    machine.log().rename(machine.folder / "q.log.1")
    machine.write(b"new\n")
    until(lambda: reader.text().endswith(b"line 14\nnew\n"))


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_log_that_does_not_exist_yet_is_waited_for(machine: LogMachine, has_folder: bool) -> None:
    """Fault 65."""
    machine.run()
    machine.log().unlink()
    if not has_folder:
        machine.folder.rmdir()
    reader = machine.read(lines=100)
    assert not reader.first()["exists"]
    machine.folder.mkdir(exist_ok=True)
    machine.write(b"one\ntwo\n")
    reader.until_text(b"one\ntwo\n")


def test_a_log_that_no_model_will_write_is_refused(machine: LogMachine) -> None:
    machine.run()
    reader = machine.read("q", "r")
    reader.process.wait(10)
    assert json.loads(reader.look().raw.partition(MARK)[2])["refusal"] == {
        "code": "no-log",
        "path": str(machine.log("r")),
    }


def test_a_rotated_log_is_finished_before_the_new_one_begins(machine: LogMachine) -> None:
    """Fault 65."""
    machine.run()
    machine.write(b"old 1\n")
    reader = machine.read()
    reader.until_text(b"old 1\n")
    with machine.log().open("ab") as old:
        machine.log().rename(machine.folder / "q.log.1")
        old.write(b"old 2\n")
        old.flush()
        reader.until_text(b"old 1\nold 2\n")
        machine.log().touch()
        old.write(b"old 3 without end")  # its writer never opened the new file, so the old one is still the log
        old.flush()
        reader.until_text(b"old 1\nold 2\nold 3 without end")
    machine.write(b"new 1\n")
    reader.until_text(b"old 1\nold 2\nold 3 without endnew 1\n")
    assert reader.events() == ["begins", "rotated"]


def test_after_a_deleted_log_the_next_file_with_its_name_is_read(machine: LogMachine) -> None:
    """Fault 65."""
    machine.run()
    machine.write(b"old\n")
    reader = machine.read()
    reader.until_text(b"old\n")
    machine.log().unlink()
    machine.write(b"new\n")
    reader.until_text(b"old\nnew\n")


def test_a_truncated_log_is_read_from_its_new_beginning(machine: LogMachine) -> None:
    """Fault 65."""
    machine.run()
    machine.write(b"old 1\nold 2\n")
    reader = machine.read()
    reader.until_text(b"old 1\nold 2\n")
    os.truncate(machine.log(), 0)
    machine.write(b"new\n")
    reader.until_text(b"old 1\nold 2\nnew\n")
    assert reader.events() == ["begins", "truncated"]


def test_lines_not_read_before_a_truncation_are_read_from_the_copy(machine: LogMachine) -> None:
    """Fault 65: as logrotate's `copytruncate` does it, and the new file may be longer than the old was."""
    machine.run()
    machine.write(b"old 1\n")
    reader = machine.read()
    reader.until_text(b"old 1\n")
    reader.process.send_signal(signal.SIGSTOP)
    machine.write(b"old 2\n")
    shutil.copy(machine.log(), machine.folder / "q.log.1")
    os.truncate(machine.log(), 0)
    machine.write(b"new 1\nnew 2\nnew 3\n")
    reader.process.send_signal(signal.SIGCONT)
    reader.until_text(b"old 1\nold 2\nnew 1\nnew 2\nnew 3\n")


def test_a_reader_continues_at_its_position(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"one\ntwo\n")
    before = machine.read(lines=1)
    before.until_text(b"two\n")
    before.process.kill()
    machine.write(b"three\n")
    after = machine.read(lines=1, positions=[before.position()])
    after.until_text(b"three\n")
    assert after.events() == ["begins"]


def test_a_reader_that_had_read_no_line_misses_none(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"before\n")
    nothing = machine.read(lines=0)
    until(lambda: nothing.events() == ["begins"])
    nothing.process.kill()
    machine.write(b"later\n")
    machine.read(lines=0, positions=[nothing.position()]).until_text(b"later\n")


@pytest.mark.parametrize("how", ["renamed", "copied", "renamed twice"])
def test_a_reader_finds_its_file_after_a_rotation(machine: LogMachine, how: str) -> None:
    machine.run()
    machine.write(b"old 1\n")
    before = machine.read()
    before.until_text(b"old 1\n")
    before.process.kill()
    machine.write(b"old 2\n")
    if how == "copied":
        shutil.copy(machine.log(), machine.folder / "q.log.1")
        os.truncate(machine.log(), 0)
    else:
        machine.log().rename(machine.folder / "q.log.1")
    if how == "renamed twice":
        machine.write(b"second\n")
        (machine.folder / "q.log.1").rename(machine.folder / "q.log.2")
        machine.log().rename(machine.folder / "q.log.1")
    machine.write(b"new\n")
    after = machine.read(positions=[before.position()])
    after.until_text(b"old 2\n" + (b"second\n" if how == "renamed twice" else b"") + b"new\n")
    assert "lost" not in after.events()


def test_a_file_that_is_gone_is_reported(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"old\n")
    before = machine.read()
    before.until_text(b"old\n")
    before.process.kill()
    machine.log().unlink()
    machine.write(b"another one, and longer\n")
    after = machine.read(positions=[before.position()])
    after.until_text(b"another one, and longer\n")
    assert after.events() == ["lost", "begins"]


def test_it_ends_two_seconds_after_the_model(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"one\n")
    reader = machine.read()
    reader.until_text(b"one\n")
    machine.kill()
    machine.write(b"the last words come late\n")
    reader.process.wait(15)
    assert reader.text() == b"one\nthe last words come late\n"
    assert reader.events() == ["begins", "ended"]
    assert reader.process.returncode == 0


def test_the_log_of_a_dead_model_ends_immediately(machine: LogMachine) -> None:
    """Fault 66."""
    machine.run()
    machine.write(b"one\ntwo without end")
    machine.kill()
    reader = machine.read()
    reader.process.wait(15)
    assert reader.text() == b"one\ntwo without end"
    assert not reader.first()["alive"]
    assert reader.events() == ["begins", "ended"]


def test_a_model_that_is_restarted_is_followed(machine: LogMachine) -> None:
    machine.launch()
    machine.write(b"old\n")
    reader = machine.read()
    reader.until_text(b"old\n")
    machine.kill()
    machine.launch()
    machine.write(b"new\n")
    reader.until_text(b"old\nnew\n")
    until(lambda: sorted(reader.events()) == ["begins", "restarted", "rotated"])
    assert reader.process.poll() is None


def test_an_old_log_is_not_taken_for_that_of_a_model_about_to_start(machine: LogMachine) -> None:
    """Fault 35."""
    machine.write(b"yesterday\n")
    machine.install("hf", "#!/bin/sh\necho > ~/downloading\nwhile [ ! -e ~/go ]; do sleep 0.05; done\n")
    with machine.open("start", **start_request("q") | {"download": True}) as starting:
        until((machine.home / "downloading").exists)
        reader = machine.read()
        assert (reader.first()["alive"], reader.first()["exists"]) == (True, False)
        (machine.home / "go").touch()
        assert starting.stdout
        starting.stdout.read()
    machine.write(b"today\n")
    reader.until_text(b"today\n")


def test_several_logs_are_read_at_once_and_end_one_by_one(machine: LogMachine) -> None:
    for name in "ab":
        machine.run(name)
        machine.write(b"%s 1\n" % name.encode(), name)
    reader = machine.read("a", "b")
    reader.until_text(b"a 1\n", 0)
    reader.until_text(b"b 1\n", 1)
    machine.kill("a")
    until(lambda: reader.events(0) == ["begins", "ended"])
    machine.write(b"b 2\n", "b")
    reader.until_text(b"b 1\nb 2\n", 1)
    assert reader.process.poll() is None


def test_without_following_it_ends_at_the_end_of_the_file(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"x" * 300_000 + b"\nend")
    reader = machine.read(follow=False)
    until(lambda: reader.look().process.poll() is not None)
    assert reader.text() == b"x" * 300_000 + b"\nend"
    assert reader.events() == ["begins", "ended"]


@pytest.mark.parametrize("is_full", [False, True])
def test_it_exits_with_pi_even_if_its_output_is_not_read(machine: LogMachine, is_full: bool) -> None:
    machine.run()
    machine.write(b"x" * (4 << 20 if is_full else 10) + b"\n")
    reader = machine.read()
    until(lambda: unread(reader) > (60_000 if is_full else 10))
    reader.stdin.close()
    assert reader.process.wait(5) == 0


def unread(reader: LogReader) -> int:
    """Return how many bytes wait in the pipe."""
    (count,) = struct.unpack("i", fcntl.ioctl(reader.stdout, termios.FIONREAD, b"1234"))
    return int(count)


def test_only_complete_matching_lines_are_sent(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"no\nyes 1\nno\nyes 2\nye")
    reader = machine.read(grep="^yes")
    reader.until_text(b"yes 1\nyes 2\n")
    assert reader.position()["offset"] == len(b"no\nyes 1\nno\nyes 2\n")
    machine.write(b"s 3\n\nno\n")
    reader.until_text(b"yes 1\nyes 2\nyes 3\n")
    machine.write(b"yes, the last one")
    machine.kill()
    reader.until_text(b"yes 1\nyes 2\nyes 3\nyes, the last one")


def test_a_reader_of_matching_lines_continues_at_its_position(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"yes 1\nye")
    before = machine.read(grep="yes")
    before.until_text(b"yes 1\n")
    before.process.kill()
    machine.write(b"s 2\nyes 3\n")
    machine.read(grep="yes", positions=[before.position()]).until_text(b"yes 2\nyes 3\n")


def test_the_last_matching_lines_are_found(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"".join(b"%s %d\n" % (b"yes" if number % 7 == 0 else b"no", number) for number in range(200_000)))
    machine.read(grep="yes", lines=2, follow=False).until_text(b"yes 199990\nyes 199997\n")


def test_a_pattern_that_is_not_ascii_matches_characters_and_not_bytes(machine: LogMachine) -> None:
    machine.run()
    machine.write("naïve\nnaive\nnave\n".encode() + b"na\xffve\n")
    machine.read(grep="na[ïi]ve", follow=False).until_text("naïve\nnaive\n".encode())


def test_an_invalid_pattern_is_refused(machine: LogMachine) -> None:
    machine.run()
    reader = machine.read(grep="(")
    reader.process.wait(10)
    assert json.loads(reader.look().raw.partition(MARK)[2])["refusal"]["code"] == "bad-pattern"


def stamped(moment: float, text: str) -> str:
    return f"(EngineCore pid=7) INFO {time.strftime('%m-%d %H:%M:%S', time.gmtime(moment))} [a.py:1] {text}\n"


def test_a_moment_is_found_without_reading_the_whole_log(machine: LogMachine) -> None:
    machine.run()
    now = time.time()
    lines = [stamped(now - 7200 + second, f"{second} {'x' * 1000}") for second in range(7200)]
    machine.write("".join(lines).encode())
    reader = machine.read(since={"ago": 60})
    until(lambda: lines[-1].encode() in reader.text())
    assert 59 <= len(reader.text().splitlines()) <= 61
    assert bytes_read(reader.process) < machine.log().stat().st_size / 2


def bytes_read(process: "subprocess.Popen[bytes]") -> int:
    counters = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    return int(counters["rchar"])


def look(path: str, address: str = "127.0.0.1") -> bytes:
    return b'(APIServer pid=7) INFO:     %s:4242 - "GET %s HTTP/1.1" 200 OK\n' % (address.encode(), path.encode())


LOOKS = [look("/health"), look("/metrics"), look("/.well-known/pi-model?nonce=00", "10.0.0.1")]
OTHERS = [
    b"(EngineCore pid=8) INFO 11-23 13:31:46 [core.py:1] ready\n",
    look("/health", "10.0.0.7"),  # another client's
    look("/metricsx"),
    b'(APIServer pid=7) INFO:     127.0.0.1:4242 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n',
    b'a prompt: "GET /health HTTP/1.1"\n',
    b"\n",
]


def test_lines_of_pis_own_looks_are_left_out_and_the_others_are_counted(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"".join([*OTHERS[:3], *LOOKS * 50, OTHERS[3], *LOOKS * 50, *OTHERS[4:], *LOOKS]))
    reader = machine.read(looks=False, lines=4)
    reader.until_text(b"".join(OTHERS[2:]))
    machine.write(b"50 %\r" + LOOKS[0][:40])
    reader.until_text(b"".join(OTHERS[2:]) + b"50 %\r" + LOOKS[0][:40])  # it is behind a begun line: no line of its own
    machine.write(b"\n" + LOOKS[1][:40])
    machine.write(LOOKS[1][40:] + b"more")
    reader.until_text(b"".join(OTHERS[2:]) + b"50 %\r" + LOOKS[0][:40] + b"\nmore")
    assert reader.position()["offset"] == machine.log().stat().st_size


def test_a_pattern_searches_the_lines_of_looks_too(machine: LogMachine) -> None:
    machine.run()
    machine.write(b"".join([*LOOKS, *OTHERS]))
    reader = machine.read(looks=False, grep='"GET /met', follow=False)
    reader.until_text(LOOKS[1] + OTHERS[2])


@pytest.mark.parametrize(("last", "shown"), [(b"(Engine", b"(Engine"), (LOOKS[0][:-1], b""), (b"I", b"I")])
@pytest.mark.parametrize("follow", [False, True])
def test_a_last_line_without_an_end_is_shown_in_the_end(
    machine: LogMachine, last: bytes, shown: bytes, follow: bool
) -> None:
    machine.run()
    machine.write(OTHERS[0] + last)
    reader = machine.read(looks=False, follow=follow)
    if follow:
        reader.until_text(OTHERS[0])
        machine.kill()
    until(lambda: "ended" in reader.look().events())
    assert reader.text() == OTHERS[0] + shown
    assert reader.position()["offset"] == machine.log().stat().st_size


def test_however_the_writes_are_cut_the_same_lines_are_left_out(machine: LogMachine) -> None:
    machine.run()
    reader = machine.read(looks=False)
    lines = [line for other in OTHERS for line in (other, *LOOKS, other, LOOKS[0])]
    log = b"".join(lines)
    for begin in range(0, len(log), 37):
        machine.write(log[begin : begin + 37])
        reader.look()
    reader.until_text(b"".join(line for line in lines if line not in LOOKS))
