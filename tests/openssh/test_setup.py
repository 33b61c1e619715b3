"""`pi pods setup` over real sshd: what it registers, and what is left when it ends before its time."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import pi_cli
from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshPod
from tests.openssh.at_work import begin, living, pi_at, seconds_until_end, start
from tests.openssh.conftest import Prepare
from tests.until import until

AT_WORK = "working for ever"
# A child, and a daemon that has left the session and its parents.
WORK = f"(setsid sleep 600 > /dev/null 2>&1 &); echo '{AT_WORK}'; sleep 601"
STUBBORN_APT = f"""#!/bin/bash
trap '' TERM
echo "{AT_WORK}"
bash -c 'while :; do sleep 1; done'
"""
UV = (Path(pi_cli.__file__).parent / "demo/bin/uv").read_text()

# What works for ever in each step, and when: a program, and a shell's condition about its arguments.
STEPS = {
    "machine": ("nvidia-smi", "true"),
    "essentials": ("apt-get", '[[ "$*" == *python3-venv* ]]'),
    "packages": ("apt-get", '[[ "$*" == *build-essential* ]]'),
    "cuda": ("curl", '[[ "$*" == *nvidia* ]]'),
    "storage": ("mount-models", "true"),
    "cache": ("ln", '[[ "$*" == *huggingface* ]]'),
    "uv": ("uv", '[[ "$*" == *--help* ]]'),
    "vllm": ("uv", '[[ "$1" == venv ]]'),
    "environment": ("cmp", "true"),
}


def setup(pod: OpensshPod) -> list[str]:
    return ["pods", "setup", pod.name, pod.ssh]


def work_for_ever(pod: OpensshPod, program: str, condition: str) -> Callable[[], None]:
    """Let a program work for ever, or else do what it always does; return what makes it do only that again."""
    always = pod.root / "usr/local/bin" / program
    before = always.read_text() if always.exists() else None
    instead = f"/usr/local/bin/{program}.always" if before is not None else f"/usr/bin/{program}"
    if before is not None:
        pod.install(f"{program}.always", before)
    pod.install(program, f'#!/bin/bash\nif {condition}; then {WORK}; fi\nexec {instead} "$@"\n')

    def mend() -> None:
        if before is not None:
            pod.install(program, before)
        else:
            always.unlink()

    return mend


def is_at_work(pod: OpensshPod) -> bool:
    """Tell whether both that works for ever have begun: the child and the daemon."""
    return {"600", "601"} <= {each.args[-1] for each in living(pod) if each.args[:1] == ["sleep"]}


def nothing_lives(pod: OpensshPod, *, seconds: float) -> None:
    with suppress(TimeoutError):  # the one below says more
        until(lambda: living(pod) == [], seconds=seconds)
    assert [each.args for each in living(pod)] == []


@contextmanager
def at_work(pod: OpensshPod, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run pi, and go on when something on the pod works for ever."""
    with begin(*words) as process:
        try:
            until(lambda: is_at_work(pod) or process.poll() is not None, seconds=30)
            assert process.stderr
            assert process.poll() is None, process.stderr.read()
            yield process
        finally:
            process.kill()


@pytest.fixture
def machine(openssh_pod: OpensshPod) -> OpensshPod:
    """A machine with a GPU and nothing else, whose package manager never comes to an end."""
    openssh_pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    openssh_pod.install("apt-get", f"#!/bin/bash\n{WORK}\n")
    return openssh_pod


@pytest.fixture
def quick(prepare: Prepare) -> OpensshPod:
    """A machine on which a setup takes a second, all that it installs being simulated."""
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    for real in ("mount", "mountpoint", "umount"):
        (pod.root / "usr/local/bin" / real).unlink()
    return pod


def test_setup_learns_the_key_registers_the_pod_and_the_pod_works(pi: Pi, quick: OpensshPod) -> None:
    result = pi(*setup(quick), "--models-path", "/srv/models")
    assert result.code == 0, result.err
    assert result.out.startswith("ready pod `dc1`: 2x NVIDIA H100 80GB HBM3, vLLM 0.32.0, models on /srv/models (")
    assert pods_json()["active"] == "dc1"
    assert pods_json()["pods"]["dc1"]["ssh"] == quick.ssh
    modes = quick.check("stat -c %a ~/.pi ~/.pi/env ~/.pi/remote ~/.pi/remote/pod_setup.sh").split()
    assert modes == ["700", "600", "700", "600"]

    pid = start(pi)
    assert "/root/venv/bin" in " ".join(each.environ["PATH"] for each in living(quick) if each.pid == pid)
    assert (quick.root / "srv/models/huggingface/hub/models--Qwen--Qwen3-8B/refs/main").exists()
    assert pi("stop", "q").code == 0
    assert living(quick) == []

    again = pi(*setup(quick))
    assert again.code == 0, again.err
    assert again.err.count(": skipped, ") >= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("step", STEPS)
def test_leaving_setup_in_a_step_ends_all_it_started_and_the_next_one_continues(
    pi: Pi, quick: OpensshPod, step: str, number: signal.Signals
) -> None:
    """Fault 77."""
    program, condition = STEPS[step]
    quick.install("mount-models", '#!/bin/bash\nexec mount "$@"\n')
    mend = work_for_ever(quick, program, condition)
    words = [*setup(quick), "--mount", "mount-models -t tmpfs none /mnt/models"]
    with at_work(quick, *words) as setting_up:
        setting_up.send_signal(number)
        assert seconds_until_end(setting_up) < 5
        assert setting_up.returncode == (130 if number == signal.SIGINT else -number)
        assert setting_up.stderr
        assert "Traceback" not in setting_up.stderr.read()
    nothing_lives(quick, seconds=5)
    assert pi("pods", "--json").json == []
    assert not Path(os.environ["PI_CONFIG_DIR"], "pods.json").exists()
    mend()
    again = pi(*words)
    assert again.code == 0, again.err
    assert living(quick) == []


def test_a_setup_that_waits_for_another_one_can_be_left_too(quick: OpensshPod) -> None:
    """Fault 77."""
    work_for_ever(quick, "uv", "true")
    with at_work(quick, *setup(quick)) as first:
        with pi_at("waiting for another setup of this machine", *setup(quick)) as second:
            second.send_signal(signal.SIGINT)
            assert seconds_until_end(second) < 5
            assert second.returncode == 130
        until(lambda: not [each for each in living(quick) if "flock" in each.args], seconds=5)
        assert is_at_work(quick), "the first one goes on"
        first.send_signal(signal.SIGINT)
        assert seconds_until_end(first) < 5
    nothing_lives(quick, seconds=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_sudo_started_for_a_user_ends_too(quick: OpensshPod, number: signal.Signals) -> None:
    """Faults 77 and 82: sudo gives it another user, another session, and none of our variables."""
    (quick.root / "usr/local/bin/apt-get").unlink()
    (quick.root / "usr/local/bin/sudo").unlink()
    quick.check("apt-get update && apt-get install -y --no-install-recommends sudo", timeout=300)
    quick.check("useradd -m -s /bin/bash ubuntu && echo 'ubuntu ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ubuntu")
    quick.check("echo 'Defaults use_pty' >> /etc/sudoers.d/ubuntu; cp -r ~/.ssh ~/.demo ~ubuntu/")
    quick.check("chown -R ubuntu: ~ubuntu")
    quick.install("apt-get", f"#!/bin/bash\nif [ $(id -u) = 0 ]; then {WORK}; fi\n")
    ssh = quick.ssh.replace("root@", "ubuntu@")
    with pi_at(AT_WORK, "pods", "setup", "dc1", ssh, "-v") as setting_up:
        assert [each for each in living(quick) if each.args[:1] == ["sudo"]]
        setting_up.send_signal(number)
        assert seconds_until_end(setting_up) < 5
    nothing_lives(quick, seconds=8)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_step_that_ignores_term_is_killed(machine: OpensshPod, number: signal.Signals) -> None:
    """Fault 77."""
    machine.install("apt-get", STUBBORN_APT)
    with pi_at(AT_WORK, *setup(machine), "-v") as setting_up:
        setting_up.send_signal(number)
        assert seconds_until_end(setting_up) < 5
        assert setting_up.returncode == 128 + number
    nothing_lives(machine, seconds=8)


def test_a_lost_session_ends_the_setup_too_and_names_the_command_that_continues(pi: Pi, machine: OpensshPod) -> None:
    with pi_at(AT_WORK, *setup(machine), "-v") as setting_up:
        machine.check("pkill -KILL -f '^sshd: root@notty'")
        assert seconds_until_end(setting_up) < 5
        assert setting_up.returncode == 3
        assert setting_up.stderr
        said = setting_up.stderr.read()
    assert "error: cannot reach pod `dc1`: the connection was lost" in said
    assert f"continue it with `pi pods setup dc1 '{machine.ssh}'`" in said
    nothing_lives(machine, seconds=5)
    assert pi("pods", "--json").json == []


def test_a_failing_step_is_named_and_the_pod_is_not_registered(pi: Pi, machine: OpensshPod) -> None:
    """Fault 78."""
    machine.install("apt-get", "#!/bin/sh\necho 'E: You have held broken packages.' >&2\nexit 100\n")
    result = pi(*setup(machine))
    assert result.code == 1
    assert "\n  E: You have held broken packages.\n" in result.err
    assert "error: setup of `dc1` failed: cannot install " in result.err
    assert pi("pods", "--json").json == []
    assert living(machine) == []


def test_a_full_disk_at_the_very_start_is_reported(pi: Pi, machine: OpensshPod) -> None:
    machine.check("mount -t tmpfs -o size=4k none /root && cd /root && mkdir .ssh")
    machine.check("head -c 3000 /dev/zero > /root/full; mkdir -p /root/.pi 2> /dev/null; true")
    machine.check("echo AuthorizedKeysFile /etc/keys >> /etc/ssh/sshd_config.d/50-keys.conf")
    (machine.root / "etc/keys").write_text(machine.key.with_suffix(".pub").read_text())
    machine.restart_sshd()
    result = pi(*setup(machine))
    assert result.code == 1
    assert "error: setup of `dc1` failed: cannot store the setup script in /root/.pi: " in result.err
    assert "No space left on device" in result.err


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
