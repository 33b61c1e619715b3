"""Lack of host memory is said where something shows it, and not where the kernel counts that it killed nothing."""

import pytest

from pi_cli.diagnosis import causes, evidence
from pi_cli.diagnosis.causes import Cause
from pi_cli.diagnosis.death_evidence import DeathEvidence
from tests.diagnosis.engine_log import BEGIN, raw, traceback

GB = 10**9
KILLED = "Out of memory: Killed process 77 (VLLM::EngineCor) total-vm:1kB, anon-rss:63000000kB"
NOTHING = DeathEvidence(kills=0, machine_kills=0, least=30 * GB, total=64 * GB)


def died(code: int | None) -> Cause:
    text = "Engine core initialization failed. See root cause above. Failed core proc(s): "
    end = f"{{'EngineCore': {code}}}" if code else "{}"
    cause = causes.find(BEGIN + raw("APIServer pid=7", traceback(f"RuntimeError: {text}{end}")), pod="dc1", model="m/m")
    assert cause
    return cause


def summary(code: int | None, death: DeathEvidence) -> str:
    cause = died(code)
    assert cause.is_silent
    return evidence.refined(cause, causes.signal_in(cause), death, "dc1").summary


@pytest.mark.parametrize(
    ("death", "shown"),
    [
        (DeathEvidence(kernel=("usb 1-1: new", KILLED)), "its log says so"),
        (DeathEvidence(kills=2, limit=8 * GB), "it has killed 2 processes of this container since the launch"),
        (DeathEvidence(kills=0, machine_kills=1), "it has killed a process of the machine since the launch"),
        (DeathEvidence(least=GB // 10, total=64 * GB), "100.0 MB of 64.0 GB were left"),
    ],
    ids=["log", "container", "machine", "memory"],
)
@pytest.mark.parametrize("code", [-9, None], ids=["signal 9", "no code"])
def test_what_shows_a_lack_of_memory(code: int | None, death: DeathEvidence, shown: str) -> None:
    assert summary(code, death).startswith(f"the kernel killed it for lack of host memory: {shown}")


def test_the_kernels_own_line_is_the_one_that_tells() -> None:
    cause = evidence.refined(died(-9), 9, DeathEvidence(kernel=(KILLED,)), "dc1")
    assert (cause.line, cause.hint) == (
        KILLED,
        "check with `pi ssh dc1 free -g`, or use a machine with more memory (not GPU memory)",
    )


def test_where_the_kernel_killed_nothing_memory_is_not_the_reason() -> None:
    assert summary(-9, NOTHING) == "the engine was killed by signal 9, and not by the kernel for lack of memory"
    assert summary(None, NOTHING) == "a process of the engine died without an error message"


def test_where_nothing_is_known_it_is_only_a_guess() -> None:
    assert summary(-9, DeathEvidence()) == "the engine was killed by signal 9 (out of host memory?)"


@pytest.mark.parametrize("code", [-11, -6, -4, -7, -15])
def test_other_signals_are_never_a_lack_of_memory(code: int) -> None:
    assert not died(code).is_silent


def test_a_crash_or_a_broken_gpu_in_the_kernels_log_is_said() -> None:
    xid = "NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus."
    assert evidence.remarks(DeathEvidence(kernel=(xid, KILLED))) == f"the kernel's log: {xid}"
    assert evidence.remarks(DeathEvidence(kernel=(KILLED,))) == ""
