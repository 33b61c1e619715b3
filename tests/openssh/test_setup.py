"""`pi pods setup` over real sshd: what it registers, and what is left when it ends before its time."""

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshPod
from tests.openssh.at_work import living, pi_at, seconds_until_end, start
from tests.openssh.conftest import Prepare
from tests.until import until

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(300)]  # the first test makes the lab

SLEEPING_APT = """#!/bin/bash
sleep 600 &
echo "working for ever"
wait
"""
STUBBORN_APT = """#!/bin/bash
trap '' TERM
echo "working for ever"
bash -c 'while :; do sleep 1; done'
"""


def setup(pod: OpensshPod) -> list[str]:
    return ["pods", "setup", pod.name, pod.ssh]


@pytest.fixture
def machine(openssh_pod: OpensshPod) -> OpensshPod:
    """A machine with a GPU and nothing else, whose package manager never comes to an end."""
    openssh_pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    openssh_pod.install("apt-get", SLEEPING_APT)
    return openssh_pod


def test_setup_learns_the_key_registers_the_pod_and_the_pod_works(pi: Pi, prepare: Prepare) -> None:
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    result = pi(*setup(pod), "--models-path", "/srv/models")
    assert result.code == 0, result.err
    assert result.out == "ready pod `dc1`: 2x NVIDIA H100 80GB HBM3, vLLM 0.32.0\n"
    assert pods_json()["active"] == "dc1"
    assert pods_json()["pods"]["dc1"]["ssh"] == pod.ssh
    assert pod.check("stat -c %a ~/.pi ~/.pi/env ~/.pi/pod_setup.sh").split() == ["700", "600", "600"]

    pid = start(pi)
    assert "/root/venv/bin" in " ".join(each.environ["PATH"] for each in living(pod) if each.pid == pid)
    assert (pod.root / "srv/models/huggingface/hub/models--Qwen--Qwen3-8B/refs/main").exists()
    assert pi("stop", "q").code == 0
    assert living(pod) == []

    again = pi(*setup(pod))
    assert again.code == 0, again.err
    assert again.err.count("skipped:") >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_leaving_setup_ends_the_script_and_all_it_started(pi: Pi, machine: OpensshPod, number: signal.Signals) -> None:
    """Fault 77."""
    with pi_at("working for ever", *setup(machine)) as setting_up:
        setting_up.send_signal(number)
        assert seconds_until_end(setting_up) < 5
        assert setting_up.returncode == (130 if number == signal.SIGINT else -number)
        assert setting_up.stderr
        assert "Traceback" not in setting_up.stderr.read()
    until(lambda: living(machine) == [], seconds=5)
    machine.check("flock -n ~/.pi/setup.lock true")
    assert pi("pods", "--json").json == []
    assert not Path(os.environ["PI_CONFIG_DIR"], "pods.json").exists()


def test_a_step_that_ignores_term_is_killed(machine: OpensshPod) -> None:
    """Fault 77."""
    machine.install("apt-get", STUBBORN_APT)
    with pi_at("working for ever", *setup(machine)) as setting_up:
        setting_up.send_signal(signal.SIGINT)
        assert seconds_until_end(setting_up) < 5
    until(lambda: living(machine) == [], seconds=8)


def test_a_lost_session_ends_the_setup_too(pi: Pi, machine: OpensshPod) -> None:
    with pi_at("working for ever", *setup(machine)) as setting_up:
        machine.check("pkill -KILL -f '^sshd: root@notty'")
        assert seconds_until_end(setting_up) < 5
        assert setting_up.returncode == 3
    until(lambda: living(machine) == [], seconds=5)
    assert pi("pods", "--json").json == []


def test_a_failing_step_is_named_and_the_pod_is_not_registered(pi: Pi, machine: OpensshPod) -> None:
    """Fault 78."""
    machine.install("apt-get", "#!/bin/sh\necho 'E: no space left' >&2\nexit 100\n")
    result = pi(*setup(machine))
    assert result.code == 1
    assert "E: no space left" in result.err
    assert 'error: setup of `dc1` failed: setup stopped at "Installing packages"' in result.err
    assert pi("pods", "--json").json == []
    assert living(machine) == []


def test_a_machine_that_shows_another_key_gets_no_command(pi: Pi, pod: OpensshPod) -> None:
    """Faults 8 and 10, security check 12."""
    pod.install("logging-shell", '#!/bin/bash\necho "$@" >> /var/log/commands\nexec bash "$@"\n')
    pod.check("usermod --shell /usr/local/bin/logging-shell root")
    known = pod.fingerprint()
    pod.new_host_key()
    for words in (["list"], ["stop", "--all"], ["logs", "q"], ["start", "m/m", "--name", "q"], setup(pod)):
        result = pi(*words)
        assert result.code == 3, words
        assert f"its host key changed (known {known}, now {pod.fingerprint()})" in result.err
    assert not (pod.root / "var/log/commands").exists()
