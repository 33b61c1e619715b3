"""`remote/setup/storage.sh`: the volume for models is mounted once and checked, and the cache moves there intact."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import ok, refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

SHARE = "nfs.example.com:/models-1"
STORAGE = "storage() { mount_the_models; place_the_cache; }"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "machine")
    made.become(0)
    return made


def storage(machine: Machine, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[str]:
    """Run the steps of the storage as one step."""
    return machine.step("storage", *arguments, before=f"{STORAGE}; {before}")


def size(machine: Machine, row: str) -> None:
    """Make `df` print this row."""
    machine.install("df", f'echo header; echo "{row}"')


def cached(machine: Machine) -> Path:
    model = machine.home / ".cache/huggingface/hub/model"
    model.parent.mkdir(parents=True)
    model.write_text("weights")
    return model


# The volume


@pytest.mark.parametrize("folder", ["volume", "my volume"])
def test_a_volume_is_mounted_once_and_holds_the_cache(machine: Machine, folder: str) -> None:
    volume = machine.folder / folder
    command = f"sudo -E mount -t nfs {SHARE} '{volume}'"
    size(machine, f"{SHARE} nfs4 3906250000 1 2050781250 48% {volume}")
    done = machine.setup("--mount", command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"    storage * mounted {volume} (nfs4, 4.0 TB, 2.1 TB free)\n" in done.stdout
    assert "nfs-common" in (machine.folder / "packages").read_text()
    assert (machine.home / ".cache/huggingface").readlink() == volume / "huggingface"
    assert f"export HF_HOME='{volume}/huggingface'\n" in (machine.home / ".pi/env").read_text()
    again = machine.setup("--mount", command)
    assert f"    storage * already mounted: {volume} (nfs4, 4.0 TB, 2.1 TB free)\n" in again.stdout
    assert f"    cache * the cache is {volume}/huggingface\n" in again.stdout
    assert machine.calls("mount", "sudo") == [f"mount -t nfs {SHARE} {volume}"]


def test_another_volume_in_the_same_place_is_refused(machine: Machine) -> None:
    volume = machine.folder / "volume"
    ok(storage(machine, "--mount", f"mount -t nfs {SHARE} {volume}"))
    ok(storage(machine, "--mount", f"mount -t nfs {SHARE}/ {volume}/"))
    done = storage(machine, "--mount", f"mount -t nfs host:/other {volume}")
    assert refusal(done) == (
        f"{SHARE} is mounted on {volume}, not host:/other: run `umount {volume}` on the pod, then setup again"
    )
    ok(storage(machine, "--mount", f"some-script {volume}"))


def test_a_mount_whose_server_is_gone_is_refused(machine: Machine) -> None:
    volume = machine.folder / "volume"
    ok(storage(machine, "--mount", f"mount -t nfs {SHARE} {volume}"))
    machine.install("stat", "echo 'Stale file handle' >&2; exit 1")
    assert refusal(storage(machine, "--mount", f"mount -t nfs {SHARE} {volume}")) == (
        f"{volume} is mounted ({SHARE}), but does not answer: run `umount -l {volume}` on the pod, then setup again"
    )


@pytest.mark.parametrize(
    ("why", "output"),
    [
        ("the server denies access to this machine", "mount.nfs: access denied by server while mounting h:/x"),
        ("this machine is not allowed to mount", "mount: /mnt: permission denied."),
        (
            "a program that it needs is not installed",
            "mount: /mnt: bad option; for several filesystems you might need a /sbin/mount.<type> helper program.",
        ),
        ("there is no such server", "mount.nfs: Failed to resolve server h: Name or service not known"),
        ("the server cannot be reached", "mount.nfs: Connection timed out"),
        (
            "there is no such share or device",
            "mount.nfs: mounting h:/x failed, reason given by server: No such file or directory",
        ),
    ],
)
def test_a_failing_mount_stops_setup_with_its_reason(machine: Machine, why: str, output: str) -> None:
    machine.install("mount", f"echo '{output}' >&2; exit 32")
    done = storage(machine, "--mount", f"mount -t nfs h:/x {machine.folder}/volume")
    assert refusal(done) == f"the mount command failed: {why} ({output})"


def test_an_unknown_failure_of_a_mount_is_quoted(machine: Machine) -> None:
    machine.install("mount", "echo 'who knows' >&2; exit 32")
    done = storage(machine, "--mount", f"mount -t nfs h:/x {machine.folder}/volume")
    assert refusal(done) == "the mount command failed: who knows"


def test_a_mount_that_mounts_nothing_stops_setup(machine: Machine) -> None:
    machine.install("mount", ":")
    volume = machine.folder / "volume"
    done = storage(machine, "--mount", f"mount -t nfs h:/x {volume}")
    assert refusal(done) == f"the mount command succeeded, but nothing is mounted on {volume}"


def test_a_mount_that_hangs_times_out(machine: Machine) -> None:
    machine.install("mount", "sleep 60")
    done = storage(machine, "--mount", f"mount h:/x {machine.folder}/volume", before="mount_timeout=0.3")
    assert refusal(done) == "the mount command did not end within 0.3 s: the server does not answer"


RECIPE = """sudo apt-get update
sudo apt install nfs-common
mkdir -p {volume}
sudo -E mount -t nfs -o nconnect=16 {share} {volume}  # comment
echo "{share} {volume} nfs defaults 0 0" | sudo tee -a {folder}/fstab > /dev/null
"""


def test_a_whole_recipe_of_a_provider_works_in_one_paste(machine: Machine) -> None:
    volume = machine.folder / "volume"
    done = machine.setup("--mount", RECIPE.format(share=SHARE, volume=volume, folder=machine.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (machine.home / ".cache/huggingface").readlink() == volume / "huggingface"
    assert (machine.folder / "fstab").read_text() == f"{SHARE} {volume} nfs defaults 0 0\n"
    assert "apt-get install nfs-common -q -y" in machine.calls("apt-get")  # asks nothing


def test_an_apt_of_the_recipe_waits_for_ours_and_needs_only_what_it_names(machine: Machine) -> None:
    """The lock is held once; then a package that the recipe does not name cannot be finished."""
    volume = machine.folder / "volume"
    held = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt-get)"
    busy = f'if [ ! -e "$MACHINE/free" ]; then touch "$MACHINE/free"; echo "{held}"; exit 100; fi'
    machine.install("apt-get", f"{busy}; echo 'Errors were encountered while processing: nvidia-dkms'; exit 100")
    machine.install("dpkg-query", "printf installed")
    recipe = f"sudo apt-get install -y nfs-common && mount -t nfs {SHARE} {volume}"
    ok(storage(machine, "--mount", recipe))
    assert len(machine.calls("apt-get")) == 2
    machine.install("dpkg-query", "exit 1")
    done = storage(machine, "--mount", recipe.replace("volume", "other"))
    assert refusal(done).startswith("the mount command failed: ")


def test_the_home_in_a_mount_command_is_the_pods(machine: Machine) -> None:
    ok(storage(machine, "--mount", f'mount -t nfs {SHARE} ~/models > "$HOME/log"'))
    assert (machine.home / ".cache/huggingface").resolve() == machine.home / "models/huggingface"
    assert (machine.home / "log").exists()


def test_a_mount_in_the_background_may_take_a_moment(machine: Machine) -> None:
    stub = (machine.folder / "bin/mount").read_text().split("\n", 2)[2]
    machine.install("rclone", f"shift; sleep 0.5; {stub}")
    volume = machine.folder / "volume"
    ok(storage(machine, "--mount", f"rclone mount r:x {volume} > /dev/null 2>&1 &"))


def test_a_command_that_does_not_say_where_it_mounts_works_with_a_models_path(machine: Machine) -> None:
    models = machine.folder / "disk/models"
    assert refusal(storage(machine, "--mount", "mount -a", "--models-path", str(models))) == (
        f"the mount command succeeded, but nothing is mounted on {models}"
    )
    size(machine, f"/dev/vdb ext4 1953125 1 1953125 1% {models.parent}")
    ok(storage(machine, "--mount", "mount -a", "--models-path", str(models)))
    assert (machine.home / ".cache/huggingface").readlink() == models / "huggingface"
    machine.install("mount", "echo 'already mounted' >&2; exit 32")
    output = ok(storage(machine, "--mount", "mount -a", "--models-path", str(models)))
    assert "    it ! the mount command failed: already mounted\n" in output


def test_sudo_in_a_mount_command_is_understood_without_a_sudo(machine: Machine) -> None:
    volume = machine.folder / "volume"
    command = f"sudo -u root LC_ALL=C mount -t nfs {SHARE} {volume} && sudo --user root -- true"
    ok(storage(machine, "--mount", command))
    assert machine.calls("sudo") == []


# The folder for models


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("/dev/vda1 ext4 1953125 1 976563 50% /", "{} is on the machine's own disk, / (ext4, 2.0 GB, 1.0 GB free)"),
        ("/dev/vdb xfs 976562500 1 0 100% /workspace", "{} is on /workspace (xfs, 1.0 TB, 0 MB free)"),
        (
            "mfs#eu.runpod.net:9421 fuse 394000000000 1 11300000000 70% /workspace",
            "{} is on /workspace (fuse, a shared pool: your share is unknown)",
        ),
    ],
)
def test_a_models_path_is_shown_with_its_disk(machine: Machine, row: str, words: str) -> None:
    source, kind, *_, point = row.split()
    machine.write("/proc/self/mounts", f"{source} {point} {kind} rw 0 0\n")
    size(machine, row)
    models = machine.folder / "models"
    assert f"    it * {words.format(models)}\n" in ok(storage(machine, "--models-path", str(models)))


def test_a_models_path_on_a_containers_own_disk_is_a_warning(machine: Machine) -> None:
    size(machine, "overlay overlay 20000000 1 10000000 50% /")
    models = machine.folder / "models"
    output = ok(storage(machine, "--models-path", str(models)))
    assert f"    it ! {models} is on the container's own disk and will be lost with it" in output


def test_a_full_disk_is_named(machine: Machine) -> None:
    size(machine, "/dev/vdb ext4 1953125 1953125 0 100% /mnt")
    before = "write_trouble() { echo 'bash: printf: write error: No space left on device'; }"
    done = storage(machine, "--models-path", str(machine.folder / "models"), before=before)
    assert refusal(done) == "no space is left on /mnt (ext4, 2.0 GB, 0 MB free)"


def test_a_folder_that_cannot_be_written_to_is_refused(machine: Machine) -> None:
    (machine.folder / "file").touch()
    done = storage(machine, "--models-path", str(machine.folder / "file"))
    assert refusal(done) == f"cannot create {machine.folder}/file/huggingface"
    before = "write_trouble() { echo 'bash: /x: Read-only file system'; }"
    done = storage(machine, "--models-path", str(machine.folder / "models"), before=before)
    assert refusal(done) == f"cannot write to {machine.folder}/models/huggingface: Read-only file system"


# The cache


def test_models_in_the_old_cache_become_the_store_on_the_same_disk(machine: Machine) -> None:
    model = cached(machine)
    ok(storage(machine, "--models-path", str(machine.folder / "disk")))
    assert (machine.folder / "disk/huggingface/hub/model").read_text() == "weights"
    assert model.read_text() == "weights"


def test_models_in_the_old_cache_are_kept_aside_if_the_store_has_its_own(machine: Machine) -> None:
    cached(machine)
    (machine.folder / "disk/huggingface/other").mkdir(parents=True)
    output = ok(storage(machine, "--models-path", str(machine.folder / "disk")))
    kept = machine.home / ".cache/huggingface.before-setup"
    assert f"as {kept}: move it to {machine.folder}/disk/huggingface, or delete it\n" in output
    assert (kept / "hub/model").read_text() == "weights"


def test_another_models_path_does_not_change_the_first(machine: Machine) -> None:
    ok(storage(machine, "--models-path", str(machine.folder / "one")))
    (machine.folder / "one/huggingface/model").touch()
    ok(storage(machine, "--models-path", f"{machine.folder}/two/"))
    assert (machine.home / ".cache/huggingface").readlink() == machine.folder / "two/huggingface"
    assert (machine.folder / "one/huggingface/model").exists()


def test_without_models_path_the_cache_is_not_changed(machine: Machine) -> None:
    cached(machine)
    ok(storage(machine))
    assert not (machine.home / ".cache/huggingface").is_symlink()


def test_without_models_path_models_stay_where_an_earlier_setup_put_them(machine: Machine) -> None:
    models = machine.folder / "disk"
    machine.setup("--models-path", str(models))
    env = (machine.home / ".pi/env").read_text()
    assert machine.setup().returncode == 0
    assert (machine.home / ".pi/env").read_text() == env


def test_a_volume_that_has_vanished_is_not_replaced_by_the_machines_own_disk(machine: Machine) -> None:
    models = machine.folder / "disk"
    ok(storage(machine, "--models-path", str(models)))
    (models / "huggingface").rmdir()
    assert refusal(storage(machine)) == (
        f"the models folder {models}/huggingface is gone: mount its volume again with --mount, "
        "or choose another folder with --models-path"
    )
    assert not (models / "huggingface").exists()


def test_a_link_to_a_vanished_volume_is_replaced_by_naming_another(machine: Machine) -> None:
    link = machine.home / ".cache/huggingface"
    link.parent.mkdir()
    link.symlink_to("/nowhere/huggingface")
    output = ok(storage(machine, "--models-path", str(machine.folder / "disk")))
    assert "the cache was /nowhere/huggingface, which is kept\n" in output
    assert link.resolve() == machine.folder / "disk/huggingface"
