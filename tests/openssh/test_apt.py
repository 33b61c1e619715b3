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
    pod.check("apt-get -q update", timeout=300)
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
    pod.check("apt-get -q update && mount -t tmpfs -o size=64k full /var/cache/apt/archives", timeout=300)
    assert fails(pod) == "cannot install make: the disk is full"


def test_a_machine_without_network_is_called_so(pod: OpensshPod) -> None:
    (pod.root / "etc/apt/sources.list").write_text("deb http://nowhere.invalid/debian bookworm main\n")
    reason = "the machine cannot reach nowhere.invalid and other package mirrors"
    assert fails(pod) == f"cannot install make: {reason}"


# What is broken on a machine already


def package(pod: OpensshPod, name: str, *fields: str, file: str = "", **scripts: str) -> str:
    """Build a package on the pod and return the path of its archive."""
    tree = pod.root / f"tmp/{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = [f"Package: {name}", "Version: 1", "Architecture: all", "Maintainer: x <x@example.org>", *fields]
    (tree / "DEBIAN/control").write_text("\n".join([*control, "Description: x", ""]))
    for script, text in scripts.items():
        (tree / "DEBIAN" / script).write_text(f"#!/bin/sh\n{text}\n")
        (tree / "DEBIAN" / script).chmod(0o755)
    if file:
        (tree / file).parent.mkdir(parents=True)
        (tree / file).touch()
    pod.check(f"dpkg-deb -b /tmp/{name} /tmp/{name}.deb")
    return f"/tmp/{name}.deb"


def succeeds(pod: OpensshPod) -> str:
    """Run the step, which must install make, and return its output."""
    done = pod.run("bash ~/step.sh", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    pod.check("make --version")
    return done.stdout


FINISH = "What setup needs is installed; finish that package with `dpkg --configure -a` on the pod"


def test_a_broken_package_that_setup_does_not_need_is_named_and_not_changed(pod: OpensshPod) -> None:
    """nvidia-dkms after a kernel update, and one that asks in its script."""
    script = "echo building; exit 10"
    pod.run(f"dpkg -i {package(pod, 'nvidia-dkms-580', postinst=script)}")
    pod.run(f"dpkg -i {package(pod, 'asks', postinst='read answer && exit 0; exit 3')} < /dev/null")
    output = succeeds(pod)
    status = "post-installation script subprocess returned error exit status"
    warning = f"dpkg cannot finish nvidia-dkms-580: installed nvidia-dkms-580 package {status} 10. {FINISH}"
    assert f"    packages ! {warning}\n" in output
    assert f"    packages ! dpkg cannot finish asks: installed asks package {status} 3. {FINISH}\n" in output
    assert pod.check("dpkg-query -W -f '${db:Status-Abbrev}' nvidia-dkms-580").startswith("iF")


def test_packages_that_make_apt_refuse_everything_are_named_and_not_changed(pod: OpensshPod) -> None:
    """An installation that lacks something, one that broke off, and the traces of a dpkg that was killed."""
    pod.run(f"dpkg -i {package(pod, 'lacks', 'Depends: nowhere-to-be-found')}")
    pod.check(f"dpkg -i {package(pod, 'half')}")
    status = pod.root / "var/lib/dpkg/status"
    text = status.read_text()
    broken = text.replace(
        "Package: half\nStatus: install ok installed", "Package: half\nStatus: install reinstreq half-installed"
    )
    assert broken != text
    status.write_text(broken)
    stanza = next(each for each in broken.split("\n\n") if each.startswith("Package: lacks\n"))
    (pod.root / "var/lib/dpkg/updates/0001").write_text(f"{stanza}\n\n")
    assert pod.run("apt-get -qy install make").returncode == 100
    output = succeeds(pod)
    assert "    packages ! lacks is not fully installed on this machine: lacks : Depends: nowhere-to-be-found" in output
    assert (
        "    packages ! half is not fully installed on this machine: The package half needs to be reinstalled" in output
    )
    assert "nowhere-to-be-found" in status.read_text()
    assert not list((pod.root / "tmp").glob("tmp.*"))


def test_sources_that_apt_cannot_read_are_named_and_left_out(pod: OpensshPod) -> None:
    folder = pod.root / "etc/apt/sources.list.d"
    (folder / "broken.list").write_text("deb https://example.org\n")
    (folder / "one.list").write_text("deb [signed-by=/one.gpg] http://127.0.0.1:9/x stable main\n")
    (folder / "two.list").write_text("deb [signed-by=/two.gpg] http://127.0.0.1:9/x/ stable main\n")
    output = succeeds(pod)
    assert (
        "    packages ! apt cannot read /etc/apt/sources.list.d/broken.list, and it is left out here: Malformed"
        in output
    )
    assert (
        "    packages ! apt cannot read /etc/apt/sources.list.d/one.list, and it is left out here: Conflicting"
        in output
    )
    assert "could not refresh the package lists; continuing with the existing ones" in output  # nobody is at port 9
    assert len(list(folder.glob("*.list"))) >= 3


def test_a_wanted_package_that_dpkg_cannot_install_is_a_failure_with_its_name(pod: OpensshPod) -> None:
    pod.check(f"dpkg -i {package(pod, 'rival', file='usr/bin/make')}")
    reason = fails(pod)
    assert reason.startswith("cannot install make: dpkg cannot finish make: trying to overwrite '/usr/bin/make', which")


def test_a_held_package_that_is_in_the_way_is_named(pod: OpensshPod) -> None:
    pod.check(f"dpkg -i {package(pod, 'rival', 'Conflicts: make')} && apt-mark hold rival")
    reason = fails(pod)
    assert reason.startswith("cannot install make: ")
    assert reason.endswith("; held back on this machine: rival. Release them with `apt-mark unhold` on the pod")
