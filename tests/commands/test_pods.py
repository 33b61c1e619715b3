"""`pi pods …`: setting up, choosing and forgetting machines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.until import until


def test_setup_makes_a_pod_of_a_bare_machine(pi: Pi) -> None:
    with EmbeddedPod("2x H100 80GB") as machine:
        result = pi("pods", "setup", "dc1", machine.ssh)
        assert result.code == 0, result.err
        assert result.out.startswith("ready pod `dc1`: 2x NVIDIA H100 80GB HBM3, vLLM ")
        assert "==> Installing vLLM" in result.err
        written = pods_json()
        assert written["active"] == "dc1"
        assert written["pods"]["dc1"]["ssh"] == machine.ssh
        assert written["pods"]["dc1"]["gpus"][1] == {"id": 1, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
        assert (machine.home / "venv/bin/vllm").exists()
        assert pi("pods", "setup", "dc1", machine.ssh).code == 0


def test_a_second_pod_does_not_become_active(pi: Pi, pod: EmbeddedPod) -> None:
    with EmbeddedPod("1x L4") as machine:
        result = pi("pods", "setup", "dc2", machine.ssh)
        assert "make it the active pod with `pi pods active dc2`" in result.out
        assert pods_json()["active"] == "dc1"
        assert pi("pods", "active", "dc2").code == 0
        assert pods_json()["active"] == "dc2"
    assert pod.home.exists()


def test_a_machine_without_gpu_is_refused_and_not_registered(pi: Pi) -> None:
    """Fault 81."""
    with EmbeddedPod("none") as machine:
        result = pi("pods", "setup", "dc1", machine.ssh)
    assert result.code == 1
    assert "error: setup of `dc1` failed" in result.err
    assert "GPU" in result.err
    assert not Path(os.environ["PI_CONFIG_DIR"], "pods.json").exists()


@pytest.mark.parametrize("name", ["HF_TOKEN", "PI_API_KEY"])
def test_setup_asks_for_its_secrets_before_it_connects(pi: Pi, name: str) -> None:
    """Fault 76."""
    with EmbeddedPod() as machine:
        result = pi("pods", "setup", "dc1", machine.ssh, **{name: ""})
        assert result.code == 2
        assert f"{name} is not set" in result.err
        assert machine.commands == []


def test_ctrl_c_ends_the_script_on_the_pod_too(pi: Pi) -> None:
    """Fault 77."""
    with EmbeddedPod() as machine:
        machine.install("uv", "#!/bin/sh\necho waiting for ever\nsleep 600\n")
        command = [sys.executable, "-m", "pi_cli", "pods", "setup", "dc1", machine.ssh]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as setting_up:
            until(lambda: any("sleep" in process.command[0] for process in machine.processes()))
            setting_up.send_signal(signal.SIGINT)
            assert setting_up.wait(timeout=10) == 130
        until(lambda: machine.processes() == [])
    assert pi("pods", "--json").json == []


def test_a_changed_host_key_stops_everything_until_it_is_accepted(pi: Pi) -> None:
    """Faults 8 and 10, security check 12."""
    with EmbeddedPod() as machine:
        assert pi("pods", "setup", "dc1", machine.ssh).code == 0
        asked = len(machine.commands)
        machine.new_host_key()
        result = pi("list")
        assert result.code == 3
        assert "its host key changed" in result.err
        assert result.err.count("SHA256:") == 2
        assert "--accept-new-host-key" in result.err
        assert pi("pods", "setup", "dc1", machine.ssh).code == 3
        assert len(machine.commands) == asked
        assert pi("pods", "setup", "dc1", machine.ssh, "--accept-new-host-key").code == 0
        assert pi("list").code == 0


def test_a_host_never_met_is_refused_outside_setup(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 9."""
    Path(os.environ["PI_CONFIG_DIR"], "known_hosts").unlink()
    result = pi("list")
    assert result.code == 3
    assert "is not known here" in result.err
    assert pod.commands == []


def test_state_written_by_hand_works_with_a_key_the_user_knows_already(pi: Pi, pod: EmbeddedPod) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "known_hosts").unlink()
    ssh = Path(os.environ["HOME"], ".ssh")
    ssh.mkdir()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{pod.port} {pod.host_key}\n")
    assert pi("list").code == 0


def test_a_pod_that_is_gone_is_said_to_be_unreachable(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 1."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text(path.read_text().replace(f"-p {pod.port}", "-p 1"))
    result = pi("list")
    assert result.code == 3
    assert "cannot reach pod `dc1`: `127.0.0.1` port 1 refused the connection" in result.err
    assert "pi pods remove dc1" in result.err


def test_a_wrong_key_is_said_to_be_refused(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
    """Fault 11."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text(path.read_text().replace(str(pod.key), str(tmp_path / "other")))
    result = pi("list")
    assert result.code == 3
    assert "refused the login" in result.err


def test_runpods_proxy_is_refused_with_the_way_out(pi: Pi) -> None:
    """Fault 13."""
    result = pi("pods", "setup", "rp", "ssh abc-123@ssh.runpod.io -i ~/.ssh/id_ed25519")
    assert result.code == 3
    assert "SSH over exposed TCP" in result.err


def test_the_list_marks_the_active_pod(pi: Pi, pod: EmbeddedPod) -> None:
    header, line = pi("pods").out.splitlines()
    assert header.split() == ["POD", "GPUS", "MODELS", "VLLM", "SSH"]
    assert line.split()[:5] == ["*", "dc1", "2x", "H100", "80GB"]
    [described] = pi("pods", "list", "--json").json
    assert (described["name"], described["active"], described["ssh"]) == ("dc1", True, pod.ssh)


def test_removing_a_pod_with_models_asks_first(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 56."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"]["dc1"]["models"]["q"] = {"model": "m", "port": 8001, "gpu": "0", "pid": 1}
    path.write_text(json.dumps(state))
    refused = pi("pods", "remove", "dc1", input="n\n")
    assert refused.code == 1
    assert "q may still run on `dc1`" in refused.err
    removed = pi("pods", "remove", "dc1", "--yes")
    assert removed.code == 0
    assert "still runs and is billed" in removed.out
    assert pods_json() == {"pods": {}, "active": None}
    assert pod.commands == []


def test_a_broken_file_ends_with_5_and_stays(pi: Pi, pod: EmbeddedPod) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text("{")
    for words in (["pods"], ["list"], ["pods", "active", "dc1"], ["stop", "q"], ["pods", "remove", "dc1", "--yes"]):
        result = pi(*words)
        assert result.code == 5, words
        assert str(path) in result.err
    assert path.read_text() == "{"
    assert pod.commands == []


def test_a_command_runs_on_the_pod_through_the_users_own_ssh(pi: Pi, pod: EmbeddedPod) -> None:
    """With the key that pi learned: the user's ssh has never met this host."""
    by_name = pi("ssh", "dc1", "echo $HOME; exit 7")
    assert (by_name.code, by_name.out.strip()) == (7, str(pod.home))
    several_words = pi("ssh", "printf", "%s|", "a b", "$HOME")
    assert (several_words.code, several_words.out) == (0, "a b|$HOME|")


def test_json_is_understood_before_and_behind_the_command(pi: Pi, pod: EmbeddedPod) -> None:
    for words in (["pods", "--json"], ["pods", "--json", "list"], ["pods", "list", "--json"]):
        assert [each["ssh"] for each in pi(*words).json] == [pod.ssh]
