"""`pi list` and `pi stop`: the truth about what runs, and an end that is proved."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.conftest import Pi, pods_json, register
from tests.forkserver import FORKSERVER
from tests.until import until

pytestmark = pytest.mark.xdist_group("list_and_stop")


def start(pi: Pi, name: str = "q", *own: str) -> dict[str, object]:
    result = pi("start", "Qwen/Qwen3-8B", "--name", name, "--json", *(["--vllm", *own] if own else []))
    assert result.code == 0, result.err
    [started] = result.json
    assert isinstance(started, dict)
    return started


def forget_locally() -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    for pod in state["pods"].values():
        pod["models"] = {}
    path.write_text(json.dumps(state))


def leave_no_trace_of_ours(pod: EmbeddedPod) -> None:
    """Make the running model one that somebody wrote into `pods.json` by hand."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    del state["pods"]["dc1"]["models"]["q"]["uid"]
    path.write_text(json.dumps(state))
    for record in (pod.home / ".pi" / "models").iterdir():
        record.unlink()


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` runs; the first test starts it."""
    module_pod.register("dc1")
    module_pod.started(pi, "q")
    return module_pod.pod


def test_a_running_model_is_listed_as_ready_with_the_memory_of_its_gpus_and_its_requests(
    pi: Pi, module_pod: Served, shared: EmbeddedPod
) -> None:
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["pid"], listed["gpu"]) == ("ready", module_pod.entries["q"]["pid"], "0")
    assert (listed["requests_running"], listed["requests_waiting"]) == (0, 0)
    assert 60_000 < listed["gpu_memory_used_mib"] < listed["gpu_memory_total_mib"] == 81559
    table = pi("list").out.splitlines()
    assert re.split(r"  +", table[0].strip()) == [
        "POD", "NAME", "STATUS", "MODEL", "GPU", "GPU MEM", "PORT", "PID", "UP", "REQUESTS", "URL",
    ]  # fmt: skip
    assert table[1].split()[:3] == ["dc1", "q", "ready"]
    assert shared.processes()


def test_names_are_printed_alone_for_other_commands(pi: Pi, shared: EmbeddedPod) -> None:
    listed = pi("list", "-q")
    assert (listed.code, listed.out, listed.err) == (0, "q\n", "")
    register("dc2", shared, count=2)
    pi("pods", "active", "dc2")
    assert pi("list", "--pod", "dc1", "--quiet", "--no-check").out == "dc1/q\n"
    for other in ("--json", "--watch"):
        assert pi("list", "-q", other).code == 2
    assert shared.processes()


def test_all_pods_are_asked_and_a_dead_one_is_shown_and_not_forgotten(
    pi: Pi, shared: EmbeddedPod, embed: Callable[..., EmbeddedPod]
) -> None:
    """Faults 1 and 54."""
    other = embed("dc2")
    pi("start", "Qwen/Qwen3-8B", "--name", "r", "--pod", "dc2")
    other.close()
    result = pi("list", "--all", "--json")
    assert result.code == 3
    assert [(each["pod"], each["status"]) for each in result.json] == [("dc1", "ready"), ("dc2", "unreachable")]
    assert "cannot reach pod `dc2`" in result.err
    refused = pi("stop", "r", "--pod", "dc2")
    assert refused.code == 3
    assert (
        "hint: the list is unchanged; if the machine is gone: `pi stop r --pod dc2 --forget`, or `pi pods remove dc2`"
        in refused.err
    )
    assert "r" in pods_json()["pods"]["dc2"]["models"]
    dropped = pi("stop", "r", "--pod", "dc2", "--forget")
    assert dropped.code == 0
    assert dropped.out == "removed `r` on `dc2` from the list; if it is running, it keeps running\n"
    assert pods_json()["pods"]["dc2"]["models"] == {}
    assert shared.processes()


def test_what_was_forgotten_without_being_stopped_is_found_again(
    pi: Pi, module_pod: Served, shared: EmbeddedPod
) -> None:
    assert pi("stop", "--all", "--forget").code == 0
    assert pi("list", "--json").json[0]["pid"] == module_pod.entries["q"]["pid"]
    assert pi("stop", "nobody", "--forget").code == 2
    assert shared.processes()


DEATHS = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU memory"),
    ("INFO all is well", "the log shows no error"),
]


def test_a_model_that_died_is_shown_with_the_cause_and_forgotten(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 53."""
    start(pi)
    log = pod.home / ".vllm_logs" / "q.log"
    [record] = (pod.home / ".pi" / "models").iterdir()
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    living = {file: file.read_bytes() for file in (log, record, path)}
    for process in pod.processes():
        os.kill(process.pid, signal.SIGKILL)
    for said, cause in DEATHS:
        for file, content in living.items():
            file.write_bytes(content)
        with log.open("a") as end:
            end.write(said + "\n")
        result = pi("list", "--json")
        [dead] = result.json
        assert (dead["name"], dead["status"]) == ("q", "dead")
        assert cause in dead["cause"]
        assert dead["log"].endswith("/.vllm_logs/q.log")
        more = "`pi why q` shows what its log says" if dead["hint"] else f"its log: {dead['log']}"
        assert f"`q` is dead and was removed: {dead['cause']}; {more}" in result.err
        assert (dead["cause_line"] or "") in said
        assert pods_json()["pods"]["dc1"]["models"] == {}
        assert pi("list", "--json").json == []


def test_a_model_that_died_with_its_pod_is_recognized_by_the_boot(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 53: this machine cannot be rebooted, so the record is made one of another boot."""
    start(pi)
    for process in pod.processes():
        os.kill(process.pid, signal.SIGKILL)
    [record] = (pod.home / ".pi" / "models").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    [dead] = pi("list", "--json").json
    assert dead["cause"] == "the pod was rebooted"
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0


def test_a_model_that_another_machine_with_this_home_has_started_stays_on_the_list(pi: Pi, pod: EmbeddedPod) -> None:
    """The pod's address leads to several machines, like that of a cluster's login nodes."""
    started = start(pi)
    [path] = (pod.home / ".pi" / "models").iterdir()
    record = json.loads(path.read_text())
    os.killpg(int(str(started["pid"])), signal.SIGKILL)  # processes of another machine cannot be seen here
    until(lambda: not pod.processes())
    path.write_text(json.dumps(record | {"machine": "gpu02-3f9a8b7c"}))
    result = pi("list")
    assert (result.code, result.out) == (0, "")
    assert (
        "dc1: `q` was started on another machine that has the same home folder, gpu02-3f9a8b7c; "
        "`pi stop q --pod dc1` removes it from pi's list\n"
    ) in result.err
    assert [*pods_json()["pods"]["dc1"]["models"]] == ["q"]
    assert pi("stop", "q", "--pod", "dc1").code == 0
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert path.exists()


def test_a_model_that_another_laptop_stopped_is_reported_as_such(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 33."""
    start(pi)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    ours = path.read_bytes()
    assert pi("stop", "q").code == 0
    path.write_bytes(ours)
    assert pi("list", "--json").json[0]["cause"] == "stopped by another client"
    assert pod.processes() == []


def test_a_model_unknown_here_is_adopted(pi: Pi, module_pod: Served, shared: EmbeddedPod) -> None:
    """Fault 33."""
    forget_locally()
    result = pi("list", "--json")
    assert [each["name"] for each in result.json] == ["q"]
    assert "found `q` running here" in result.err
    assert pods_json()["pods"]["dc1"]["models"]["q"]["pid"] == module_pod.entries["q"]["pid"]
    assert shared.processes()


def test_an_engine_without_its_server_is_shown_and_can_be_stopped(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 47."""
    started = start(pi)
    os.kill(int(str(started["pid"])), signal.SIGKILL)
    until(lambda: pi("list", "--json").json[0]["status"] == "orphaned")
    shown = pi("list")
    assert "orphaned" in shown.out
    assert re.search(
        r"`q` has lost its server or its record, but still uses \d+ GiB of GPU memory; .*`pi stop q", shown.err
    )
    stopped = pi("stop", "q")
    assert stopped.code == 0
    assert re.search(r"\d+ GiB of GPU memory freed on `dc1`", stopped.err)
    assert not [process for process in pod.processes() if "Engine" in " ".join(process.command)]


def test_a_model_that_is_starting_shows_its_phase(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--detach", "--vllm", "--simulate", "slow=15")
    assert result.out == "launched `q` on `dc1`; watch it with `pi start --attach q --pod dc1`\n"
    until(lambda: re.search(r"starting \(loading weights( \d+/\d+)?, \d+s\)", pi("list").out))
    assert pod.processes()


def test_a_server_whose_health_check_fails_is_unhealthy(pi: Pi, module_pod: Served, shared: EmbeddedPod) -> None:
    os.kill(module_pod.entries["q"]["pid"], signal.SIGSTOP)
    assert pi("list", "--json").json[0]["status"] == "unhealthy"
    os.kill(module_pod.entries["q"]["pid"], signal.SIGCONT)
    until(lambda: pi("list", "--json").json[0]["status"] == "ready")
    assert shared.processes()


def test_a_hand_written_model_is_known_by_its_command_line_and_holds_its_name_and_its_gpu(
    pi: Pi, pod: EmbeddedPod
) -> None:
    started = start(pi)
    leave_no_trace_of_ours(pod)
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["pid"]) == ("ready", started["pid"])
    assert "`q` already runs here" in pi("start", "Qwen/Qwen3-8B", "--name", "q").err
    assert start(pi, "r")["gpu"] == "1"
    assert pi("stop", "r").code == 0
    assert [process for process in pod.processes() if "serve" in process.command]
    assert pi("stop", "q").code == 0
    assert not [process for process in pod.processes() if "serve" in process.command]


def test_a_pid_that_another_process_has_now_is_never_touched(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 50."""
    with subprocess.Popen(["sleep", "600"]) as innocent:
        path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
        state = json.loads(path.read_text())
        state["pods"]["dc1"]["models"]["q"] = {"model": "m", "port": 8001, "gpu": "0", "pid": innocent.pid}
        path.write_text(json.dumps(state))
        result = pi("stop", "q")
        assert (result.code, result.out) == (0, "`q` on `dc1` had already exited\n")
        assert innocent.poll() is None
        innocent.kill()
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert pod.commands


@pytest.mark.parametrize("simulate", ["engine-setsid", "ignore-term"])
def test_stop_ends_every_process_whatever_it_does(pi: Pi, pod: EmbeddedPod, simulate: str) -> None:
    """Faults 46 and 48."""
    start(pi, "q", "--simulate", simulate)
    result = pi("stop", "q")
    assert result.code == 0
    assert ("ignored SIGTERM" in result.out) is (simulate == "ignore-term")
    assert pod.processes() == []
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert list((pod.home / ".pi" / "models").iterdir()) == []


def test_stop_all_leaves_nothing(pi: Pi, pod: EmbeddedPod) -> None:
    start(pi, "a")
    start(pi, "b")
    forget_locally()
    result = pi("stop", "--all")
    assert result.out.splitlines() == ["stopped `a` on `dc1`", "stopped `b` on `dc1`"]
    assert pod.processes() == []


def test_two_stops_at_once_both_end_well(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 55."""
    start(pi)
    with (
        FORKSERVER.start(["stop", "q"], stdout=subprocess.DEVNULL) as one,
        FORKSERVER.start(["stop", "q"], stdout=subprocess.DEVNULL) as other,
    ):
        said = [stop.stderr.read() for stop in (one, other) if stop.stderr]
    assert 0 in (one.returncode, other.returncode)
    assert not any("Traceback" in each for each in said)
    assert pod.processes() == []


def test_stopping_what_is_not_there_says_so(pi: Pi, shared: EmbeddedPod) -> None:
    result = pi("stop", "nothing")
    assert result.code == 2
    assert "there is no model `nothing` on `dc1`" in result.err
    assert shared.commands


def test_a_model_on_another_pod_is_found(pi: Pi, shared: EmbeddedPod, module_pod: Served) -> None:
    register("dc2", shared, count=2)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = pods_json()
    state["pods"]["dc2"]["models"]["r"] = module_pod.entries["q"]
    path.write_text(json.dumps(state))
    for name in ("r", "dc2/r"):
        path.write_text(json.dumps(state))
        result = pi("stop", name, "--forget")
        assert (result.code, "removed `r` on `dc2`" in result.out) == (0, True)
    path.write_text(json.dumps(state))
    assert "there is no model `r` on `dc1`\nhint: did you mean `dc2/r`?" in pi("stop", "dc1/r").err


def test_without_check_no_pod_is_asked(pi: Pi, shared: EmbeddedPod) -> None:
    asked = len(shared.commands)
    [listed] = pi("list", "--no-check", "--json").json
    assert listed["status"] == "unchecked"
    assert len(shared.commands) == asked


def test_a_list_takes_one_remote_command_however_many_models_and_stopping_one_leaves_the_other(
    pi: Pi, shared: EmbeddedPod
) -> None:
    """Fault 57."""
    start(pi, "a")
    asked = len(shared.commands)
    assert len(pi("list", "--json").json) == 2
    assert len(shared.commands) == asked + 1
    assert pi("stop", "a").code == 0
    assert [each["name"] for each in pi("list", "--json").json] == ["q"]
    assert shared.processes()


def test_a_login_shell_that_talks_changes_nothing(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 14."""
    (pod.home / ".bashrc").write_text(
        "echo 'Welcome! {\"result\": 1}'\nprintf 'no newline'\nalias python3=false\nset -o noclobber\numask 077\n"
        "export PYTHONHOME=/nowhere\n"
    )
    start(pi)
    assert pi("list", "--json").json[0]["status"] == "ready"
    assert "Welcome" not in pi("logs", "q", "--no-follow").out
    assert pi("stop", "q").code == 0


def test_watching_continues_and_shows_changes(pi: Pi, pod: EmbeddedPod) -> None:
    start(pi)
    with FORKSERVER.start(["list", "--watch", "--json"]) as watching:
        assert watching.stdout
        first = json.loads(watching.stdout.readline())
        assert [(each["name"], each["status"]) for each in first["models"]] == [("q", "ready")]
        assert pi("stop", "q").code == 0
        until(lambda: json.loads(watching.stdout.readline())["models"] == [])  # type: ignore[union-attr]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
        assert watching.stderr
        assert "Traceback" not in watching.stderr.read()
    refused = pi("list", "--watch")
    assert (refused.code, "give `--json`" in refused.err) == (2, True)
    assert pod.commands
