"""The agent when a connection breaks in stages: its output first, its input later."""

import subprocess
from pathlib import Path

import pytest

from tests.agent.machine import SLEEPER, Machine, start_request
from tests.until import until


def test_a_download_ends_with_pi_even_if_its_last_progress_could_not_be_sent(environment: Path) -> None:
    machine = Machine(environment)
    machine.install("hf", f"#!/bin/sh\necho $$ > ~/hf.pid\n{SLEEPER.splitlines()[-1]}\n")
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        assert process.stdin
        assert process.stdout
        until((environment / "hf.pid").exists)
        process.stdout.close()
        with pytest.raises(subprocess.TimeoutExpired):  # in which it tries to report progress five times
            process.wait(timeout=1)
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    until(lambda: not Path("/proc", (environment / "hf.pid").read_text().strip()).exists())
    assert machine.records() == []
