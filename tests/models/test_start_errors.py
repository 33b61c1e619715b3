"""Failed starts as the user sees them: what the pod's own errors become, and who holds the memory of a GPU."""

import pytest

from pi_cli.errors import NoRoom
from pi_cli.models import start_errors
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


def test_who_holds_a_gpu_is_named_if_pi_has_not_started_it() -> None:
    """Fault 34."""
    by_nobody = "are held by nothing that pi started"
    error = NoRoom(
        f"no room for `m/m` on `dc1`: GPU 0: 9.0 of 79.6 GiB are held by `a`; GPU 1: 71.7 of 79.6 GiB {by_nobody}; "
        f"GPU 11: 60.0 of 79.6 GiB {by_nobody}",
        hint="stop `a`",
        unexplained=(1, 11),
    )
    named = start_errors.held(
        error,
        "dc1",
        [
            Holder(1, 4711, 70000, "python3"),
            Holder(1, 4712, 3403, "/usr/bin/Xorg"),
        ],
    )
    assert str(named) == (
        "no room for `m/m` on `dc1`: GPU 0: 9.0 of 79.6 GiB are held by `a`; GPU 1: 71.7 of 79.6 GiB are held by "
        "pid 4711 (python3: 70,000 MiB), pid 4712 (/usr/bin/Xorg: 3,403 MiB); "
        f"GPU 11: 60.0 of 79.6 GiB {by_nobody}"
    )
    assert named.hint == "end what you do not need with `pi ssh dc1 kill 4711 4712`; or stop `a`"
    assert start_errors.held(error, "dc1", []) is error
