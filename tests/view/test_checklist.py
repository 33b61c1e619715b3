"""The checklist of a setup, on screens of several widths and without a terminal."""

import re
import subprocess
import sys

import pytest

from tests.until import until
from tests.view.screen import drawn, running

BEGIN = """
import sys
from pi_cli.errors import PiError
from pi_cli.events import Announced, Counted, Note, Output, Step
from pi_cli.view import checklist, terminal

TITLES = dict(machine="Checking the machine", storage="Mounting the models volume", packages="Installing build tools",
              vllm="Installing vLLM")

def step(name, state, detail=""):
    report(Step("dc1", name, TITLES[name], state, detail))

def output(name, *lines):
    for line in lines:
        report(Output("dc1", line, name))

def first_steps():
    step("machine", "began")
    step("machine", "done", "2x NVIDIA H100 80GB HBM3, driver 570.86.15")
    step("storage", "began")
    step("packages", "began")
    step("vllm", "began")
    output("packages", "Get:1 http://deb.example.org/debian bookworm/main amd64 gcc-12 [1 kB]")
    step("storage", "skipped", "no --mount")
"""

SUCCESS = f"""{BEGIN}
with checklist.following("dc1") as report:
    first_steps()
    report(Note("dc1", "the driver is [bold]old"))
    step("packages", "done", "installed 42 packages")
    step("vllm", "done", "vLLM 0.32.0")
"""

FAILURE = f"""{BEGIN}
try:
    with checklist.following("dc1") as report:
        first_steps()
        output("packages", *(f"line {{number}}" for number in range(20)))
        output("packages", "\\x1b[31m[/INST]\\x1b]0;x\\x07 E: \\x1b[2Jfull\\tdisk")
        step("packages", "failed", "no space left on /")
        step("vllm", "stopped")
        raise PiError("setup of `dc1` failed: no space left on /", hint="free some")
except PiError as error:
    terminal.show_error(error)
"""

WORKING = f"""{BEGIN}
with checklist.following("dc1") as report:
    first_steps()
    step("vllm", "working", "trying it out")
    input()
"""

DOWNLOADING = f"""{BEGIN}
checklist.FIRST_LINE = checklist.LINE_INTERVAL = 0
with checklist.following("dc1") as report:
    step("machine", "began")
    step("machine", "done", "2x NVIDIA H100 80GB HBM3, driver 570.86.15")
    step("packages", "began")
    report(Announced("dc1", "packages", 69_600_000, None))
    step("vllm", "began")
    report(Announced("dc1", "vllm", 4_000_000_000, (120, 300)))
    report(Counted("dc1", "packages", 12, 45, "packages unpacked"))
    report(Counted("dc1", "vllm", 900_000_000, 4_000_000_000, "bytes"))
    output("vllm", " Downloaded torch")
    report(Counted("dc1", "vllm", 3_200_000_000, 4_000_000_000, "bytes"))
    input()
    report(Counted("dc1", "vllm"))
    step("vllm", "working", "testing it")
    report(Counted("dc1", "vllm"))
    step("packages", "done", "installed 45 packages")
    step("vllm", "done", "vLLM 0.32.0")
"""

MANY = f"""{BEGIN}
with checklist.following("dc1") as report:
    for number in range(1, 31):
        TITLES[f"step{{number}}"] = f"Doing {{number}}"
        step(f"step{{number}}", "began")
        if number not in (3, 29):
            step(f"step{{number}}", "failed" if number == 5 else "done", f"did {{number}}")
    input()
    step("step3", "done")
    step("step29", "done")
"""

INTERRUPTED = f"""{BEGIN}
with checklist.following("dc1") as report:
    first_steps()
    step("packages", "stopped")
    step("vllm", "stopped")
    raise KeyboardInterrupt
"""

AT_80 = """\
note: dc1: the driver is [bold]old
✓ Checking the machine        2x NVIDIA H100 80GB HBM3, driver 570.86.15  N.N s
– Mounting the models volume  no --mount                                  N.N s
✓ Installing build tools      installed 42 packages                       N.N s
✓ Installing vLLM             vLLM 0.32.0                                 N.N s"""

AT_60 = """\
note: dc1: the driver is [bold]old
✓ Checking the machine        2x NVIDIA H100 80GB H…  N.N s
– Mounting the models volume  no --mount              N.N s
✓ Installing build tools      installed 42 packages   N.N s
✓ Installing vLLM             vLLM 0.32.0             N.N s"""

AT_40 = """\
note: dc1: the driver is [bold]old
✓ Checking the machine            N.N s
– Mounting the models volume      N.N s
✓ Installing build tools          N.N s
✓ Installing vLLM                 N.N s"""

AT_20 = """\
note: dc1: the drive
r is [bold]old
✓ Checking …  N.N s
– Mounting …  N.N s
✓ Installin…  N.N s
✓ Installin…  N.N s"""


def without_times(rows: list[str]) -> str:
    return re.sub(r"\d+\.\d s", "N.N s", "\n".join(rows))


@pytest.mark.parametrize(("width", "expected"), [(80, AT_80), (60, AT_60), (40, AT_40), (20, AT_20)])
def test_a_finished_setup_leaves_its_checklist_on_the_screen(width: int, expected: str) -> None:
    assert without_times(drawn(SUCCESS, width=width).rows) == expected


def test_on_a_wide_screen_the_times_are_at_its_right_edge() -> None:
    rows = drawn(SUCCESS, width=200).rows
    assert [len(row) for row in rows[1:5]] == [199] * 4


def test_parallel_steps_show_the_latest_message_of_each() -> None:
    with running(WORKING, width=80) as (screen, process):
        until(lambda: any("trying it out" in row for row in screen.rows))
        rows = [row for row in screen.rows if row]
        assert [row[2:28].rstrip() for row in rows] == [
            "Checking the machine",
            "Mounting the models volume",
            "Installing build tools",
            "Installing vLLM",
        ]
        assert [row[0] for row in rows[:2]] == ["✓", "–"]
        assert all(row[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" for row in rows[2:])
        assert re.fullmatch(r". Installing build tools      Get:1 http://deb.example.org/.*…    \d s", rows[2])
        frames = {rows[2][0], rows[3][0]}
        until(lambda: screen.rows[2][0] not in frames)  # the spinner turns
        process.communicate("\n", timeout=20)


def test_a_failure_shows_the_last_lines_of_the_step_and_then_the_error() -> None:
    screen = drawn(FAILURE, width=80)
    assert without_times(screen.rows).splitlines() == [
        "✓ Checking the machine        2x NVIDIA H100 80GB HBM3, driver 570.86.15  N.N s",
        "– Mounting the models volume  no --mount                                  N.N s",
        "✗ Installing build tools      no space left on /                          N.N s",
        "■ Installing vLLM                                                         N.N s",
        *(f"  line {number}" for number in range(6, 20)),
        "  [/INST] E: full disk",
        "error: setup of `dc1` failed: no space left on /",
        "hint: free some",
    ]
    assert "\x1b]" not in screen.raw
    assert "\x1b[2J" not in screen.raw


def test_ctrl_c_leaves_the_checklist_on_the_screen() -> None:
    rows = without_times(drawn(INTERRUPTED, width=100).rows).splitlines()
    assert [row[0] for row in rows[:4]] == ["✓", "–", "■", "■"]
    assert re.sub(r"\s+", " ", rows[4]).startswith("note: setup of `dc1` was interrupted, and its processes there")


def test_a_download_shows_what_has_arrived_of_how_much() -> None:
    with running(DOWNLOADING, width=80) as (screen, process):
        until(lambda: any("of 4.0 GB" in row for row in screen.rows))
        rows = [re.sub(r"\s+", " ", row[2:]) for row in screen.rows if row][1:]
        assert rows[0].startswith("Installing build tools 12 of 45 packages unpacked ")
        assert rows[1].startswith("Installing vLLM 3.2 of 4.0 GB")
        process.communicate("\n", timeout=20)
    assert "3.2 of 4.0 GB" not in "\n".join(screen.rows)


def test_on_a_narrow_screen_a_download_has_a_row_of_its_own_and_leaves_none_behind() -> None:
    with running(DOWNLOADING, width=40, height=20) as (screen, process):
        until(lambda: any("of 4.0 GB" in row for row in screen.rows))
        assert [re.split(",|  ", row[2:])[0] for row in screen.rows if row] == [
            *("Checking the machine", "Installing build tools", "12 of 45 packages unpacked"),
            *("Installing vLLM", "3.2 of 4.0 GB"),
        ]
        process.communicate("\n", timeout=20)
    assert len(screen.rows) == 3


@pytest.mark.parametrize("height", [3, 5, 12])
def test_a_low_screen_shows_the_steps_that_run_and_in_the_end_all(height: int) -> None:
    with running(MANY, width=80, height=height) as (screen, process):
        until(lambda: any("Doing 29" in row for row in screen.rows) and len(screen.rows) == height - 1)
        titles = [row[2:30].split("  ")[0] for row in screen.rows]
        assert titles[0] == f"{30 - (height - 2)} more steps"
        assert (
            titles[1:]
            == {
                3: ["Doing 29"],
                5: ["Doing 3", "Doing 5", "Doing 29"],
                12: ["Doing 3", "Doing 5", *(f"Doing {number}" for number in range(23, 31))],
            }[height]
        )
        process.communicate("\n", timeout=20)
    assert [row[2:].split("  ")[0] for row in screen.rows] == [f"Doing {number}" for number in range(1, 31)]


@pytest.mark.parametrize("width", [1, 2, 7, 12])
def test_a_very_narrow_screen_does_not_fail(width: int) -> None:
    screen = drawn(SUCCESS, width=width)
    assert "Traceback" not in screen.raw
    assert [row for row in screen.rows if row.startswith("✓")]


@pytest.mark.parametrize(
    "variable", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_an_ascii_terminal_gets_only_ascii(variable: dict[str, str]) -> None:
    none = {"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}
    rows = without_times(drawn(SUCCESS, width=60, **none | variable).rows).splitlines()
    assert rows[1:5] == [
        "+ Checking the machine        2x NVIDIA H100 80GB...  N.N s",
        "- Mounting the models volume  no --mount              N.N s",
        "+ Installing build tools      installed 42 packages   N.N s",
        "+ Installing vLLM             vLLM 0.32.0             N.N s",
    ]


def test_without_colour_the_marks_show_the_state() -> None:
    """Fault 74."""
    screen = drawn(FAILURE, width=80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.raw)
    assert [row[0] for row in screen.rows[:4]] == ["✓", "–", "✗", "■"]


PLAIN = """\
dc1: Checking the machine: 2x NVIDIA H100 80GB HBM3, driver 570.86.15 (N.N s)
dc1: Mounting the models volume: skipped, no --mount
dc1: the driver is [bold]old
dc1: Installing build tools: installed 42 packages (N.N s)
dc1: Installing vLLM: vLLM 0.32.0 (N.N s)
"""


def piped(program: str, **options: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, check=False)
    return re.sub(r"\d+\.\d s", "N.N s", done.stderr)


def test_without_a_terminal_each_step_is_a_line() -> None:
    assert piped(SUCCESS) == PLAIN


def test_a_dumb_terminal_gets_lines() -> None:
    """Fault 74."""
    screen = drawn(SUCCESS, width=100, TERM="dumb")
    assert without_times(screen.rows) == PLAIN.rstrip()
    assert "\x1b" not in screen.raw


def test_without_a_terminal_a_waiting_step_is_shown_immediately() -> None:
    waiting = 'step("packages", "waiting", "waiting for the apt that holds the lock")'
    program = SUCCESS.replace('step("packages", "done"', f'{waiting}\n    step("packages", "done"')
    assert "dc1: Installing build tools: waiting for the apt that holds the lock\n" in piped(program)


def test_without_a_terminal_a_failure_shows_the_same_lines() -> None:
    assert piped(FAILURE).splitlines()[2:] == [
        "dc1: Installing build tools: failed, no space left on / (N.N s)",
        "dc1: Installing vLLM: stopped (N.N s)",
        *(f"  line {number}" for number in range(6, 20)),
        "  [/INST] E: full disk",
        "error: setup of `dc1` failed: no space left on /",
        "hint: free some",
    ]


def test_without_a_terminal_a_step_says_what_it_downloads_and_then_how_far_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", DOWNLOADING], input="\n", capture_output=True, text=True, check=False)
    assert re.sub(r"(, \d.* GB/s)? \(\d+\.\d s", " (N.N s", done.stderr).splitlines()[1:] == [
        "dc1: Installing build tools: downloads about 69.6 MB",
        "dc1: Installing vLLM: downloads about 4.0 GB, usually takes 2 to 5 min",
        "dc1: Installing build tools: 12 of 45 packages unpacked (N.N s)",
        "dc1: Installing vLLM: 900.0 MB of 4.0 GB (N.N s)",
        "dc1: Installing vLLM: 3.2 of 4.0 GB (N.N s)",
        "dc1: Installing vLLM: Downloaded torch (N.N s)",
        "dc1: Installing vLLM: testing it (N.N s)",
        "dc1: Installing build tools: installed 45 packages (N.N s)",
        "dc1: Installing vLLM: vLLM 0.32.0 (N.N s)",
    ]


def test_without_a_terminal_a_short_step_gets_one_line() -> None:
    program = DOWNLOADING.replace("checklist.FIRST_LINE = checklist.LINE_INTERVAL = 0", "")
    assert "packages unpacked" not in piped(program.replace("input()", ""))


def test_verbose_prints_all_output_immediately_and_only_once() -> None:
    lines = piped(FAILURE.replace('following("dc1")', 'following("dc1", verbose=True)')).splitlines()
    assert lines[:2] == [
        "dc1: Checking the machine...",
        "dc1: Checking the machine: 2x NVIDIA H100 80GB HBM3, driver 570.86.15 (N.N s)",
    ]
    assert lines.count("dc1: packages | line 19") == 1
    assert "  line 19" not in lines
