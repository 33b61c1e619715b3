"""Logins that fail, are limited, or end in an unusual shell: pi logs in, or reports the reason."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import (
    MODEL,
    QUICK,
    TOOLS,
    begin,
    ended,
    living,
    pods_file,
    register_way,
    start,
    way_to,
)
from tests.openssh.conftest import Prepare
from tests.until import until

TERMINAL_ONLY = """echo "Error: Your SSH client doesn't support PTY"; exit 1"""  # RunPod's proxy, verbatim
KINDS = ("ed25519", "ecdsa", "rsa")  # of host keys
PENALTY = b"Not allowed at this time\r\n"  # OpenSSH 9.8 and newer, to an address with PerSourcePenalties
HOSTILE_ENVIRONMENT = """\
BASH_ENV=/root/.noise
PYTHONHOME=/nowhere
PYTHONPATH=/nowhere
PYTHONSTARTUP=/nowhere
PYTHONDONTWRITEBYTECODE=
LS_OPTIONS=--color=always
"""
HOSTILE_BASHRC = """
echo Welcome; printf '\\033[1mno newline'; echo oops >&2
for word in ls cat rm mkdir cd sh bash python3 env setsid command; do alias "$word=echo no $word"; done
shopt -s expand_aliases
set -o noclobber
umask 077
builtin cd /
export CDPATH=/tmp GREP_OPTIONS=-v POSIXLY_CORRECT=1
"""


def write_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def add_to_known_hosts(pod: OpensshPod, home: Path) -> None:
    """Add a pod's key to the user's own `known_hosts`."""
    (home / ".ssh").mkdir(exist_ok=True)
    key = (pod.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    with (home / ".ssh/known_hosts").open("a") as file:
        file.write(f"{pod.address} {key}")


def test_two_sessions_and_three_logins_at_a_time_are_enough_for_many_commands_at_once(pod: OpensshPod) -> None:
    """Fault 7."""
    pod.sshd_config(MaxSessions=2, MaxStartups=3)
    pod.restart_sshd()
    names = ("a", "b", "c", "d")
    shared = (*QUICK, "--gpu-memory-utilization", "0.4")  # two on each GPU
    starts = [ended(process) for process in [begin("start", MODEL, "--name", name, *shared) for name in names]]
    assert [result.code for result in starts] == [0] * 4, starts
    stops = [ended(process) for process in [begin("stop", name) for name in names]]
    assert [result.out for result in stops] == [f"stopped `{name}` on `dc1`\n" for name in names], stops
    assert living(pod) == []
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_a_changed_host_key_stops_prompts_and_shells_before_the_login(pi: Pi, pod: OpensshPod) -> None:
    """Fault 8; `test_setup.py` has the other commands."""
    start(pi, own=(*QUICK, *TOOLS))
    before = pods_file().read_bytes()
    pod.new_host_key()
    log = pod.root / "var/log/sshd.log"
    accepted = log.read_text().count("Accepted")
    asked = pi("prompt", "q", "What is 2+2?")
    assert asked.code == 3
    assert "its host key changed" in asked.err
    assert pi("ssh", "dc1", "true").code == 255
    assert log.read_text().count("Accepted") == accepted
    assert pods_file().read_bytes() == before


def test_the_first_login_shows_the_key_and_pins_it_even_if_setup_fails(pi: Pi, openssh_pod: OpensshPod) -> None:
    """Fault 9: the machine has no GPU, so the pod is not registered."""
    pod = openssh_pod
    first = pi("pods", "setup", "dc1", pod.ssh)
    assert first.code == 1
    assert any(pod.fingerprint(kind) in first.err for kind in KINDS), first.err
    pod.new_host_key()
    again = pi("pods", "setup", "dc1", pod.ssh)
    assert again.code == 3
    assert "its host key changed" in again.err
    assert not pods_file().exists()


def test_accepting_the_key_of_a_recreated_machine_affects_only_this_pod(pi: Pi, prepare: Prepare) -> None:
    """Fault 10."""
    pod, other = prepare("dc1"), prepare("dc2")
    for name in ("dc1", "dc2"):
        start(pi, pod=name)
    known_hosts = pods_file().with_name("known_hosts")
    [others_key] = [line for line in known_hosts.read_text().splitlines() if line.startswith("dc2 ")]
    others_models = pods_json()["pods"]["dc2"]
    pod.check(f"kill -KILL {' '.join(str(process.pid) for process in living(pod))}; rm -r ~/.pi ~/.vllm_logs")
    pod.new_host_key()
    prepared.simulate_installers(pod)
    accepted = pi("pods", "setup", "dc1", pod.ssh, "--accept-new-host-key")
    assert accepted.code == 0, accepted.err
    assert any(pod.fingerprint(kind) in accepted.err for kind in KINDS), accepted.err
    assert pi("list", "--pod", "dc1", "--json").json == []
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert others_key in known_hosts.read_text().splitlines()
    assert pods_json()["pods"]["dc2"] == others_models
    assert [model["status"] for model in pi("list", "--pod", "dc2", "--json").json] == ["ready"]
    assert living(other)


def test_a_key_that_cannot_be_unlocked_is_reported_in_time_and_without_a_prompt(
    pod: OpensshPod, tmp_path: Path
) -> None:
    """Fault 11, security check 16: without a terminal there is no prompt."""
    other, locked = write_key(tmp_path / "other"), tmp_path / "locked"
    shutil.copy(pod.key, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked], check=True)
    keys = {"other": other, "missing": tmp_path / "missing", "locked": locked, "none": None}
    for name, key in keys.items():
        register_way(pod, name, f"ssh {f'-i {key} ' if key else ''}root@{pod.address}")
    before = pods_file().read_bytes()
    started = time.monotonic()
    attempts = {name: begin("list", "--pod", name) for name in keys}
    results = {name: ended(attempt, timeout=15) for name, attempt in attempts.items()}
    assert time.monotonic() - started < 15
    assert {result.code for result in results.values()} == {3}, results
    for name, result in results.items():
        assert f"cannot reach pod `{name}`" in result.err
        assert result.out == ""
    assert "missing" in results["missing"].err.partition("cannot reach pod")[2].replace("`missing`", "", 1)
    assert str(locked) in results["locked"].err
    assert "assphrase" in results["locked"].err
    assert pods_file().read_bytes() == before


@pytest.fixture
def agent_with_many_keys(pod: OpensshPod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh agent that holds more keys than sshd lets a client try; the pod's key is the last one."""
    socket = tmp_path / "agent"
    keys = [write_key(tmp_path / f"key-{number}") for number in range(8)]
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            until(socket.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", *keys, pod.key], check=True)
            yield
        finally:
            agent.terminate()


@pytest.mark.usefixtures("agent_with_many_keys")
def test_a_named_key_is_tried_first_however_many_the_agent_has(pi: Pi, pod: OpensshPod) -> None:
    """Fault 11."""
    assert pi("list").code == 0
    register_way(pod, "unnamed", f"ssh root@{pod.address}")
    refused = pi("list", "--pod", "unnamed")
    assert refused.code == 3
    assert "cannot reach pod `unnamed`" in refused.err


def test_every_form_that_users_paste_reaches_the_machine(
    pi: Pi, prepare: Prepare, environment: Path, tmp_path: Path
) -> None:
    """Fault 12."""
    jump, pod = prepare("jump"), prepare("dc1")
    pod.sshd_config(Port=2222)
    pod.restart_sshd()
    with_blank = tmp_path / "my key"
    shutil.copy(pod.key, with_blank)
    shutil.copy(pod.key, environment / "key")
    add_to_known_hosts(jump, environment)
    host, key = pod.address, shlex.quote(str(pod.key))
    (environment / ".ssh/config").write_text(
        f"Host lab\n  HostName {host}\n  Port 2222\n  User root\n  IdentityFile {key}\n"
        f"Host jump\n  HostName {jump.address}\n  User root\n  IdentityFile {jump.key}\n"
    )
    pasted = {
        "plain": f"ssh -p 2222 -i {key} root@{host}",
        "glued": f"ssh root@{host} -p2222 -i{key}",
        "without-ssh": f"root@{host} -p 2222 -i {key}",
        "options": f'ssh -o Port=2222 -o "IdentityFile {key}" -l root {host}',
        "quoted": f'ssh -i "{with_blank}" -p 2222 root@{host}',
        "variable": f"ssh -i $HOME/key -p 2222 root@{host}",
        "uri": f"ssh -i {key} ssh://root@{host}:2222",
        "alias": "ssh lab",
        "ignored": f"ssh -p 2222 -i {key} -L 8080:localhost:8080 -A -N root@{host}",
        "jump": f"ssh -J jump -p 2222 -i {key} root@{host}",
        "proxy": f"ssh -o 'ProxyCommand=ssh -F {environment}/.ssh/config -o UserKnownHostsFile={environment}/.ssh/"
        f"known_hosts -W %h:%p jump' -p 2222 -i {key} root@{host}",
    }
    for name, ssh in pasted.items():
        register_way(pod, name, ssh)
    register_way(pod, "dc1", pod.ssh)
    start(pi, pod="dc1")
    pods = [word for name in pasted for word in ("--pod", name)]
    result = pi("list", "--json", *pods)
    assert result.code == 0, result.err
    assert [model["pod"] for model in result.json] == list(pasted)
    assert {name: pods_json()["pods"][name]["ssh"] for name in pasted} == pasted


def test_a_proxy_that_runs_no_commands_is_detected_at_setup_by_any_name(pi: Pi, openssh_pod: OpensshPod) -> None:
    """Fault 13."""
    openssh_pod.sshd_config(ForceCommand=TERMINAL_ONLY)
    openssh_pod.restart_sshd()
    result = pi("pods", "setup", "dc1", openssh_pod.ssh)
    assert result.code in (1, 3)
    assert "Your SSH client doesn't support PTY" in result.err.partition("error: ")[2]
    assert not pods_file().exists()


def test_a_hostile_login_environment_changes_nothing(pi: Pi, prepare: Prepare) -> None:
    """Fault 14, for setup and for a model, whose Python the environment would break."""
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    (pod.home / ".bashrc").write_text(HOSTILE_BASHRC)
    (pod.home / ".noise").write_text("echo noise; alias cd=false\n")
    with (pod.root / "etc/environment").open("a") as variables:
        variables.write(HOSTILE_ENVIRONMENT)
    plain_ssh = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", *pod.ssh.split()[1:]]
    printed = subprocess.run([*plain_ssh, "env"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "Welcome" in printed.stdout
    result = pi("pods", "setup", "dc1", pod.ssh)
    assert result.code == 0, result.err
    assert "Checking the machine: Debian 12" in result.err  # although it came after half a line from the shell
    pod.check("sed -i --follow-symlinks '1a python3 -c pass || exit 9' ~/venv/bin/vllm")
    pid = start(pi)
    [model] = pi("list", "--json").json
    assert (model["status"], model["pid"]) == ("ready", pid)
    assert pi("logs", "q", "-n", "all", "--all-lines", "--no-follow").out == (pod.home / ".vllm_logs/q.log").read_text()
    assert pi("stop", "q").out == "stopped `q` on `dc1`\n"
    assert living(pod) == []


def test_a_restricted_shell_is_reported_as_the_reason(pi: Pi, pod: OpensshPod) -> None:
    """Fault 15."""
    pod.check("usermod --shell /bin/rbash root")
    before = pods_file().read_bytes()
    result = pi("list")
    assert result.code in (1, 3)
    assert "restricted" in result.err
    assert pods_file().read_bytes() == before


def test_a_login_is_retried_for_a_while_when_sshd_closes_the_connection(pod: OpensshPod) -> None:
    """Fault 19. Debian 12's OpenSSH does not have PerSourcePenalties yet: a relay simulates them."""
    with ExitStack() as stack:
        soon = stack.enter_context(way_to(pod, "soon", turned_away=3))
        never = stack.enter_context(way_to(pod, "never", turned_away=99, last_word=PENALTY))
        before = pods_file().read_bytes()
        attempts = [begin("list", "--pod", name) for name in ("soon", "never")]
        succeeded, failed = (ended(attempt, timeout=25) for attempt in attempts)
        assert succeeded.code == 0, succeeded.err
        assert soon.met == 4
        assert failed.code == 3
        assert "cannot reach pod `never`" in failed.err
        assert "accepts no more logins for now (it sent `Not allowed at this time`)" in failed.err
        assert never.met <= 8
        assert pods_file().read_bytes() == before
