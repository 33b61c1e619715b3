"""Logs of models on a disk that is full, or a folder that is not ours: the start says so, and leaves nothing."""

import shlex

import pytest

from tests.conftest import Pi, pods_json
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, QUICK, living
from tests.until import until

START = ("start", MODEL, "--name", "q", *QUICK)


@pytest.mark.parametrize(
    ("spoil", "mend", "reason"),
    [
        (
            "mount -t tmpfs -o size=64k full .vllm_logs && dd if=/dev/zero of=.vllm_logs/old bs=1k count=64 2>&1",
            "rm .vllm_logs/old",
            "No space left on device",
        ),
        (
            "mount -t tmpfs -o ro none .vllm_logs",
            "umount .vllm_logs",
            "Read-only file system",
        ),
    ],
    ids=["full", "read-only"],
)  # fmt: skip
def test_a_log_that_cannot_be_written_fails_the_start(
    pi: Pi, pod: OpensshPod, spoil: str, mend: str, reason: str
) -> None:
    """Fault 41."""
    pod.check(f"cd && mkdir -p .vllm_logs && {spoil}")
    result = pi(*START)
    assert result.code == 4
    log = "/root/.vllm_logs/q.log"
    assert f"error: `{MODEL}` did not start on `dc1`: cannot write {log}: {reason}" in result.err.splitlines()
    [hint] = [line for line in result.err.splitlines() if line.startswith("hint:")]
    assert pi(*shlex.split(hint.split("`")[1])[1:]).code == 0
    assert pods_json()["pods"]["dc1"]["models"] == {}
    until(lambda: not living(pod), "nothing of it is left")
    assert pod.check("ls ~/.pi/models") == ""
    pod.check(f"cd && {mend}")
    assert pi(*START).code == 0
