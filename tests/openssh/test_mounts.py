"""`remote/setup/storage.sh` with a real mount, apt and a sudo user: recipes as providers print them."""

import shlex
import shutil
from pathlib import Path

import pytest

from pi_cli.store import mount_commands
from tests.lab.openssh import OpensshPod

pytestmark = pytest.mark.timeout(600)

REMOTE = Path(__file__).parents[2] / "remote"
STEP = """
    . ~/remote/pod_setup.sh
    trap 'on_exit $?' EXIT
    read_arguments "$@"
    mkdir -p "$pi_home"
    step storage 13 'Mounting the models volume' mount_the_models
"""
RECIPE = """
sudo apt-get update && sudo apt install make   # nfs-common in real life
sudo mkdir -p ~/models
sudo mount -t tmpfs \\
   -o size=8M models "$HOME/models" 2>> /var/log/mount.log
echo "models $HOME/models tmpfs size=8M 0 0" | sudo tee -a /etc/fstab
"""


@pytest.fixture
def pod(openssh_pod: OpensshPod) -> OpensshPod:
    shutil.copytree(REMOTE, openssh_pod.home / "remote")
    (openssh_pod.home / "step.sh").write_text(STEP)
    return openssh_pod


def mounting(pod: OpensshPod, command: str, *arguments: str) -> str:
    """Run the step and return its last message."""
    volume = mount_commands.read(command, arguments[1] if arguments else None)
    sent = {"PI_MOUNT": command, "PI_MOUNT_TARGET": volume.target, "PI_MOUNT_KIND": volume.kind}
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in sent.items())
    done = pod.run(f"{variables} bash ~/step.sh {shlex.join(arguments)}", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("    storage * ")[2].partition("\n")[0]


def test_a_recipe_is_run_once_and_mounts_where_it_says(pod: OpensshPod) -> None:
    pod.install("nvidia-smi", "#!/bin/sh\n")
    assert mounting(pod, RECIPE) == "mounted /root/models (tmpfs, 8 MB, 8 MB free)"
    pod.check("make --version && mountpoint /root/models")
    assert pod.check("cat /etc/fstab").count("/root/models") == 1
    assert mounting(pod, RECIPE) == "already mounted: /root/models (tmpfs, 8 MB, 8 MB free)"
    assert pod.check("cat /etc/fstab").count("/root/models") == 1
    pod.check("umount /root/models")
    assert mounting(pod, "mount -a", "--models-path", "/root/models").startswith("mounted /root/models (tmpfs, ")
    pod.check("umount /root/models")
    background = "(sleep 2; mount -t tmpfs -o size=8M models ~/models) > /var/log/mount.log 2>&1 &"
    assert mounting(pod, background).startswith("mounted /root/models (tmpfs, ")
