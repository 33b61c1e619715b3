"""How the setup script reaches a pod: complete, or not at all."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from pi_cli.pods import provision, shell
from pi_cli.pods.provision import SetupOptions

BASH = ["bash", "--norc", "-s"]


@pytest.fixture
def archive() -> bytes:
    """A script that prints its arguments, in place of pi's."""
    files = {"pod_setup.sh": 'printf "[%s]" "$PWD" "$@"; printf "${PI_MOUNT:+<%s>}" "$PI_MOUNT"; cat; exit 7\n'}
    files |= {"setup/supervise.sh": (Path(__file__).parents[2] / "remote/setup/supervise.sh").read_text()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o600
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def run(home: Path, sent: bytes) -> subprocess.CompletedProcess[bytes]:
    """Feed bash as pi does, and keep its stdin open until it has ended."""
    with subprocess.Popen(
        BASH, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, stdin=-1, stdout=-1, stderr=-1, bufsize=0
    ) as bash:
        assert bash.stdin
        assert bash.stdout
        assert bash.stderr
        bash.stdin.write(sent)
        out, err = bash.stdout.read(), bash.stderr.read()
        return subprocess.CompletedProcess(BASH, bash.wait(), out, err)


def test_the_archive_holds_the_script_and_its_parts_and_always_has_the_same_bytes() -> None:
    packed = provision._archive()
    assert packed == provision._archive()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = tar.getnames()
        assert {(entry.mtime, entry.uid, entry.mode) for entry in tar.getmembers()} == {(0, 0, 0o600)}
    assert names[0] == "pod_setup.sh"
    assert {"setup/steps.sh", "setup/supervise.sh", "setup/vllm.sh", "setup/vllm_abilities.py"} <= set(names)
    assert len(packed) < 80_000


def test_arguments_arrive_unchanged(tmp_path: Path, archive: bytes) -> None:
    home = tmp_path / "it's home"
    home.mkdir()
    arguments = ["--mount", "mount -t nfs 'h:/a b' /mnt; $(rm -rf ~) COMMAND", "--vllm", "vllm>=0.30,<1 # x"]
    done = run(home, shell.setup(archive, arguments))
    assert done.stdout.decode() == "\n" + "".join(f"[{word}]" for word in [home, *arguments])
    assert (done.returncode, done.stderr) == (7, b"")


def test_the_mount_command_is_in_the_environment_and_not_in_the_arguments(tmp_path: Path, archive: bytes) -> None:
    command = "mount -o password='a $b' //h/x /m\n# COMMAND"
    done = run(tmp_path, shell.setup(archive, ["--cpu"], mount=command))
    assert done.stdout.decode() == f"\n[{tmp_path}][--cpu]<{command}>"


def test_only_the_user_may_read_the_stored_script_and_nothing_is_stored_beside_it(
    tmp_path: Path, archive: bytes
) -> None:
    pod = tmp_path / "pod"
    pod.mkdir()
    for _ in range(2):
        assert run(pod, shell.setup(archive, [])).returncode == 7
        modes = {str(path.relative_to(pod)): path.stat().st_mode & 0o777 for path in pod.rglob("*")}
        assert modes == {
            ".pi": 0o700,
            ".pi/remote": 0o700,
            ".pi/remote/pod_setup.sh": 0o600,
            ".pi/remote/setup": 0o700,
            ".pi/remote/setup/supervise.sh": 0o600,
        }
        (pod / ".pi/remote/pod_setup.sh").write_text("exit 1")


def test_a_script_that_arrives_in_part_is_not_run(tmp_path: Path, archive: bytes) -> None:
    sent = shell.setup(archive, [])
    with subprocess.Popen(
        BASH, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, stdin=-1, stdout=-1, stderr=-1
    ) as bash:
        out, err = bash.communicate(sent[:-50], timeout=20)
    assert (bash.returncode, out) == (1, b"")
    assert b"cannot store the setup script in" in err
    assert not (tmp_path / ".pi/remote/pod_setup.sh").exists()
    assert not list((tmp_path / ".pi/remote").glob(".new*"))


def test_every_option_becomes_an_argument() -> None:
    assert SetupOptions().arguments() == []
    options = SetupOptions("mount x /m", "/m", "0.32.0", cpu=True, cuda="none", flashinfer="source", shell_env=True)
    assert options.arguments() == [
        *("--mount", "mount x /m", "--models-path", "/m", "--vllm", "0.32.0"),
        *("--cuda", "none", "--flashinfer", "source", "--cpu", "--shell-env"),
    ]
    options = SetupOptions(home="/new", last_home="/old")
    assert options.for_the_script() == ["--home", "/new", "--last-home", "/old"]
    assert options.arguments() == ["--home", "/new"]
