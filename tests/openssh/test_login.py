"""pi works with the login shells, banners and sshd settings that rented machines have."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import QUICK, TOOLS, is_sshd, living, pi_at, start
from tests.until import until

NOISE = "echo 'Welcome! {\"result\": 1}'; printf 'no newline'; echo 'and an error' >&2"
NOISY_BASHRC = f"""{NOISE}
alias python3=false exec=false
set -o noclobber
umask 077
export PYTHONHOME=/nowhere PYTHONPATH=/nowhere PYTHONSTARTUP=/nowhere
"""
USERS_CONFIG = """Host *
  ForwardAgent yes
  ForwardX11 yes
  SetEnv PI_LEAK=1
  RequestTTY force
  RemoteCommand tmux
"""


def check_that_all_works(pi: Pi, pod: OpensshPod) -> None:
    pid = start(pi)
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["pid"]) == ("ready", pid)
    assert pi("logs", "q", "-n", "all", "--all-lines", "--no-follow").out == (pod.home / ".vllm_logs/q.log").read_text()
    assert pi("stop", "q").out == "stopped `q` on `dc1`\n"
    assert living(pod) == []


@pytest.mark.parametrize("shell", ["/bin/dash", "/usr/bin/fish", "/bin/tcsh", "/bin/zsh"])
def test_every_login_shell_works(pi: Pi, pod: OpensshPod, shell: str) -> None:
    """Fault 15."""
    pod.check(f"usermod --shell {shell} root")
    (pod.home / ".config/fish").mkdir(parents=True)
    for name in (".config/fish/config.fish", ".tcshrc", ".zshenv"):
        (pod.home / name).write_text("echo Welcome\n")
    check_that_all_works(pi, pod)


def test_a_shell_that_runs_no_commands_is_reported_as_the_reason(pi: Pi, pod: OpensshPod) -> None:
    """Fault 15."""
    pod.check("usermod --shell /usr/sbin/nologin root")
    result = pi("list")
    assert result.code == 1
    assert "pod `dc1` did not answer (exit code 1): This account is currently not available." in result.err


def test_an_sshd_that_forbids_forwarding_is_detected_before_a_model_is_loaded(pi: Pi, pod: OpensshPod) -> None:
    pod.sshd_config(AllowTcpForwarding="no")
    pod.restart_sshd()
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert result.code == 3
    assert "its sshd forbids port forwarding" in result.err
    assert not (pod.home / ".vllm_logs/q.log").exists()
    assert pi("list").code == 0


def test_a_bashrc_that_prints_and_sets_aliases_changes_nothing(pi: Pi, pod: OpensshPod) -> None:
    """Fault 14."""
    (pod.home / ".bashrc").write_text(NOISY_BASHRC)
    check_that_all_works(pi, pod)


def test_banners_greetings_and_a_missing_sftp_change_nothing(pi: Pi, pod: OpensshPod) -> None:
    """Faults 14 and 15."""
    (pod.root / "etc/issue.net").write_text("Authorised use only\x1b[2J\n" * 200)
    (pod.root / "etc/motd").write_text("Welcome\n" * 200)
    pod.check("sed -i '/sftp/d' /etc/ssh/sshd_config && rm -r /usr/lib/sftp-server /usr/lib/openssh/sftp-server")
    pod.sshd_config(Banner="/etc/issue.net", PrintMotd="yes", PrintLastLog="yes")
    pod.restart_sshd()
    check_that_all_works(pi, pod)


def test_listing_and_stopping_work_without_forwarding(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=(*QUICK, *TOOLS))
    pod.sshd_config(AllowTcpForwarding="no", DisableForwarding="yes")
    pod.restart_sshd()
    assert pi("list", "--json").json[0]["status"] == "ready"
    asked = pi("prompt", "q", "What is 2+2?")
    assert asked.code == 3
    assert "its sshd forbids port forwarding, which pi needs to reach models" in asked.err
    assert pi("stop", "q").code == 0


def test_tmux_at_login_does_not_block_commands(pi: Pi, pod: OpensshPod) -> None:
    """Fault 14: on Vast, a login with a terminal ends up in tmux."""
    pod.install("tmux", "#!/bin/sh\nexec sleep 600\n")
    for name in (".bashrc", ".profile", ".bash_profile"):
        (pod.home / name).write_text('if [ -t 0 ] && [ -z "$TMUX" ]; then exec tmux; fi\n')
    check_that_all_works(pi, pod)


def test_a_user_other_than_root_has_separate_models(pi: Pi, pod: OpensshPod, environment: Path) -> None:
    """Fault 82."""
    pod.check("useradd --create-home --shell /bin/bash ubuntu")
    pod.check("cp -r ~/.ssh ~/.demo ~ubuntu && chown -R ubuntu ~ubuntu")
    pods = environment / ".pi/pods.json"
    pods.write_text(pods.read_text().replace("root@", "ubuntu@"))
    start(pi)
    [server] = [process for process in living(pod) if "serve" in process.args]
    assert server.environ["HOME"] == "/home/ubuntu"
    assert (pod.root / "home/ubuntu/.vllm_logs/q.log").exists()
    assert pi("stop", "q").out == "stopped `q` on `dc1`\n"
    assert living(pod) == []


@pytest.fixture
def agent(environment: Path, pod: OpensshPod, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh agent that holds the pod's key, and a configuration that forwards it and X11 to every host."""
    config = environment / ".ssh/config"
    config.parent.mkdir()
    config.write_text(USERS_CONFIG)
    socket = environment / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as running:
        try:
            until(socket.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", pod.key], check=True)
            yield
        finally:
            running.terminate()


@pytest.mark.usefixtures("agent")
def test_the_users_agent_display_and_variables_are_not_sent_to_the_pod(
    pi: Pi, pod: OpensshPod, environment: Path
) -> None:
    """Security check 15."""
    pod.sshd_config(AcceptEnv="*")
    pod.restart_sshd()
    config = f"-F {environment}/.ssh/config -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    config += " -o RequestTTY=no -o RemoteCommand=none"
    plain_ssh = ["ssh", *config.split(), *pod.ssh.split()[1:], "env"]
    sent = subprocess.run(plain_ssh, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    assert "SSH_AUTH_SOCK=" in sent  # as configured
    assert "PI_LEAK=1" in sent

    start(pi)
    with pi_at("", "logs", "q"):
        until(lambda: any("-I" in process.args for process in living(pod)))
        processes = [process for process in pod.processes() if not is_sshd(process)]
        assert processes
        assert not [
            process for process in processes if {"SSH_AUTH_SOCK", "DISPLAY", "PI_LEAK"} & process.environ.keys()
        ]
        assert list((pod.root / "tmp").glob("ssh-*")) == []
