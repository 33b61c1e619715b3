"""The agent when a connection breaks in stages: its output first, its input later."""

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from agent import gpus, survey, wire

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


def test_beats_stop_while_a_report_on_a_model_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """pi then says that the pod hangs; before, a file on a share that does not answer made it wait for ever."""
    beats: list[int] = []
    goes_on, is_left = threading.Event(), threading.Event()

    def describe(model: Any, *_: object) -> Any:
        assert model.model["name"] == "quick" or goes_on.wait(20)
        return {"name": model.model["name"], "gpu": ""}

    def is_alone(_: float) -> bool:
        goes_on.set()  # after the last beat
        return False

    monkeypatch.setattr(survey, "describe", describe)
    monkeypatch.setattr(survey, "LONGEST", 0.0)
    monkeypatch.setattr(wire, "beat", lambda: beats.append(1))
    monkeypatch.setattr(wire, "is_alone", is_alone)
    monkeypatch.setattr(wire, "leave", is_left.set)
    monkeypatch.setattr(gpus, "memory", lambda _: gpus.NOT_ASKED)
    model: Any = {"name": "quick", "gpu": "", "uid": "a"}
    slow: Any = {**model, "name": "slow"}
    reports, _ = survey.described(
        [survey.Running(each, None, []) for each in (model, slow)], live=False, with_memory=True
    )
    assert [report["name"] for report in reports] == ["quick", "slow"]
    assert (beats, is_left.is_set()) == ([], False)
