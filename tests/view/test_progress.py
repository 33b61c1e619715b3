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

from pi_cli.view.progress import Download

SHOW = """
from pi_cli.events import Output, Phase
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Phase("dc1", "loading weights"))
    report(Output("dc1", "(EngineCore pid=7) INFO " + "x" * 500))
"""


def read_to_the_end(terminal: int) -> str:
    screen = b""
    with suppress(OSError):  # a terminal whose programs have ended answers so
        while piece := os.read(terminal, 65536):
            screen += piece
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_line_of_the_log_never_pushes_the_pod_and_its_phase_away(width: int) -> None:
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


def steps(download: Download, *seen: tuple[float, int]) -> str:
    """Let a download of 140 GB be so far (in GB) at these seconds; return how it is told at the last."""
    for now, done in seen:
        download.see(done * 10**9, 140 * 10**9, "", now)
    return download.text()


def test_a_download_is_told_with_what_is_there_how_fast_it_comes_and_how_long_it_takes() -> None:
    assert steps(Download(), (100.0, 40)) == "40.0 GB of 140.0 GB (28 %)"
    assert steps(Download(), (100.0, 40), (104.0, 42)) == "42.0 GB of 140.0 GB (30 %), 500.0 MB/s, 3m16s left"


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    download = Download()
    steps(download, *((float(second), second) for second in range(30)))
    assert download.rate() == 1e9
    steps(download, *((float(second), 29 + 2 * (second - 29)) for second in range(30, 41)))
    assert download.rate() == 2e9


def test_a_download_that_stands_still_is_told_without_a_guess() -> None:
    assert steps(Download(), (0.0, 70), (20.0, 70), (40.0, 70)) == "70.0 GB of 140.0 GB (50 %), 0 B/s"


def test_a_download_that_begins_anew_has_no_negative_rate() -> None:
    assert steps(Download(), (0.0, 70), (5.0, 75), (6.0, 20)) == "20.0 GB of 140.0 GB (14 %)"


def test_without_a_total_nothing_is_guessed_and_with_all_there_nothing_is_left_to_say() -> None:
    download = Download()
    for now in (0.0, 2.0):
        download.see(int(now) * 10**9, None, "", now)
    assert download.text() == "2.0 GB, 1.0 GB/s"
    assert steps(Download(), (0.0, 100), (2.0, 140)) == "140.0 GB of 140.0 GB (100 %)"
    assert steps(Download(), (0.0, 150), (2.0, 150)) == "140.0 GB of 140.0 GB (100 %), 0 B/s"


def test_who_waits_for_anothers_download_is_told_whose() -> None:
    download = Download()
    download.see(7, 10, "`dc2`", 0.0)
    assert download.text() == "7 B of 10 B (70 %); `dc2` downloads it"


def test_where_nobody_watches_a_line_comes_at_each_quarter_and_each_minute() -> None:
    download = Download()
    news = []
    for now, percent in [(0, 0), (1, 5), (2, 24), (3, 25), (4, 49), (5, 51), (30, 52), (66, 53), (67, 54), (70, 100)]:
        download.see(percent, 100, "", now)
        if download.is_news(now):
            news.append(percent)
    assert news == [0, 25, 51, 53, 100]


DOWNLOADING = """
from pi_cli.events import Progress
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Progress("dc1", 40 * 10**9, 140 * 10**9, "`dc2`"))
"""


def test_the_row_of_a_download_fits_a_usual_terminal() -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", DOWNLOADING], stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        screen = read_to_the_end(ours)
    os.close(ours)
    assert "downloading  40.0 GB of 140.0 GB (28 %); `dc2` downloads it" in screen
