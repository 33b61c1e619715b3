"""The live row of a pod, on screens of several widths."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from fcntl import ioctl

import pytest

from pi_cli.view.progress import DownloadProgress
from tests.until import until
from tests.view.screen import drawn, running

SHOW = """
from pi_cli.events import Output, Phase
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Phase("dc1", "loading weights"))
    report(Output("dc1", "(EngineCore pid=7) INFO " + "x" * 500))
"""


def read_to_the_end(terminal: int) -> str:
    screen = b""
    with suppress(OSError):  # raised by a terminal whose programs have exited
        while piece := os.read(terminal, 65536):
            screen += piece
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_log_line_does_not_hide_the_pod_and_its_phase(width: int) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", SHOW], stdout=subprocess.DEVNULL, stderr=theirs, env=environ):
        os.close(theirs)
        screen = read_to_the_end(ours)
    os.close(ours)
    rows = [line for line in re.split(r"[\r\n]+", screen) if "…" in line]
    assert rows
    assert all("dc1" in row and "loading weights" in row and len(row) < width for row in rows)


def text_after(download: DownloadProgress, *samples: tuple[float, int]) -> str:
    """Update a download of 140 GB with these samples (seconds, GB done); return its text after the last one."""
    for now, done in samples:
        download.update(done * 10**9, 140 * 10**9, "", now)
    return download.text()


def test_a_download_shows_its_size_its_rate_and_the_time_left() -> None:
    assert text_after(DownloadProgress(), (100.0, 40)) == "40.0 GB of 140.0 GB (28 %)"
    text = text_after(DownloadProgress(), (100.0, 40), (104.0, 42))
    assert text == "42.0 GB of 140.0 GB (30 %), 500.0 MB/s, 3m16s left"


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    download = DownloadProgress()
    text_after(download, *((float(second), second) for second in range(30)))
    assert download.rate() == 1e9
    text_after(download, *((float(second), 29 + 2 * (second - 29)) for second in range(30, 41)))
    assert download.rate() == 2e9


def test_a_stalled_download_shows_no_time_left() -> None:
    assert text_after(DownloadProgress(), (0.0, 70), (20.0, 70), (40.0, 70)) == "70.0 GB of 140.0 GB (50 %), 0 B/s"


def test_a_restarted_download_has_no_negative_rate() -> None:
    assert text_after(DownloadProgress(), (0.0, 70), (5.0, 75), (6.0, 20)) == "20.0 GB of 140.0 GB (14 %)"


def test_without_a_total_or_when_complete_no_time_left_is_shown() -> None:
    download = DownloadProgress()
    for now in (0.0, 2.0):
        download.update(int(now) * 10**9, None, "", now)
    assert download.text() == "2.0 GB, 1.0 GB/s"
    assert text_after(DownloadProgress(), (0.0, 100), (2.0, 140)) == "140.0 GB of 140.0 GB (100 %)"
    assert text_after(DownloadProgress(), (0.0, 150), (2.0, 150)) == "140.0 GB of 140.0 GB (100 %), 0 B/s"


def test_waiting_for_another_download_shows_its_pod() -> None:
    download = DownloadProgress()
    download.update(7, 10, "`dc2`", 0.0)
    assert download.text() == "7 B of 10 B (70 %); `dc2` is downloading it"


def test_without_a_terminal_a_line_is_printed_at_each_quarter_and_each_minute() -> None:
    download = DownloadProgress()
    printed = []
    for now, percent in [(0, 0), (1, 5), (2, 24), (3, 25), (4, 49), (5, 51), (30, 52), (66, 53), (67, 54), (70, 100)]:
        download.update(percent, 100, "", now)
        if download.is_line_due(now):
            printed.append(percent)
    assert printed == [0, 25, 51, 53, 100]


DOWNLOADING = """
from pi_cli.events import Progress
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Progress("dc1", 40 * 10**9, 140 * 10**9, "`dc2`"))
"""


def test_the_row_of_a_download_fits_80_columns() -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", DOWNLOADING], stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        screen = read_to_the_end(ours)
    os.close(ours)
    assert "━  40.0 of 140.0 GB; `dc2` is downloading it" in screen


BAR = """
import time
from pi_cli.events import Progress
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Progress("dc1", 40 * 10**9, 140 * 10**9))
    time.sleep(1.05)
    report(Progress("dc1", 42 * 10**9, 140 * 10**9))
    input()
"""


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (100, r". dc1  \d:\d\d  downloading  ━+╸?━*  42.0 of 140.0 GB, 1.9 GB/s, \d+s left"),
        (80, r". dc1  \d:\d\d  downloading  ━+╸?━*  42.0 of 140.0 GB, 1.9 GB/s, \d+s left"),
        (70, r". dc1  \d:\d\d  downloading  42.0 GB of 140.0 GB \(30 %\), \d+s left"),
        (44, r". dc1  \d:\d\d  downloading  30 %, \d+s left"),
    ],
)
def test_a_narrow_screen_drops_the_bar_first_and_then_the_rate(width: int, row: str) -> None:
    with running(BAR, width=width) as (screen, process):
        until(lambda: any(" left" in each for each in screen.rows), "the time left is shown")
        shown = re.sub(r"1\.\d GB/s", "1.9 GB/s", next(each for each in screen.rows if " left" in each))
        assert re.fullmatch(row, shown.rstrip()), shown
        process.communicate("\n", timeout=20)


NOTES = """
import sys
from pi_cli.events import Ended, Note, Phase
from pi_cli.view import progress
pods = sys.argv[1:] or ["dc1"]
with progress.following(pods) as report:
    for pod in pods:
        report(Phase(pod, "loading weights"))
        report(Note(pod, "the fewest GPUs", is_reason=True))
        report(Note(pod, "the disk is slow"))
        report(Ended(pod, "no room" if pod == "dc2" else None))
"""


def test_of_phases_nothing_stays_and_reasons_are_quieter_than_notes() -> None:
    screen = drawn(NOTES, width=80)
    assert screen.rows == ["the fewest GPUs", "note: dc1: the disk is slow"]
    assert "\x1b[2mthe fewest GPUs" in screen.raw


def test_of_several_pods_no_reasons_stay_and_no_failure_which_the_error_tells() -> None:
    screen = drawn(NOTES.replace("sys.argv[1:] or", '["dc1", "dc2"] or'), width=80)
    assert screen.rows == ["note: dc1: the disk is slow", "note: dc2: the disk is slow"]


def test_a_dumb_terminal_gets_plain_lines() -> None:
    screen = drawn(NOTES, width=80, TERM="dumb")
    assert screen.rows == ["dc1: loading weights", "dc1: the fewest GPUs", "dc1: the disk is slow"]


MANY = """
from pi_cli.events import Ended, Phase
from pi_cli.view import progress
pods = [f"pod-{number:02}" for number in range(30)]
with progress.following(pods) as report:
    for pod in pods:
        report(Phase(pod, "loading weights"))
    report(Ended("pod-00", None))
    input()
"""


def test_on_a_low_screen_the_pods_that_are_not_done_come_first() -> None:
    with running(MANY, width=80, height=10) as (screen, process):
        until(lambda: any("more pods" in row for row in screen.rows), "the number of the others is shown")
        until(lambda: not any("pod-00" in row for row in screen.rows), "the pod that is done has made room")
        assert sum("loading weights" in row for row in screen.rows) == 8
        process.communicate("\n", timeout=20)
    assert screen.rows == [""]
