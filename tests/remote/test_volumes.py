"""`remote/setup/volumes.sh`: which of the mounted disks and shares are proposed for models."""

import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import messages, passes, refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

MACHINE = "/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"
CONTAINER = "overlay / overlay rw 0 0\n/dev/vda1 /etc/hosts ext4 rw 0 0\n/dev/vda1 /usr/bin/nvidia-smi ext4 ro 0 0\n"
WSL = (
    "/dev/sdc / ext4 rw 0 0\nnone /mnt/wsl tmpfs rw 0 0\n/dev/sdd /mnt/wslg/distro ext4 ro 0 0\n"
    "drivers /usr/lib/wsl/drivers 9p ro,aname=drivers 0 0\nC:\\134 /mnt/c 9p rw,aname=drvfs;path=C:\\134;uid=0 0 0\n"
    "D: /mnt/d drvfs rw 0 0\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def volumes(machine: Machine, mounts: str, **free: int) -> list[str]:
    """Return the volumes of a machine with these mounts; `free` gives gigabytes by the last part of a mount point."""
    machine.write("/proc/self/mounts", mounts)
    cases = "".join(f"*/{name}) free={gigabytes << 20} ;; " for name, gigabytes in free.items())
    machine.install(
        "df", f'for p; do :; done; free=852000000; case "$p" in {cases} esac; echo; echo "d t $free 1 $free 1% $p"'
    )
    return machine.call("volumes").splitlines()


@pytest.mark.parametrize(
    "mount",
    [
        "/dev/md127 /workspace xfs rw 0 0",
        "mfs#eu.runpod.net:9421 /workspace fuse rw 0 0",
        "/dev/sdb /runpod-volume ext4 rw 0 0",
        "/dev/sdb /data ext4 rw 0 0",
        "fs /lambda/nfs/models nfs4 rw 0 0",
        "h:/x /mnt/models nfs rw 0 0",
        "/dev/nvme1n1 /mnt/disks/models ext4 rw 0 0",
        "/dev/nvme1n1 /ephemeral ext4 rw 0 0",
        "/dev/sdb1 /mnt ext4 rw 0 0",
        "/dev/md0 /scratch xfs rw 0 0",
        "/dev/mapper/vg.01-lv_ephemeral /opt/dlami/nvme ext4 rw 0 0",
        "10.0.0.1@tcp:/fsx /fsx lustre rw 0 0",
        "weka /weka wekafs rw 0 0",
        "models /srv/models virtiofs rw 0 0",
        "shared /shared 9p rw,trans=virtio 0 0",
        "r:x /models fuse.rclone rw 0 0",
        "tank/models /tank zfs rw 0 0",
    ],
)
@pytest.mark.parametrize("system", [MACHINE, CONTAINER])
def test_a_disk_or_a_share_that_the_provider_has_mounted_is_proposed(machine: Machine, system: str, mount: str) -> None:
    assert volumes(machine, f"{system}{mount}\n") == [mount.split()[1]]


def test_parts_of_the_system_disks_of_windows_and_small_ones_are_not_proposed(machine: Machine) -> None:
    mounts = (
        "/dev/vda15 /boot/efi vfat rw 0 0\n/dev/vda16 /boot ext4 rw 0 0\n/dev/loop0 /snap/core/1 squashfs ro 0 0\n"
        "/dev/loop1 /mnt/iso ext4 ro 0 0\ntmpfs /mnt/ram tmpfs rw 0 0\noverlay /workspace overlay rw 0 0\n"
        "h:/x /mnt/readonly nfs ro,vers=4 0 0\n/dev/vdc /var/lib/docker ext4 rw 0 0\n/dev/vda1 /data ext4 rw 0 0\n"
        "lxcfs /proc/cpuinfo fuse.lxcfs rw 0 0\nautofs /mnt/auto autofs rw 0 0\n/dev/vdd /mnt/small ext4 rw 0 0\n"
    )
    assert volumes(machine, f"{MACHINE}{mounts}", small=5) == []
    assert volumes(machine, WSL) == []
    assert volumes(machine, CONTAINER) == []


def test_a_volume_that_does_not_answer_is_not_proposed(machine: Machine) -> None:
    machine.write("/proc/self/mounts", f"{MACHINE}h:/x /mnt/gone nfs rw 0 0\n")
    machine.install("df", "exit 124")
    assert machine.call("volumes") == ""


def test_volumes_that_outlive_the_machine_come_first_and_then_the_largest(machine: Machine) -> None:
    mounts = "".join(
        f"/dev/vd{letter} {place} ext4 rw 0 0\n"
        for letter, place in zip("bcde", ("/ephemeral", "/data", "/mnt/large", "/mnt"), strict=True)
    )
    assert volumes(machine, f"{MACHINE}{mounts}", ephemeral=7000, data=100, large=500, mnt=20) == [
        "/mnt/large", "/data", "/ephemeral", "/mnt",
    ]  # fmt: skip


def test_a_place_that_is_emptied_is_proposed_with_that_word(machine: Machine) -> None:
    volumes(machine, f"{MACHINE}/dev/nvme1n1 /ephemeral ext4 rw 0 0\n")
    done = machine.step("check_the_mount")
    [warning] = messages(done, "!")
    note = "the volume on /ephemeral (providers delete what is there when the machine stops), add --models-path"
    assert warning.endswith(f"{note} /ephemeral")


LSBLK = """\
NAME="sda" TYPE="disk" SIZE="500107862016" FSTYPE="" PKNAME="" RO="0"
NAME="sda1" TYPE="part" SIZE="500000000000" FSTYPE="ext4" PKNAME="sda" RO="0"
NAME="loop0" TYPE="loop" SIZE="500107862016" FSTYPE="" PKNAME="" RO="0"
NAME="sdb" TYPE="disk" SIZE="500107862016" FSTYPE="LVM2_member" PKNAME="" RO="0"
NAME="sdc" TYPE="disk" SIZE="4194304" FSTYPE="" PKNAME="" RO="0"
NAME="sdd" TYPE="disk" SIZE="500107862016" FSTYPE="" PKNAME="" RO="1"
NAME="nvme1n1" TYPE="disk" SIZE="3800000000000" FSTYPE="" PKNAME="" RO="0"
"""


def test_a_large_disk_without_a_file_system_is_named(machine: Machine) -> None:
    (machine.folder / "lsblk").write_text(LSBLK)
    machine.install("lsblk", 'cat "$MACHINE/lsblk"')
    assert machine.call("unformatted_disks", before="machine_root=") == "/dev/nvme1n1 (3.8 TB)\n"
    assert machine.call("unformatted_disks", before="machine_root= is_container=yes") == ""
    disks = "unformatted_disks() { echo '/dev/nvme1n1 (3.8 TB)'; }"
    [message] = messages(machine.step("check_the_mount", before=disks), "*")
    assert message.startswith("not formatted, and not used: /dev/nvme1n1 (3.8 TB). Make a file system there")


def test_a_refused_mount_names_the_best_volume_ready_to_paste(machine: Machine) -> None:
    machine.write("/proc/self/uid_map", "0 1000 1\n")
    volumes(machine, f"{CONTAINER}/dev/sdb /my\\040data ext4 rw 0 0\n")
    reason = refusal(machine.step("check_the_machine", "--mount", "mount h:/x /mnt/x"))
    assert reason.endswith("Use --models-path /my\\ data instead: your provider has mounted that volume")
    passes(machine.step("check_the_machine", "--models-path", "/my data"))
