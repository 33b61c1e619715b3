"""`remote/pod_setup.sh` as a whole, on a simulated machine: its steps, their messages, its end.

`tests/openssh/test_setup_on_bare_debian.py` runs it on a real machine.
"""

import fcntl
import os
import re
import sys
from pathlib import Path

import pytest

from tests.remote.machine import SCRIPT, Machine
from tests.remote.test_cuda_question import install_torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def ends(output: str) -> dict[str, str]:
    """Return how each step ended."""
    return dict(re.findall(r"^<== (\w+): (.*)$", output, re.MULTILINE))


def test_a_bare_machine_becomes_a_pod_step_by_step(machine: Machine) -> None:
    done = machine.setup()
    assert done.returncode == 0, done.stdout + done.stderr
    titles = dict(re.findall(r"^==> (\w+): (.*)$", done.stdout, re.MULTILINE))
    assert titles == {
        "machine": "Checking the machine",
        "lock": "Taking the setup lock",
        "essentials": "Installing prerequisites",
        "packages": "Installing build tools",
        "cuda": "Installing the CUDA toolkit",
        "storage": "Mounting the models volume",
        "cache": "Linking the model cache",
        "uv": "Installing uv",
        "vllm": "Installing vLLM",
        "kernels": "Downloading FlashInfer's kernels",
        "environment": "Writing ~/.pi/env",
        "gpus": "Trying CUDA on the GPUs",
        "ready": "vLLM 0.32.0",
    }
    assert set(ends(done.stdout)) == set(titles) - {"ready"}
    assert done.stdout.endswith("==> ready: vLLM 0.32.0\n")
    assert done.stderr == ""


def test_every_line_belongs_to_a_step(machine: Machine) -> None:
    lines = machine.setup().stdout.splitlines()
    assert [line for line in lines if not re.match(r"==> |<== |    [a-z]+ [|*!x~%] ", line)] == []


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    install_torch(machine, "return 1")
    machine.setup("--vllm", "0.32.0")
    machine.forget_calls()
    before = {path: path.lstat().st_mtime_ns for path in (machine.home / ".pi/venvs").rglob("*")}
    env = (machine.home / ".pi/env").stat()
    done = machine.setup("--vllm", "0.32.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for name, how in ends(done.stdout).items() if how != "skipped"} == {"machine", "lock"}
    assert "    vllm * vLLM 0.32.0 is already installed\n" in done.stdout
    assert {path: path.lstat().st_mtime_ns for path in (machine.home / ".pi/venvs").rglob("*")} == before
    assert (machine.home / ".pi/env").stat().st_ino == env.st_ino
    assert machine.calls("apt-get", "dpkg", "sudo", "vllm") == []
    assert sorted(machine.calls("uv")) == ["uv --version", "uv pip install --help"]


def test_a_failing_step_gives_its_reason_and_stops_the_branch_that_may_be_interrupted(machine: Machine) -> None:
    os.mkfifo(machine.folder / "life")
    machine.install("installed/vllm", 'read -r _ < "$MACHINE/life"')  # forever
    machine.install("mount", "echo 'mount.nfs: access denied by server' >&2; exit 32")
    done = machine.setup("--mount", f"mount -t nfs h:/x {machine.folder}/volume")
    assert done.returncode == 13
    assert ends(done.stdout)["storage"] == "failed 13"
    assert ends(done.stdout)["packages"] == "done"
    assert {ends(done.stdout).get(name, "stopped") for name in ("uv", "vllm")} <= {"done", "skipped", "stopped"}
    assert "environment" not in ends(done.stdout)
    [reason] = re.findall(r"^    storage x (.*)$", done.stdout, re.MULTILINE)
    assert reason.startswith("the mount command failed: the server denies access to this machine")
    assert not re.findall(r"^    vllm x ", done.stdout, re.MULTILINE)


def test_a_command_whose_failure_is_not_handled_fails_its_step(machine: Machine) -> None:
    done = machine.step("false")
    assert done.returncode == 9
    assert '    it x "Doing it" failed with exit status 1\n<== it: failed 9\n' in done.stdout


def test_output_of_programs_and_messages_of_the_script_are_marked_differently(machine: Machine) -> None:
    code = r"talk() { printf 'one\rtwo\r\n'; echo err >&2; say three; warn four; printf 'no end'; }"
    done = machine.step("talk", before=code)
    assert done.stdout.splitlines() == [
        "==> it: Doing it",
        "    it | two",
        "    it | err",
        "    it * three",
        "    it ! four",
        "    it | no end",
        "<== it: done",
    ]


def test_a_program_that_never_ends_its_line_is_shown_in_parts_and_kept_at_its_end(machine: Machine) -> None:
    code = """talk() { capture spill; echo "kept ${#captured}, ${captured: -4}"; }
        spill() { head -c 70000 /dev/zero | tr '\\0' x; echo last; }"""
    lines = machine.step("talk", before=code).stdout.splitlines()
    assert max(map(len, lines)) < 20_000
    assert sum(line.count("x") for line in lines) == 70_000
    assert lines[-2] == "    it | kept 65535, last"


def test_a_step_that_counts_nothing_says_that_it_still_runs(machine: Machine) -> None:
    code = "heartbeat=0; talk() { until [ -e ~/seen ]; do sleep 0.1; done; }"
    waits = f'{code}; printf() {{ builtin printf "$@"; case "$*" in *%%*) touch ~/seen ;; esac; }}'
    assert "    it %\n" in machine.step("talk", before=waits).stdout


def test_two_setups_do_not_run_at_the_same_time(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    with (machine.home / ".pi/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pid 4711 since yesterday\n")
        lock.flush()
        done = machine.setup(before="lock_timeout=0")
    assert done.returncode == 10
    assert "    lock x another setup of this machine is running: pid 4711 since yesterday\n" in done.stdout
    assert machine.calls("apt-get", "uv") == []
    assert machine.setup().returncode == 0


def test_a_daemon_that_a_package_starts_does_not_hold_the_lock(machine: Machine) -> None:
    apt_get = (machine.folder / "bin/apt-get").read_text()
    machine.install("apt-get", f"{machine.daemon()} > /dev/null 2>&1 &\n{apt_get}")
    machine.setup()
    again = machine.setup(before="lock_timeout=0")
    machine.end_daemons()
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--vllm"], "--vllm needs a value"),
        (["--gpus", "2"], "unknown argument `--gpus`"),
        (["--models-path", "models"], "--models-path must be absolute, not `models`"),
        (["--cuda", "some"], "--cuda must be auto, full or none, not `some`"),
        (["--flashinfer", "yes"], "--flashinfer must be prebuilt, source or none, not `yes`"),
        (
            ["--cpu", "--vllm", "nightly"],
            "there is no nightly build of vLLM for CPUs: leave out --vllm, or name a version",
        ),
    ],
)
def test_bad_usage_is_refused_before_anything_is_done(machine: Machine, arguments: list[str], reason: str) -> None:
    done = machine.setup(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {reason}\n")
    assert list(machine.home.iterdir()) == []


def test_sourcing_the_script_does_nothing(machine: Machine) -> None:
    assert machine.call("true") == ""
    assert machine.calls() == []
    assert SCRIPT.read_text().rstrip().endswith('if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi')
