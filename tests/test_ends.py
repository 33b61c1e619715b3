"""How pi exits when its output cannot be written."""

import os
import subprocess
import sys

import pytest

PI = [sys.executable, "-m", "pi_cli"]


@pytest.mark.parametrize("words", [["--version"], ["pods", "--json"], ["models", "--gpu", "1x L4"]], ids=" ".join)
def test_output_that_cannot_be_written_is_an_error(words: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*PI, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: the output could not be written: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--version"], ["pods", "--json"], ["models", "--gpu", "1x L4"]], ids=" ".join)
def test_a_broken_pipe_is_not_reported(words: list[str], unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    environ = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(write, "w") as gone:
        done = subprocess.run([*PI, *words], stdout=gone, stderr=subprocess.PIPE, text=True, env=environ)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams_are_not_an_error(closed: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {closed}', "bash", *PI, "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
