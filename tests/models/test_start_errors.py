"""Errors of failed starts: errors of the pod's operating system, the Hub, and processes that hold GPU memory."""

import errno
import os

import pytest

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import HeldGpu, ModelNotStarted
from pi_cli.models import start_errors
from pi_cli.planning import refusal
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.wording import AgentRefused, LookedDisk, Refusal

FOLDER = "/root/.vllm_logs"


@pytest.mark.parametrize(
    ("number", "path", "reason", "hint"),
    [
        (
            errno.ENOSPC,
            f"{FOLDER}/q.log",
            f"cannot write {FOLDER}/q.log: No space left on device",
            f"check with `pi ssh dc1 df -h {FOLDER}`",
        ),
        (
            errno.EROFS,
            f"{FOLDER}/q.log",
            f"cannot write {FOLDER}/q.log: Read-only file system",
            f"check with `pi ssh dc1 df -h {FOLDER}`",
        ),
        (
            errno.EACCES,
            FOLDER,
            f"cannot write {FOLDER}: Permission denied",
            "check with `pi ssh dc1 ls -la /root`",
        ),
        (
            errno.EACCES,
            "/my own/.vllm_logs",
            "cannot write /my own/.vllm_logs: Permission denied",
            "check with `pi ssh dc1 ls -la '/my own'`",
        ),
        (errno.ENOMEM, "", "Cannot allocate memory", "log in with `pi ssh dc1`"),
    ],
)
def test_a_file_that_cannot_be_written_on_the_pod_is_named_with_the_reason(
    number: int, path: str, reason: str, hint: str
) -> None:
    """Fault 41."""
    refusal = Refusal("os", path=path, reason=os.strerror(number), errno=number)
    error = start_errors.not_written("dc1", "m/m", refusal)
    assert (error.exit_code, str(error), error.hint) == (4, f"`m/m` did not start on `dc1`: {reason}", hint)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "the read operation timed out",
            "the pod cannot reach the Hugging Face Hub, and the model is not complete in its cache",
        ),
        ("HfHubHTTPError: 503 Server Error", "HfHubHTTPError: 503 Server Error"),
        ("HfHubHTTPError: 429 Client Error: Too Many Requests", "the Hugging Face Hub's rate limit was exceeded"),
    ],
)
def test_the_agent_decides_whether_the_hub_answered_and_the_output_of_hf_may_say_more(output: str, reason: str) -> None:
    refusal = Refusal("hub-unreachable", reason=output)
    error = start_errors.not_downloaded("dc1", "m/m", refusal, StartCommand("m/m", "q"))
    assert str(error) == f"cannot download `m/m` to `dc1`: {reason}"
    assert error.log == output


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


GB = 10**9
SAID = "RuntimeError: Data processing error: I/O error: No space left on device (os error 28)"


def full(*disks: LookedDisk, free: int = 75 * GB) -> ModelNotStarted:
    """Return the error of a download that has found a disk full, on a pod whose models' disk has this much free."""
    models = LookedDisk("models", "/root/hub", free, 5_000_000)
    found = disks if disks and disks[0].place == "models" else (models, *disks)
    refusal = Refusal("no-room-on-disk", path="/root/hub", reason=SAID, free=free, before=free, disks=found)
    return start_errors.no_room("dc1", "m/m", AgentRefused("dc1", refusal), StartCommand("m/m", "q"))


def test_what_hf_said_and_what_was_looked_at_are_shown() -> None:
    error = full(LookedDisk("temporary", "/tmp", 3 * GB, 1000))
    assert error.log == SAID
    assert error.facts == (
        "looked at models /root/hub: 75.0 GB free, 5,000,000 inodes free; temporary files /tmp: 3.0 GB free, "
        "1,000 inodes free"
    )
    assert str(error).endswith("so it is a quota or a limit of the volume, if not another disk")


def test_a_disk_without_inodes_is_named() -> None:
    error = full(LookedDisk("models", "/root/hub", 75 * GB, 0))
    assert "(models) has no inodes left, although 75.0 GB are free: too many small files" in str(error)
    assert (
        error.hint == "see which folders have many files: `pi ssh dc1 'du --inodes -x -d 3 /root/hub | sort -n | tail'`"
    )


def test_a_quota_is_named_although_the_disk_has_space() -> None:
    error = full(LookedDisk("models", "/root/hub", 75 * GB, 100, "Disk quota exceeded"))
    assert "nothing more can be written to `/root/hub` (models), although 75.0 GB are free: Disk quota exceeded" in str(
        error
    )


def test_xets_cache_and_temporary_files_can_be_moved_with_the_whole_command() -> None:
    xet = full(LookedDisk("xet", "/root/.cache/huggingface/xet", 5_000_000, 10))
    assert "the disk of `/root/.cache/huggingface/xet` (Xet's cache) is full: 5.0 MB are free" in str(xet)
    assert xet.hint == (
        "keep them on another disk: `pi start m/m --name q --env HF_XET_CACHE=/LARGER/DISK`; "
        "or download without it: `pi start m/m --name q --env HF_HUB_DISABLE_XET=1`"
    )
    temporary = full(LookedDisk("temporary", "/tmp", 0, 10))
    assert temporary.hint == "keep them on another disk: `pi start m/m --name q --env TMPDIR=/LARGER/DISK`"


def test_a_disk_that_is_just_too_small_is_not_blamed_on_a_quota() -> None:
    assert "quota" not in str(full(free=2 * GB))
