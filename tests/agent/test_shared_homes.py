"""Several machines with one home folder: each has its own models, logs, lock, variables and vLLM."""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests import executables
from tests.agent.machine import Machine, known, messages, start_request
from tests.until import until

OTHER = "gpu02-3f9a8b7c-EFGH5678"
NFS = "/dev/vda / ext4 rw 0 0\nserver:/home {home} nfs4 rw 0 0\n"
LOCAL = "/dev/vda / ext4 rw 0 0\n"


def become(machine: Machine, host: str, mounts: str = LOCAL) -> str:
    """Make the agent run on a machine of this name from now on, with the same home, and return its id."""
    root = machine.home.parent / host
    for name, text in (("sys/kernel/hostname", host), ("self/mounts", mounts.format(home=machine.home))):
        path = root / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine.environ["PI_MACHINE_ROOT"] = str(root)
    return host


def put_record(where: Machine, name: str, **changes: Any) -> dict[str, Any]:
    """Copy the only record as one of a model whose processes cannot be seen from here."""
    record = where.records()[0] | {"uid": uuid.uuid4().hex, "name": name, "pid": 2**22 - 1} | changes
    record = {key: value for key, value in record.items() if value is not None}
    (where.home / f".pi/models/{record['uid']}.json").write_text(json.dumps(record))
    return record


def names(survey: dict[str, Any]) -> tuple[list[str], list[str]]:
    return [model["name"] for model in survey["models"]], [model["name"] for model in survey["dead"]]


@pytest.mark.parametrize("mounts", [LOCAL, NFS])
def test_a_model_of_another_machine_is_neither_shown_nor_forgotten(machine: Machine, mounts: str) -> None:
    become(machine, "gpu01", mounts)
    machine.start("q")
    boot = machine.records()[0]["boot"] if mounts == LOCAL else "of the other machine"
    other = put_record(machine, "q", machine=OTHER, boot=boot, port=8001, gpu="0")
    loading = put_record(machine, "r", machine=OTHER, boot=boot, pid=0, since=0)
    surveyed = machine.survey()["result"]
    assert names(surveyed) == (["q"], [])
    assert {record["uid"] for record in machine.records()} >= {other["uid"], loading["uid"]}
    assert [each["code"] for each in [machine.ask("attach", name="r")["refusal"]]] == ["not-there"]
    assert machine.start("r", gpus=[1])["result"]["state"] == "launched"  # neither name nor GPUs are taken


def test_what_pi_lists_here_and_another_machine_has_started_stays_and_is_named(machine: Machine) -> None:
    """Its address leads to several machines in turn, like that of a cluster's login nodes."""
    become(machine, "gpu01", NFS)
    machine.start("q")
    other = put_record(machine, "r", machine=OTHER, boot="of the other machine")
    listed = [known("r", other["uid"], pid=other["pid"])]
    surveyed = machine.ask("survey", known=listed, forget=True, memory=True, live=False)["result"]
    assert names(surveyed) == (["q"], [])
    assert surveyed["elsewhere"] == [{"name": "r", "machine": OTHER}]
    assert machine.ask("stop", models=listed, exact=False)["result"]["outcomes"] == ["gone"]
    assert other in machine.records()


def test_records_of_older_versions_are_taken_over_where_it_is_sure_whose_they_are(machine: Machine) -> None:
    become(machine, "gpu01", NFS)
    machine.start("q")
    put_record(machine, "of-this-boot", machine=None)
    kept = put_record(machine, "of-any-boot", machine=None, boot="of a machine")
    assert names(machine.survey()["result"]) == (["q"], ["of-this-boot"])
    assert {record["name"] for record in machine.records()} == {"q", "of-any-boot"}
    listed = [known("of-any-boot", kept["uid"], pid=kept["pid"])]
    surveyed = machine.ask("survey", known=listed, forget=True, memory=True, live=False)["result"]
    assert names(surveyed) == (["q"], ["of-any-boot"])
    assert kept in machine.records()
    become(machine, "gpu01", LOCAL)
    [dead] = machine.survey()["result"]["dead"]
    assert (dead["name"], dead["rebooted"]) == ("of-any-boot", True)
    assert {record["name"] for record in machine.records()} == {"q"}


def test_a_running_model_belongs_to_the_machine_on_which_its_processes_are(machine: Machine) -> None:
    become(machine, "gpu01")
    machine.start("q")
    become(machine, "renamed")
    assert names(machine.survey()["result"]) == (["q"], [])
    path = next((machine.home / ".pi/models").glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": OTHER, "boot": "another"}))
    become(machine, "renamed", NFS)
    assert names(machine.survey()["result"]) == (["q"], [])
    assert machine.ask("stop", models=[known("q")], exact=False)["result"]["outcomes"] == ["stopped"]
    assert machine.records() == []


def log_of(machine: Machine, name: str) -> bytes:
    source = {"name": name, "uid": None, "pid": 0, "port": 0, "gpu": "", "position": None}
    request: Any = {"sources": [source], "lines": None, "since": None, "grep": None, "follow": False, "looks": True}
    with machine.open("logs", **request) as process:
        assert process.stdout is not None
        return process.stdout.read()


def test_models_of_the_same_name_on_two_machines_have_a_log_each(machine: Machine) -> None:
    machine.install("vllm", '#!/bin/sh\necho "I run on $WHERE"\nexec sleep 300\n')

    def ran_on(host: str) -> None:
        become(machine, host)
        record = machine.start("q", environment={"WHERE": host})["result"]["record"]
        until(Path(record["log"]).read_text)
        os.killpg(record["pid"], signal.SIGKILL)  # its processes would not be visible on the other machine
        until(lambda: not Path(f"/proc/{record['pid']}").exists())

    ran_on("gpu01")
    ran_on("gpu02")
    for host, other in (("gpu01", b"gpu02"), ("gpu02", b"gpu01")):
        become(machine, host)
        assert f"I run on {host}\n".encode() in log_of(machine, "q")
        assert other not in log_of(machine, "q")


def test_a_machine_without_its_own_variables_and_vllm_uses_those_of_the_home(machine: Machine) -> None:
    machine.install("vllm", '#!/bin/sh\necho "$WHO $WHAT, $0"\nexec sleep 300\n')
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text("export WHO=all WHAT=common\n")
    become(machine, "gpu01", NFS)

    def said(name: str) -> str:
        log = Path(machine.start(name, gpus=[len(name)])["result"]["record"]["log"])
        until(lambda: log.exists() and log.read_text())
        return log.read_text()

    assert said("q") == f"all common, {machine.home}/venv/bin/vllm\n"
    own = machine.home / ".pi/machines/gpu01"
    (own / "env").write_text("unset WHAT; export WHO=gpu01\n")
    shutil.copytree(machine.home / "venv", own / "venvs/0.32.0")
    (own / "venv").symlink_to(own / "venvs/0.32.0")
    assert said("qq") == f"gpu01 , {own}/venvs/0.32.0/bin/vllm\n"


def test_the_lock_of_another_machine_is_not_waited_for(machine: Machine) -> None:
    become(machine, "gpu01", NFS)
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/machine").write_text(f"{OTHER} its-boot\n")
    begun = time.monotonic()
    with (machine.home / ".pi/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.start()["result"]["state"] == "launched"
    assert time.monotonic() - begun < 15
    assert (machine.home / ".pi/machines/gpu01/lock").exists()


REFUSING = f"""#!/bin/sh
prelude='import fcntl, os
def flock(file, operation, real=fcntl.flock):
    file = file if isinstance(file, int) else file.fileno()
    if os.readlink("/proc/self/fd/%d" % file).startswith(os.environ["HOME"]):
        raise OSError(NUMBER, os.strerror(NUMBER))
    return real(file, operation)
fcntl.flock = flock
'
exec {sys.executable} -I -S -c "$prelude
$4"
"""


def refuse_locks(machine: Machine, number: int) -> Path:
    """Let the file system of the home refuse locks with this error, and return the lock that is used instead."""
    programs = machine.home.parent / "programs"
    executables.put(programs / "python3", REFUSING.replace("NUMBER", str(number)))
    machine.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return Path(f"/dev/shm/pi-{os.getuid()}-{become(machine, f't{os.getpid()}n{number}', NFS)}.lock")


def lock_folder(machine: Machine) -> Path:
    return machine.home / ".pi/machines" / Path(machine.environ["PI_MACHINE_ROOT"]).name


@pytest.mark.parametrize("number", [37, 38, 95])  # ENOLCK, ENOSYS, EOPNOTSUPP
def test_on_a_share_without_locks_everything_works_and_it_is_named_once(machine: Machine, number: int) -> None:
    lock = refuse_locks(machine, number)
    refused = f"{lock_folder(machine)}/lock"
    try:
        assert machine.survey()["result"]["refused_lock"] == refused
        assert machine.survey()["result"]["refused_lock"] is None
        lock.unlink()
        with machine.open("start", **start_request("q")) as process:
            assert process.stdout is not None
            said = messages(process.stdout.read())
        assert [each for each in said if each.get("event") == "lock-elsewhere"] == [
            {"event": "lock-elsewhere", "path": refused}
        ]
        assert said[-1]["result"]["state"] == "launched"
        assert lock.stat().st_mode & 0o777 == 0o600
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with machine.open("survey", known=[], forget=True, memory=True, live=False) as waiting:
                assert waiting.stdout is not None
                until(lambda: is_open(waiting.pid, lock))
                assert not waiting.poll()
                fcntl.flock(held, fcntl.LOCK_UN)
                assert names(messages(waiting.stdout.read())[-1]["result"]) == (["q"], [])
    finally:
        lock.unlink()


# Let the kernel refuse flock(2) with ENOLCK, then become hf: a filter of system calls, see seccomp(2).
HF = f"""#!{sys.executable} -I
import ctypes, os, platform, struct, sys
number = {{"x86_64": 73, "aarch64": 32}}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 37), (0x06, 0, 0, 0x7FFF0000)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(filters)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execv(sys.executable, [sys.executable, sys.argv[0] + "-itself", *sys.argv[1:]])
"""
HF_ITSELF = """
import os, sys, sitecustomize
from filelock import FileLock
with FileLock(os.path.expanduser("~/.cache/huggingface/hub/x.lock"), timeout=5) as lock:
    open(os.path.expanduser("~/downloaded"), "w").write(f"{type(lock).__name__} {sitecustomize.machines_own}")
"""


def test_hf_downloads_to_a_share_without_locks(machine: Machine, tmp_path: Path) -> None:
    lock = refuse_locks(machine, 37)
    machine.install("hf", HF)
    machine.install("vllm", '#!/bin/sh\necho "$PYTHONPATH"\nexec sleep 300\n')
    (machine.home / "venv/bin/hf-itself").write_text(HF_ITSELF)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("machines_own = True\n")
    try:
        with machine.open(
            "start",
            **start_request("q") | {"download": True, "download_environment": {"PYTHONPATH": str(tmp_path / "site")}},
        ) as process:
            assert process.stdout is not None
            said = messages(process.stdout.read())
    finally:
        lock.unlink()
    assert said[-1]["result"]["state"] == "launched"
    hub = str(machine.home / ".cache/huggingface/hub")
    assert {"event": "lock-elsewhere", "path": hub} in said
    assert (machine.home / "downloaded").read_text().endswith("True")
    log = Path(said[-1]["result"]["record"]["log"])
    until(log.read_text)
    assert log.read_text().startswith(f"{machine.home}/.pi/lib:{lock_folder(machine)}/lockless")


def test_a_lock_that_another_user_has_planted_is_not_used(machine: Machine, tmp_path: Path) -> None:
    lock = refuse_locks(machine, 37)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    lock.symlink_to(victim)
    other = Path("/tmp", lock.name)
    try:
        assert machine.survey()["result"]["models"] == []
        assert other.is_file()
    finally:
        lock.unlink()
        other.unlink(missing_ok=True)


def is_open(pid: int, path: Path) -> bool:
    try:
        return any(entry.readlink() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
