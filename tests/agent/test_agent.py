"""The agent on this machine instead of a pod, fed to python3 as pi does it."""

import ast
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pi_cli.pods import agent_program
from pi_cli.store import paths
from tests import executables
from tests.agent.machine import Machine, environ, known, messages, start_request
from tests.until import until


def test_a_launched_model_has_its_own_session_and_ignores_sighup(machine: Machine) -> None:
    pid = machine.start()["result"]["record"]["pid"]
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == pid
    until(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    ignored = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGHUP - 1)


def test_of_twelve_starts_at_once_on_four_gpus_four_succeed_and_the_others_may_choose_again(machine: Machine) -> None:
    """Fault 31."""

    def start(number: int) -> dict[str, Any]:
        return machine.start(f"m{number}", gpus=[number % 4])

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(start, range(12)))
    records = [answer["result"]["record"] for answer in answers if "result" in answer]
    assert sorted(record["gpu"] for record in records) == ["0", "1", "2", "3"]
    assert len({record["port"] for record in records}) == 4
    assert {answer["refusal"]["code"] for answer in answers if "refusal" in answer} == {"gpus-taken"}


def test_of_three_starts_with_one_name_one_succeeds(machine: Machine) -> None:
    """Fault 32."""
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(machine.start, ["q"] * 3))
    assert sum("result" in answer for answer in answers) == 1
    assert {answer["refusal"]["code"] for answer in answers if "refusal" in answer} == {"name-taken"}


def test_a_start_gets_gpus_only_if_it_names_the_models_on_them(machine: Machine) -> None:
    assert machine.start("a", gpus=[0, 1, 2], memory=0.5)["result"]["record"]["gpu"] == "0,1,2"
    assert machine.start("b", gpus=[2, 3])["refusal"]["code"] == "gpus-taken"
    assert machine.start("b", gpus=[2, 3], beside=["a"], memory=0.4)["result"]["record"]["gpu"] == "2,3"
    assert machine.start("c", gpus=[0], beside=["a", "b"])["refusal"]["code"] == "gpus-taken"
    assert {record["name"]: record["memory"] for record in machine.records()} == {"a": 0.5, "b": 0.4}


def test_a_record_holds_what_is_needed_and_no_secret(machine: Machine) -> None:
    machine.start(environment={"VLLM_API_KEY": "secret-key"}, arguments=["--a", "b c"])
    [record] = machine.records()
    assert {"uid", "name", "model", "port", "gpu", "pid", "start", "boot", "since", "vllm", "arguments"} <= set(record)
    assert record["arguments"] == ["--a", "b c"]
    assert "secret-key" not in json.dumps(record)


def test_a_missing_program_is_reported_and_nothing_stays_reserved(machine: Machine) -> None:
    (machine.home / "venv" / "bin" / "vllm").unlink()
    assert machine.start()["refusal"]["code"] == "not-set-up"
    assert machine.records() == []


def test_an_agent_that_stays_answers_again_with_what_was_sent_while_it_worked(machine: Machine) -> None:
    """As `pi start` does: the second program is on its way before the first answer, and is without what is there."""
    queries: dict[str, Any] = {"gpu_query": ["true"], "gpu_list": ["true"], "known": [], "abilities": [], "cuda": None}
    with machine.open("inspect", stays=True, **queries) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        program = agent_program.packed("start", frozenset(agent_program.names("inspect")))
        assert len(program) < len(agent_program.packed("start"))
        process.stdin.write(b"%d\n%s" % (len(program), program))
        process.stdin.flush()
        while b'"result"' not in process.stdout.readline():
            pass
        envelope = {"protocol": 1, "operation": "start", "beat": 1000.0, "request": start_request("q")}
        process.stdin.write(json.dumps(envelope).encode() + b"\n")
        process.stdin.flush()
        assert messages(process.stdout.read())[-1]["result"]["state"] == "launched"
    assert [record["name"] for record in machine.records()] == ["q"]


@pytest.mark.parametrize("then", [b"", b"40\n" + agent_program.pack([("agent", "")])], ids=["nothing", "a program"])
def test_an_agent_that_stays_leaves_with_pi(machine: Machine, then: bytes) -> None:
    queries: dict[str, Any] = {
        "gpu_query": ["true"],
        "gpu_list": ["true"],
        "known": None,
        "abilities": [],
        "cuda": None,
    }
    with machine.open("inspect", stays=True, **queries) as process:
        assert process.stdin is not None
        process.stdin.write(then.replace(b"40", b"%d" % (len(then) - 3)))
        process.stdin.close()
        assert process.wait(60) == 0


def test_the_agent_beats_while_it_works(machine: Machine) -> None:
    """With no time between two beats, each step of the work is followed by one."""
    machine.start()
    asked: list[tuple[str, Any]] = [
        ("survey", {"known": [], "forget": False, "memory": False, "live": False}),
        ("attach", {"name": "q"}),
        ("stop", {"models": [known("q")], "exact": False}),
    ]
    for operation, request in asked:
        with machine.open(operation, beat=0.0, **request) as process:
            assert process.stdout is not None
            lines: list[bytes] = []
            while not lines or (lines[-1] and b'"event": "beat"' not in lines[-1]):
                lines.append(process.stdout.readline())
            assert lines[-1], operation
            process.kill()


def test_a_dead_model_is_forgotten_by_the_next_survey(machine: Machine) -> None:
    pid = machine.start()["result"]["record"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: machine.survey()["result"]["models"] == [])
    assert machine.records() == []


def test_a_record_of_another_boot_with_a_pid_in_use_again_is_dead(machine: Machine) -> None:
    """Faults 50 and 53."""
    machine.start()
    [record] = machine.records()
    os.kill(record["pid"], signal.SIGKILL)
    stale = record | {"pid": os.getpid(), "uid": "stale", "boot": "another"}
    (machine.home / ".pi" / "models" / "stale.json").write_text(json.dumps(stale))
    until(lambda: machine.survey()["result"]["models"] == [])


def test_a_broken_record_does_not_hide_the_others(machine: Machine) -> None:
    machine.start()
    (machine.home / ".pi" / "models" / "broken.json").write_text("{")
    assert [model["name"] for model in machine.survey()["result"]["models"]] == ["q"]
    (machine.home / ".pi" / "models" / "broken.json").unlink()


def test_when_pi_disconnects_during_a_download_nothing_stays(machine: Machine) -> None:
    """Fault 24: stdin ends when pi is killed or the connection is lost."""
    machine.install("hf", "#!/bin/sh\nsleep 300 &\nwait\n")
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        while b"progress" not in process.stdout.readline():
            pass
        [record] = machine.records()
        process.stdin.close()
        process.wait(timeout=10)
    assert machine.records() == []
    marker = f"PI_MODEL_UID={record['uid']}".encode()
    until(lambda: not [pid for pid in Path("/proc").glob("[0-9]*") if marker in environ(pid)])


def test_download_progress_counts_complete_and_partial_files(machine: Machine) -> None:
    folder = machine.home / ".cache" / "huggingface" / "hub" / "models--m--m"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "old.1a2b.incomplete").write_bytes(b"x" * 500)  # an orphan of another day
    tree = {"files": {"a": {"size": 700, "blob_id": "a"}, "b": {"size": 300, "blob_id": "x", "lfs_sha256": "b"}}}
    script = f"""#!/bin/sh
cd {folder}; mkdir -p refs trees; printf c0ffee > refs/main
cat > trees/c0ffee.json << END
{json.dumps(tree)}
END
head -c 700 /dev/zero > blobs/a; head -c 100 /dev/zero > blobs/b.3c4d.incomplete
sleep 1; rm blobs/b.3c4d.incomplete; head -c 300 /dev/zero > blobs/b
"""
    machine.install("hf", script)
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        assert process.stdout is not None
        events = [event for event in messages(process.stdout.read()) if event.get("event") == "progress"]
    progress = [(event["done"], event["total"]) for event in events]
    assert (800, 1000) in progress
    assert progress[-1] == (1000, 1000)


def test_settings_of_the_pod_reach_the_model(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi" / "env").write_text("export HF_HOME='/mnt/it'\\''s here'\nexport PI_FIRST_PORT=23456\n")
    machine.install(
        "vllm", '#!/bin/sh\nprintf "%s" "$HF_HOME|$CUDA_VISIBLE_DEVICES|$HF_TOKEN" > ~/seen\nexec sleep 300\n'
    )
    record = machine.start(download_environment={"HF_TOKEN": "t"})["result"]["record"]
    until(lambda: (machine.home / "seen").exists() and (machine.home / "seen").read_text())
    assert (machine.home / "seen").read_text() == "/mnt/it's here|0|"
    assert record["port"] >= 23456


def keep(machine: Machine, version: str, *, default: bool = False) -> None:
    """Install a vLLM where setup does; it writes its path and two variables of its environment to `seen`."""
    folder = machine.home / ".pi/venvs" / version
    executables.put(
        folder / "bin/vllm",
        '#!/bin/sh\nprintf "%s|" "$0" "$VLLM_CACHE_ROOT" "$VLLM_TARGET_DEVICE" > ~/seen\nexec sleep 300\n',
    )
    if default:
        link = machine.home / "venv"
        shutil.rmtree(link)
        link.symlink_to(folder)


def seen(machine: Machine) -> list[str]:
    until(lambda: (machine.home / "seen").exists() and (machine.home / "seen").read_text().count("|") == 3)
    values = (machine.home / "seen").read_text().split("|")[:3]
    (machine.home / "seen").unlink()
    return values


def test_a_model_runs_from_the_target_that_the_link_had_when_it_started(machine: Machine) -> None:
    keep(machine, "0.32.0", default=True)
    keep(machine, "0.33.0")
    machine.start()
    assert seen(machine) == [f"{machine.home}/.pi/venvs/0.32.0/bin/vllm", "", ""]
    (machine.home / "venv").unlink()
    (machine.home / "venv").symlink_to(machine.home / ".pi/venvs/0.33.0")
    machine.start("r", gpus=[1])
    assert seen(machine)[0] == f"{machine.home}/.pi/venvs/0.33.0/bin/vllm"
    assert {record["name"]: record["vllm"] for record in machine.records()} == {"q": "0.32.0", "r": "0.33.0"}


@pytest.mark.parametrize(
    ("minimum", "chosen"),
    [
        (None, "0.32.0"),
        ("0.31.5", "0.32.0"),
        ("0.32", "0.32.0"),
        ("0.32.1", "0.33.0+cu129"),
        ("0.33.0", "0.33.0+cu129"),
        ("0.34", "0.34.0rc1.dev7"),
    ],
)
def test_a_model_that_needs_a_newer_vllm_gets_one_that_is_installed(
    machine: Machine, minimum: str | None, chosen: str
) -> None:
    for version in ("0.31.0", "0.9.2", "0.33.0rc2", "0.33.0+cu129", "0.35.0+cpu", ".new"):
        keep(machine, version)
    if minimum == "0.34":
        keep(machine, "0.34.0rc1.dev7")
    keep(machine, "0.32.0", default=True)
    assert machine.start(min_vllm=minimum)["result"]["record"]["vllm"] == chosen
    assert seen(machine)[0] == f"{machine.home}/.pi/venvs/{chosen}/bin/vllm"


def test_a_model_is_refused_when_every_vllm_is_too_old(machine: Machine) -> None:
    keep(machine, "0.9.2")
    keep(machine, "0.32.0", default=True)
    refusal = {"code": "vllm-too-old", "names": ["0.9.2", "0.32.0"]}
    assert machine.start(min_vllm="0.33.0")["refusal"] == refusal
    assert machine.records() == []


def test_a_vllm_of_unknown_version_is_tried(machine: Machine) -> None:
    assert machine.start(min_vllm="0.33.0")["result"]["record"]["vllm"] is None


def test_compiled_kernels_are_kept_on_the_volume_by_version(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text(
        "export PI_VLLM_CACHE='/mnt/vllm-cache/L4'\nexport VLLM_TARGET_DEVICE='cpu'\n"
    )
    keep(machine, "0.32.0", default=True)
    machine.start()
    assert seen(machine)[1:] == ["/mnt/vllm-cache/L4/0.32.0", ""]


def test_a_cpu_build_gets_the_cpu_as_its_target(machine: Machine) -> None:
    keep(machine, "0.32.0+cpu", default=True)
    machine.start()
    assert seen(machine)[1:] == ["", "cpu"]


@pytest.mark.parametrize("path", sorted(paths.asset("remote/agent").rglob("*.py")), ids=lambda path: path.name)
def test_the_code_for_pods_is_valid_for_an_old_python(path: Path) -> None:
    """Ubuntu 20.04 has Python 3.8."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_list_does_not_need_the_lock_and_a_start_names_it(machine: Machine) -> None:
    """On a disk that is full or read-only, no file can be made."""
    machine.start("q")
    lock = machine.home / ".pi" / "lock"
    lock.unlink()
    lock.mkdir()
    assert [model["name"] for model in machine.survey()["result"]["models"]] == ["q"]
    refusal = machine.start("r")["refusal"]
    assert (refusal["code"], refusal["path"], refusal["reason"]) == ("os", str(lock), "Is a directory")


@pytest.mark.parametrize("planted", ["q.log", "q.log.trial"])
def test_a_planted_link_is_replaced_and_its_target_left_alone(machine: Machine, planted: str) -> None:
    """~/.vllm_logs may be a link to a folder that other users write to."""
    target = machine.home / "precious"
    target.write_text("kept")
    logs = machine.home / ".vllm_logs"
    logs.mkdir()
    (logs / planted).symlink_to(target)
    assert "result" in machine.start("q")
    assert target.read_text() == "kept"
    assert (logs / "q.log").is_file()
    assert not (logs / "q.log").is_symlink()
