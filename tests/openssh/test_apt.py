"""`remote/setup/packages.sh` with real apt and dpkg: held locks, full disks, no network, each by its own name."""

import shutil
import threading
from pathlib import Path

import pytest

from tests.lab.openssh import OpensshPod
from tests.until import until

pytestmark = pytest.mark.timeout(600)

REMOTE = Path(__file__).parents[2] / "remote"
HOLD = "touch /root/held; until [ -e /root/go ]; do sleep 0.1; done"
OTHER = f"apt-get -qy -o DPkg::Pre-Invoke::='{HOLD}' install --reinstall hostname"
STEP = """
    . ~/remote/pod_setup.sh
    trap 'on_exit $?' EXIT
    mkdir -p "$pi_home"
    build_tools() { echo make; }
    step packages 12 'Installing build tools' install_packages
"""


@pytest.fixture
def pod(openssh_pod: OpensshPod) -> OpensshPod:
    shutil.copytree(REMOTE, openssh_pod.home / "remote")
    (openssh_pod.home / "step.sh").write_text(STEP)
    return openssh_pod


def fails(pod: OpensshPod, patience: int = 300) -> str:
    """Run the step, which must fail, and return its reason."""
    done = pod.run(f"PI_SETUP_WAIT_LIMIT={patience} bash ~/step.sh", timeout=240)
    assert done.returncode == 12, done.stdout + done.stderr
    return done.stdout.partition("    packages x ")[2].partition("\n")[0]


def test_another_apt_is_waited_for_and_named(pod: OpensshPod) -> None:
    pod.check("apt-get -q update")
    pod.check(f"({OTHER}) > ~/other.log 2>&1 < /dev/null & ")
    until((pod.home / "held").exists, seconds=60)
    pid = next(each.pid for each in pod.processes() if each.args[:2] == ["apt-get", "-qy"])
    assert fails(pod, patience=0) == f"apt-get (pid {pid}) has held apt's lock for 0 s: try again later"

    def let_go() -> None:
        until(lambda: f"waiting for apt-get (pid {pid})" in (pod.home / "log").read_text(), seconds=60)
        (pod.home / "go").touch()

    (pod.home / "log").touch()
    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    done = pod.run("bash ~/step.sh > ~/log", timeout=240)
    letting_go.join()
    assert done.returncode == 0, (pod.home / "log").read_text()
    pod.check("make --version")


def test_a_full_disk_is_called_so(pod: OpensshPod) -> None:
    pod.check("apt-get -q update && mount -t tmpfs -o size=64k full /var/cache/apt/archives")
    assert fails(pod) == "cannot install make: the disk is full"


def test_a_machine_without_network_is_called_so(pod: OpensshPod) -> None:
    (pod.root / "etc/apt/sources.list").write_text("deb http://nowhere.invalid/debian bookworm main\n")
    reason = "the machine cannot reach nowhere.invalid and other package mirrors"
    assert fails(pod) == f"cannot install make: {reason}"
