"""`remote/setup/first_boot.sh`: drivers that are still being installed, and those that wait for a reboot."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import messages, passes, refusal
from tests.until import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

NO_DRIVER = "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def preflight(machine: Machine, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[str]:
    return machine.step("check_the_machine", *arguments, before=before)


INSTALLERS = {
    "python3 /opt/google/cuda-installer/cuda_installer.pyz install_driver": "(cuda_installer.pyz)",
    "python3 cuda_installer.pyz install_cuda": "(cuda_installer.pyz)",
    "/bin/bash /opt/deeplearning/install-driver.sh": "(install-driver.sh)",
    "python3 /tmp/install_gpu_driver.py": "(install_gpu_driver.py)",
    "sh ./NVIDIA-Linux-x86_64-580.95.05.run --silent": "(NVIDIA-Linux-x86_64-580.95.05.run)",
    "./nvidia-installer -s": "(nvidia-installer)",
    "/bin/sh /usr/sbin/dkms autoinstall --kernelver 6.8.0": "dkms",
    "/usr/bin/python3 /usr/bin/ubuntu-drivers install": "ubuntu-drivers",
    "apt-get install -y cuda-drivers": "apt-get",
    "/usr/bin/dpkg --configure nvidia-dkms-580": "dpkg",
    "/usr/bin/python3 /usr/bin/unattended-upgrade": "unattended-upgrade",
    "bash /var/lib/waagent/Microsoft.HpcCompute.NvidiaGpuDriverLinux-1.11/nvidia-vmext.sh enable": "Azure's extension",
}


@pytest.mark.parametrize("command", INSTALLERS)
def test_a_driver_that_is_still_being_installed_is_waited_for(machine: Machine, command: str) -> None:
    driver = (machine.folder / "bin/nvidia-smi").read_text().split("\n", 2)[2]
    machine.install("nvidia-smi", f'[ -e "$MACHINE/loaded" ] || {{ {NO_DRIVER}; }}\n{driver}')
    machine.write("/proc/4711/cmdline", command.replace(" ", "\0") + "\0")
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "60"
    log = machine.folder / "log"

    def finish() -> None:
        until(lambda: log.exists() and "to finish preparing this machine" in log.read_text())
        (machine.folder / "loaded").touch()

    finishing = threading.Thread(target=finish)
    finishing.start()
    done = preflight(machine, before=f"exec > >(tee {log})")
    finishing.join()
    assert passes(done).endswith("1x NVIDIA H100 80GB HBM3, 872 GB free")
    [waiting] = [each for each in messages(done, "*") if each.startswith("waiting for ")]
    assert INSTALLERS[command] in waiting


def test_a_driver_that_is_installed_for_too_long_is_refused_in_these_words(machine: Machine) -> None:
    machine.remove("nvidia-smi")
    machine.write("/proc/4711/cmdline", "/bin/sh\0/usr/sbin/dkms\0build\0")
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "0"
    assert refusal(preflight(machine)) == (
        "no NVIDIA driver yet: dkms is still running. Run setup again when it has finished"
    )
    passes(preflight(machine, "--cpu"))


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh /usr/sbin/dkms autoinstall",
        "apt-get upgrade",
    ],
)
def test_an_update_beside_a_working_driver_is_not_waited_for(machine: Machine, command: str) -> None:
    machine.write("/proc/4711/cmdline", command.replace(" ", "\0") + "\0")
    assert "waiting for" not in passes(preflight(machine))


@pytest.mark.parametrize(
    "command",
    ["python3 /usr/share/unattended-upgrades/unattended-upgrade-shutdown --wait-for-signal", "sshd: root", "vi"],
)
def test_other_programs_are_not_waited_for(machine: Machine, command: str) -> None:
    machine.remove("nvidia-smi")
    machine.write("/proc/4711/cmdline", command.replace(" ", "\0") + "\0")
    assert refusal(preflight(machine)).startswith("no NVIDIA GPU and no driver")


def services(machine: Machine, *rows: str) -> None:
    machine.write("/run/systemd/system/x", "")
    (machine.folder / "units").write_text("".join(f"{row}\n" for row in rows))
    machine.install("systemctl", 'cat "$MACHINE/units"')


@pytest.mark.parametrize(
    "unit",
    ["google-startup-scripts.service", "nvidia-driver-install.service", "lambda-first-boot.service", "dkms.service"],
)
def test_a_service_that_installs_the_driver_is_waited_for(machine: Machine, unit: str) -> None:
    machine.remove("nvidia-smi")
    services(machine, "ssh.socket loaded activating start x", f"{unit} loaded activating start It")
    machine.environ["PI_SETUP_WAIT_LIMIT"] = "0"
    reason = refusal(preflight(machine))
    assert reason == f"no NVIDIA driver yet: {unit} is still running. Run setup again when it has finished"
    services(machine, "nvidia-persistenced.service loaded activating start It")
    assert refusal(preflight(machine)).startswith("no NVIDIA GPU and no driver")


def test_cloud_init_that_ended_with_an_error_is_not_waited_for(machine: Machine) -> None:
    machine.write("/run/systemd/system/x", "")
    machine.write("/run/cloud-init/status.json", "{}")
    machine.write("/run/cloud-init/result.json", '{"v1": {"errors": ["no"]}}')
    assert "waiting for" not in passes(preflight(machine))


def test_a_driver_that_waits_for_a_reboot_is_called_that(machine: Machine) -> None:
    machine.install("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    machine.write("/sys/module/nvidia/version", "570.86.15\n")
    machine.write("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", "")
    assert refusal(preflight(machine)) == (
        "the NVIDIA driver was updated, and the kernel still has the old one: reboot the pod, then run setup again"
    )
    machine.install("nvidia-smi", NO_DRIVER)
    machine.write("/run/reboot-required.pkgs", "libc6\nlinux-image-6.8.0-90\nnvidia-driver-580\nlinux-image-6.8.0-90\n")
    assert refusal(preflight(machine)) == (
        "the NVIDIA driver does not work, and the machine waits for a reboot (linux-image-6.8.0-90, nvidia-driver-580):"
        " reboot the pod, then run setup again"
    )


def test_a_working_driver_is_used_although_an_update_waits_for_a_reboot(machine: Machine) -> None:
    machine.write("/run/reboot-required.pkgs", "linux-image-6.8.0-90\n")
    machine.write("/sys/module/nvidia/version", "570.86.15\n")
    machine.write("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", "")
    passes(preflight(machine))
