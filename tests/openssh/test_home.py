"""`pi pods setup --home` over real sshd: a machine with a small root disk and a large second one."""

import json

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import living, start
from tests.openssh.conftest import Prepare

# Root's home is a disk of 7 GB of its own, like the root of a cloud machine.
DISKS = """
mkdir /ephemeral /tmp/root
mount -t tmpfs -o size=7G small /tmp/root
cp -a /root/. /tmp/root && mount --move /tmp/root /root
mount -t tmpfs -o size=3T large /ephemeral
"""


@pytest.fixture
def small(prepare: Prepare) -> OpensshPod:
    """A machine with a small disk for the home folder; all that setup installs is simulated."""
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    for real in ("mount", "mountpoint", "umount"):
        (pod.root / "usr/local/bin" / real).unlink()
    pod.check(DISKS)
    return pod


def test_a_small_root_and_a_second_disk_make_a_pod_with_home(pi: Pi, small: OpensshPod) -> None:
    command = ["pods", "setup", small.name, small.ssh]
    refused = pi(*command)
    assert refused.code == 1
    assert "the disk of /root is too small: setup needs 13 GB there, and 7 GB are free" in refused.err

    done = pi(*command, "--home", "/ephemeral")
    assert done.code == 0, done.err
    assert "models on /ephemeral (" in done.out
    assert pods_json()["pods"]["dc1"]["home"] == "/ephemeral"
    assert small.check("readlink ~/venv").strip() == "/ephemeral/pi-vllm/venvs/0.32.0"
    assert int(small.check("du -sk ~/.pi | cut -f 1")) < 2048
    (listed,) = json.loads(pi("pods", "--check", "--json").out)
    assert (listed["home"], listed["check"]["status"], listed["check"]["place"]["path"]) == (
        "/ephemeral",
        "ok",
        "/ephemeral",
    )

    pid = start(pi)
    program = next(each for each in living(small) if each.pid == pid)
    assert "/ephemeral/pi-vllm/venvs/0.32.0/bin" in program.environ["PATH"]
    kernels = f"{program.environ['VLLM_CACHE_ROOT']}/kernels"
    assert program.environ["TRITON_CACHE_DIR"] == f"{kernels}/triton"
    assert kernels.startswith("/ephemeral/vllm-cache/")
    assert "ready" in pi("list").out
    assert small.check("ls /ephemeral/huggingface/hub").startswith("models--")
    assert pi("stop", "q").code == 0
    assert living(small) == []


def test_a_disk_that_a_stop_has_erased_is_said_and_setup_installs_it_again(pi: Pi, small: OpensshPod) -> None:
    command = ["pods", "setup", small.name, small.ssh]
    assert pi(*command, "--home", "/ephemeral").code == 0
    small.check("rm -rf /ephemeral/*")

    refused = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert refused.code == 1
    assert "vLLM is gone from /ephemeral/pi-vllm: a stop of the pod may have erased that disk" in refused.err
    assert "pi pods setup dc1" in refused.err
    checked = pi("pods", "--check")
    assert "vLLM is gone from /ephemeral: a stop may have erased that disk" in checked.err
    assert pi("list").code == 0

    again = pi("pods", "setup", small.name)
    assert again.code == 0, again.err
    assert "vLLM was in /ephemeral/pi-vllm, which is gone: it is installed there again" in again.err
    start(pi)
    assert pi("stop", "q").code == 0
