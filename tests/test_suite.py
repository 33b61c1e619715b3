"""What the tests must not depend on: how they were started."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.groups import scope

ROOT = Path(__file__).parents[1]


def test_tests_that_share_a_pod_go_to_one_worker_and_others_one_by_one() -> None:
    first, second = (f"tests/commands/test_forward.py::{test}" for test in ("test_a[1]", "test_b@forward"))
    assert scope(first) == scope(second)
    assert scope("tests/store/test_state.py::test_a") != scope("tests/store/test_state.py::test_b")


def test_the_tests_pass_if_they_are_started_with_ctrl_c_ignored() -> None:
    """`nohup make test &` and some CI runners start them this way, and a process passes it on to its children."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "tests/test_interrupts.py",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout
