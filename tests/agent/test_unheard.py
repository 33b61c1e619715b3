"""The pod's agent when a connection breaks down piece by piece: its output first, its input later."""

import subprocess
from pathlib import Path

import pytest

from tests.agent.machine import SLEEPER, Machine, start_request
from tests.until import until


def test_a_download_ends_with_pi_though_nobody_heard_the_last_progress(environment: Path) -> None:
    machine = Machine(environment)
    machine.install("hf", f"#!/bin/sh\necho $$ > ~/hf.pid\n{SLEEPER.splitlines()[-1]}\n")
    with machine.open("start", **start_request("q") | {"download": True}) as opened:
        assert opened.stdin
        assert opened.stdout
        until((environment / "hf.pid").exists)
        opened.stdout.close()
        with pytest.raises(subprocess.TimeoutExpired):  # five times it tries to say how far the download is
            opened.wait(timeout=1)
        opened.stdin.close()
        assert opened.wait(timeout=10) == 0
    until(lambda: not Path("/proc", (environment / "hf.pid").read_text().strip()).exists())
    assert machine.records() == []
