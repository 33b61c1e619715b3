"""`pi pods …`: setting up, choosing and forgetting machines."""

import os
import subprocess
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi


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
    assert "is not known to pi" in result.err
    assert pod.commands == []


def test_state_written_by_hand_works_with_a_key_the_user_knows_already(pi: Pi, pod: EmbeddedPod) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "known_hosts").unlink()
    ssh = Path(os.environ["HOME"], ".ssh")
    ssh.mkdir()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{pod.port} {pod.host_key}\n")
    assert pi("list").code == 0


def test_a_pod_that_is_gone_is_reported_as_unreachable(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 1."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text(path.read_text().replace(f"-p {pod.port}", "-p 1"))
    result = pi("list")
    assert result.code == 3
    assert "cannot reach pod `dc1`: `127.0.0.1` port 1 refused the connection" in result.err
    assert "pi pods remove dc1" in result.err


def test_a_wrong_key_is_reported_as_refused(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
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
    assert header.split() == ["POD", "GPUS", "MODELS", "STORAGE", "VLLM", "SSH"]
    assert line.split()[:5] == ["*", "dc1", "2x", "H100", "80GB"]
    [described] = pi("pods", "list", "--json").json
    assert (described["name"], described["active"], described["ssh"]) == ("dc1", True, pod.ssh)


def test_a_broken_file_ends_with_5_and_stays(pi: Pi, pod: EmbeddedPod) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text("{")
    for words in (["pods"], ["list"], ["pods", "active", "dc1"], ["stop", "q"], ["pods", "remove", "dc1", "--yes"]):
        result = pi(*words)
        assert result.code == 5, words
        assert str(path) in result.err
    assert path.read_text() == "{"
    assert pod.commands == []


def test_json_is_understood_before_and_behind_the_command(pi: Pi, pod: EmbeddedPod) -> None:
    for words in (["pods", "--json"], ["pods", "--json", "list"], ["pods", "list", "--json"]):
        assert [each["ssh"] for each in pi(*words).json] == [pod.ssh]
