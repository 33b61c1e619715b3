"""Failed starts as the user sees them: what the pod's own errors become, and who holds the memory of a GPU."""

import pytest

from pi_cli.errors import HeldGpu
from pi_cli.models import start_errors
from pi_cli.planning import refusal
from pi_cli.pods.nvidia import Holder

FOLDER = "/root/.vllm_logs"


@pytest.mark.parametrize(
    ("said", "reason", "hint"),
    [
        (
            f"[Errno 28] No space left on device: '{FOLDER}/q.log'",
            f"cannot write {FOLDER}/q.log: No space left on device",
            f"see what is there with `pi ssh dc1 df -h {FOLDER}`",
        ),
        (
            f"[Errno 30] Read-only file system: '{FOLDER}/q.log' -> '{FOLDER}/q.log.1'",
            f"cannot write {FOLDER}/q.log: Read-only file system",
            f"see what is there with `pi ssh dc1 df -h {FOLDER}`",
        ),
        (
            f"[Errno 13] Permission denied: '{FOLDER}'",
            f"cannot write {FOLDER}: Permission denied",
            "see what is there with `pi ssh dc1 ls -la /root`",
        ),
        (
            "[Errno 13] Permission denied: '/my own/.vllm_logs'",
            "cannot write /my own/.vllm_logs: Permission denied",
            "see what is there with `pi ssh dc1 ls -la '/my own'`",
        ),
        ("[Errno 12] Cannot allocate memory", "Cannot allocate memory", "see with `pi ssh dc1`"),
        ("something else", "something else", "see with `pi ssh dc1`"),
    ],
)
def test_what_cannot_be_written_on_the_pod_is_told_with_path_and_reason(said: str, reason: str, hint: str) -> None:
    """Fault 41."""
    error = start_errors.not_written("dc1", "m/m", said)
    assert (error.exit_code, str(error), error.hint) == (4, f"`m/m` did not start on `dc1`: {reason}", hint)


def test_processes_that_pi_has_not_started_are_named_if_they_hold_a_gpu() -> None:
    """Fault 34."""
    held = (HeldGpu(0, 9216, 81559, ("a",)), HeldGpu(1, 73403, 81559), HeldGpu(11, 61440, 81559))
    error = refusal.no_room("m/m", "dc1", held, share_left=0.25)
    holders = [Holder(0, 4700, 9000, "vllm"), Holder(1, 4711, 70000, "python3"), Holder(1, 4712, 3403, "/usr/bin/Xorg")]
    named = start_errors.held(error, "dc1", holders)
    assert str(named) == (
        "no room for `m/m` on `dc1`: GPU 0: 9.0 of 79.6 GiB are used by `a`; GPU 1: 71.7 of 79.6 GiB are used by "
        "pid 4711 (python3: 70,000 MiB), pid 4712 (/usr/bin/Xorg: 3,403 MiB); "
        "GPU 11: 60.0 of 79.6 GiB are used by processes that pi did not start"
    )
    assert named.hint == f"stop the processes that you do not need with `pi ssh dc1 kill 4711 4712`; or {error.hint}"
    unnamed = start_errors.held(error, "dc1", [])
    assert (str(unnamed), unnamed.hint) == (str(error), error.hint)
