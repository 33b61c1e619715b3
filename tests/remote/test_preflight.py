"""`remote/setup/preflight.sh`: what it finds out about a machine from /etc, /proc and df."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import messages, passes, refusal
from tests.until import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

RUNPOD = "overlay / overlay rw 0 0\n/dev/md127 /workspace xfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
NETWORK_VOLUME = "overlay / overlay rw 0 0\nmfs#eur-is-1.runpod.net:9421 /workspace fuse rw 0 0\n"
NFS = "sudo mount -t nfs -o nconnect=16 nfs.fin-01.datacrunch.io:/models-1a2b /mnt/models"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def preflight(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.step("check_the_machine", *arguments)


def test_a_good_machine_is_summarised_in_one_line_and_not_changed(machine: Machine) -> None:
    before = sorted(machine.folder.rglob("*"))
    done = machine.call("check_the_machine", before="cd")
    assert done == ""
    assert sorted(machine.folder.rglob("*")) == before
    assert machine.calls("apt-get", "dpkg", "sudo", "mount", "uv", "curl") == []
    expected = f"Debian 12, {os.uname().machine}, driver 580.95.05 (CUDA 13.0), 1x NVIDIA H100 80GB HBM3, 872 GB free"
    assert passes(preflight(machine)) == expected


@pytest.mark.parametrize(
    ("text", "title", "warning"),
    [
        ("NAME=Ubuntu\nID=ubuntu\nVERSION_ID=20.04\n", "Ubuntu 20.04", ""),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n', "Ubuntu 22.04", ""),
        ('NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="25.10"\n', "Ubuntu 25.10", ""),
        ('NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="26.04"\n', "Ubuntu 26.04", ""),
        (
            'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="26.10"\n',
            "Ubuntu 26.10",
            "newer than the releases that setup",
        ),
        ('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="13"\n', "Debian 13", ""),
        ('NAME="Debian GNU/Linux"\nID=debian\n', "Debian", ""),
        (
            'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\nUBUNTU_CODENAME=noble\n',
            "Linux Mint 22",
            "Linux Mint 22 is treated as Ubuntu 24.04, which is not tested",
        ),
        (
            'NAME="Kali GNU/Linux"\nID=kali\nID_LIKE=debian\nVERSION_ID="2026.1"\nVERSION_CODENAME=kali-rolling\n',
            "Kali 2026.1",
            "Kali 2026.1 is treated as Debian, which is not tested",
        ),
    ],
)
def test_these_systems_are_accepted(machine: Machine, text: str, title: str, warning: str) -> None:
    machine.write("/etc/os-release", text)
    done = preflight(machine)
    assert passes(done).startswith(f"{title}, ")
    assert warning in "".join(messages(done, "!"))
    assert bool(warning) == bool(messages(done, "!"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NAME=Ubuntu\nID=ubuntu\nVERSION_ID=18.04\n", "Ubuntu 18.04 is too old: "),
        ('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="11"\n', "Debian 11 is too old: "),
        (
            'NAME="Linux Mint"\nID=linuxmint\nID_LIKE=ubuntu\nVERSION_ID="19"\nUBUNTU_CODENAME=bionic\n',
            "",
        ),
        (
            'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
            "Rocky Linux 9.4 is neither",
        ),
        (
            'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.1\n',
            "Alpine Linux 3.20.1 is neither Ubuntu (20.04 to 26.04)",
        ),
        ("", "an unknown system is neither Ubuntu"),
    ],
)
def test_these_systems_are_refused(machine: Machine, text: str, reason: str) -> None:
    machine.write("/etc/os-release", text)
    done = preflight(machine)
    if reason:
        assert refusal(done).startswith(reason)
    else:
        passes(done)  # a parent of unknown version is accepted


def test_a_system_without_apt_or_of_another_architecture_is_refused(machine: Machine) -> None:
    machine.install("uname", "echo ppc64le")
    reason = "vLLM has no builds for ppc64le: choose a machine with x86_64 or aarch64"
    assert refusal(preflight(machine)) == reason
    machine.remove("apt-get")
    assert refusal(preflight(machine)) == "not Debian or Ubuntu: apt-get is missing"


@pytest.mark.parametrize(
    ("files", "variables", "provider"),
    [
        ({}, {}, ""),
        ({"/proc/1/environ": "RUNPOD_POD_ID=abc\0RUNPOD_API_KEY=rpa_SECRET\0"}, {}, "runpod"),
        ({"/etc/rp_environment": ""}, {}, "runpod"),
        ({"/proc/1/environ": "CONTAINER_ID=7\0VAST_CONTAINERLABEL=C.7\0"}, {}, "vast"),
        ({"/etc/vast_boot.d/10": ""}, {}, "vast"),
        ({}, {"VAST_CONTAINERLABEL": "C.7"}, "vast"),
        ({"/proc/1/environ": "RUNPOD_POD_ID=abc\0PRIME_POD_ID=7\0"}, {}, "prime"),
        ({"/lambda/nfs/models/x": ""}, {}, "lambda"),
        ({"/sys/class/dmi/id/sys_vendor": "Lambda\n"}, {}, "lambda"),
        ({"/sys/class/dmi/id/sys_vendor": "DataCrunch\n"}, {}, "verda"),
        ({"/etc/fstab": "nfs.fin-01.datacrunch.io:/m /mnt/m nfs defaults 0 0\n"}, {}, "verda"),
        ({"/etc/hostname": "gpu-7.verda.com\n"}, {}, "verda"),
        ({"/sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}, {}, "aws"),
        ({"/sys/class/dmi/id/sys_vendor": "QEMU\n"}, {}, ""),
        ({"/proc/1/environ": "HYPERBOLIC_NODE=1\0"}, {}, "hyperbolic"),
    ],
)
def test_providers_are_recognised(
    machine: Machine, files: dict[str, str], variables: dict[str, str], provider: str
) -> None:
    for path, text in files.items():
        machine.write(path, text)
    machine.environ |= variables
    done = preflight(machine)
    name = f", {provider}" if provider else ""
    assert passes(done).startswith(f"Debian 12, {os.uname().machine}{name}, driver ")
    assert "SECRET" not in done.stdout + done.stderr


def unprivileged(machine: Machine, mounts: str) -> None:
    """Make it like RunPod's and Vast's machines: a Docker container without CAP_SYS_ADMIN."""
    machine.write("/proc/1/comm", "bash\n")
    machine.write("/.dockerenv", "")
    machine.write("/proc/self/status", "Name:\tbash\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n")
    machine.write("/proc/self/mounts", mounts)


@pytest.mark.parametrize(
    ("mounts", "advice"),
    [
        (RUNPOD, "Use --models-path /workspace instead: your provider has mounted that volume"),
        (NETWORK_VOLUME, "Use --models-path /workspace instead: your provider has mounted"),
        ("overlay / overlay rw 0 0\n/dev/sdb /data ext4 rw 0 0\n", "--models-path /data instead: "),
        (
            "overlay / overlay rw 0 0\nfs /lambda/nfs/my\\040models nfs4 rw 0 0\n",
            "--models-path /lambda/nfs/my\\ models instead: ",
        ),
        (
            "overlay / overlay rw 0 0\noverlay /workspace overlay rw 0 0\ntmpfs /mnt/x tmpfs rw 0 0\n",
            "Leave it out: a volume must be attached when the machine is created",
        ),
    ],
)
def test_mount_is_refused_in_an_unprivileged_container_and_the_mounted_volume_is_named(
    machine: Machine, mounts: str, advice: str
) -> None:
    unprivileged(machine, mounts)
    reason = refusal(preflight(machine, "--mount", NFS))
    assert reason.startswith("--mount cannot work: this is an unprivileged container. ")
    assert advice in reason


def test_mount_is_refused_in_a_container_whose_root_is_another_user_outside(machine: Machine) -> None:
    machine.write("/proc/self/uid_map", "         0       1000          1\n")
    assert "unprivileged container" in refusal(preflight(machine, "--mount", NFS))


def test_mount_is_allowed_if_it_can_work_or_is_already_done(machine: Machine) -> None:
    machine.become(1000)  # has no capabilities before sudo
    machine.write("/proc/self/status", "Name:\tbash\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n")
    passes(preflight(machine, "--mount", NFS))
    unprivileged(machine, "overlay / overlay rw 0 0\nnfs.fin-01.datacrunch.io:/m /mnt/models nfs rw 0 0\n")
    passes(preflight(machine, "--mount", NFS))


def test_an_unused_volume_is_pointed_out_once(machine: Machine) -> None:
    unprivileged(machine, RUNPOD)
    done = preflight(machine)
    passes(done)
    assert messages(done, "!") == [
        "models will be stored on the machine's own disk; to use the volume on /workspace, add --models-path /workspace"
    ]
    assert messages(preflight(machine, "--models-path", "/workspace"), "!") == []


def test_a_user_without_sudo_is_refused_before_anything_is_changed(machine: Machine) -> None:
    machine.become(1000)
    machine.install("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    reason = (
        "installing ca-certificates curl python3 python3-venv build-essential python3-dev needs root, "
        "and someone cannot use sudo without a password"
    )
    assert refusal(preflight(machine)) == reason
    packages = ["ca-certificates", "curl", "python3", "python3-venv", "build-essential", "python3-dev", "nfs-common"]
    (machine.folder / "packages").write_text("\n".join(packages) + "\n")
    passes(preflight(machine))
    assert refusal(preflight(machine, "--mount", NFS)).startswith("mounting /mnt/models needs root, and someone cannot")


def test_a_clock_in_the_past_is_refused_and_one_that_is_behind_gives_a_warning(machine: Machine) -> None:
    def at(seconds: int) -> subprocess.CompletedProcess[str]:
        return machine.step("look", before=f"look() {{ check_the_clock {seconds}; }}")

    assert refusal(at(1_700_000_000)).startswith("the clock says 2023-11-14 22:13 UTC: no download can work. Set it")
    os.utime(machine.root / "var/lib/dpkg/status", (1_800_000_000, 1_800_000_000))
    assert messages(at(1_799_990_000), "!") == [
        "the clock says 2027-01-15 05:13 UTC, but packages were installed here later than that"
    ]
    assert messages(at(1_799_999_000), "!") == []


@pytest.mark.parametrize(
    ("path", "who"),
    [("/run/cloud-init/status.json", "cloud-init"), ("/.provisioning", "the image's provisioning")],
)
def test_setup_waits_for_the_first_boot_to_finish(machine: Machine, path: str, who: str) -> None:
    machine.write("/run/systemd/system/x", "")
    machine.write(path, "")
    over = machine.root / ("run/cloud-init/result.json" if who == "cloud-init" else ".provisioning")
    log = machine.folder / "log"
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "60"

    def end_it() -> None:
        until(lambda: log.exists() and f"waiting for {who} to finish preparing this machine" in log.read_text())
        over.unlink() if over.exists() else over.touch()

    ending = threading.Thread(target=end_it)
    ending.start()
    done = machine.step("check_the_machine", before=f"exec > >(tee {log})")
    ending.join()
    passes(done)
    assert messages(done, "!") == []


def test_the_wait_for_a_first_boot_that_never_finishes_ends(machine: Machine) -> None:
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "0"
    machine.write("/.provisioning", "")
    done = preflight(machine)
    passes(done)
    assert messages(done, "!") == ["the image's provisioning has not finished within 0 s; continuing while it runs"]


def test_a_disk_too_small_for_vllm_is_refused_with_the_size_needed(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 13))
    reason = "the disk of / is too small: setup needs 14 GB there, and 13 GB are free"
    assert refusal(preflight(machine)) == reason
    passes(preflight(machine, "--cpu"))
    passes(preflight(machine, "--flashinfer", "none"))
    machine.put_disks(("/", "ext4", 6), (machine.home, "ext4", 13))
    passes(preflight(machine))
    machine.put_disks(("/", "ext4", 3), (machine.home, "ext4", 3))
    reason = f"the disk of {machine.home} is too small: setup needs 4 GB there"
    assert refusal(preflight(machine, "--cpu")).startswith(reason)


def test_files_of_an_interrupted_run_count_towards_the_space_needed(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 13))
    (machine.home / ".cache/uv").mkdir(parents=True)
    machine.install("du", f"printf '{1 << 20}\\t/x\\n{1 << 20}\\ttotal\\n'")
    passes(preflight(machine))


def test_an_installed_vllm_needs_no_space(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 2))
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "bin/vllm").write_text("")
    (machine.venv / "bin/vllm").chmod(0o755)
    passes(preflight(machine))
    assert "setup needs 14 GB there" in refusal(preflight(machine, "--vllm", "0.33.0"))


def test_a_disk_too_small_for_the_toolkit_only_skips_the_toolkit(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 16))
    trouble = "the disk of / is too small: 18 GB are needed, 16 GB are free"
    show = 'show() { check_the_machine; echo "trouble: $cuda_trouble"; }'
    assert f"it | trouble: {trouble}\n" in machine.step("show", before=show).stdout
    reason = refusal(preflight(machine, "--cuda", "full"))
    assert reason == "no CUDA toolkit: the disk of / is too small: 26 GB are needed, 16 GB are free"


def test_the_free_space_of_a_shared_pool_is_unknown(machine: Machine) -> None:
    machine.put_disks(("/", "overlay", 20), (machine.home, "fuse", 120000))
    done = preflight(machine)
    assert passes(done).endswith(", an unknown amount free")
    pool = f"{machine.home} is part of a shared pool: how much space is left for you is unknown"
    assert pool in messages(done, "!")
