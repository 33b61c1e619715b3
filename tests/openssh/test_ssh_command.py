"""`pi ssh` with real OpenSSH on both ends, and the forms in which an ssh command can be written."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pi_cli.ssh import host_keys
from tests.conftest import Pi, Result
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.openssh.at_work import register_way
from tests.openssh.conftest import register
from tests.openssh.session import learn
from tests.until import until

CARELESS_CONFIG = """Host *
  ForwardAgent yes
  ForwardX11 yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  UpdateHostKeys yes
  RequestTTY force
  RemoteCommand tmux
  ControlMaster auto
  ControlPath {folder}/%C
"""


@pytest.fixture
def machine(openssh_pod: OpensshPod) -> OpensshPod:
    """A bare pod, registered."""
    register(openssh_pod)
    return openssh_pod


def forms(pod: OpensshPod) -> dict[str, str]:
    """Return many forms of the ssh command for one machine."""
    host, port = pod.address, pod.port
    return {
        "as given": pod.ssh,
        "without the word ssh": f"root@{host} -p {port} -i {pod.key}",
        "a URI": f"ssh ssh://root@{host}:{port} -i {pod.key}",
        "quotes": f"""ssh -p '{port}' -i "{pod.key}" 'root'@"{host}" """,
        "options as keywords": f"ssh -oUser=root -o 'Port {port}' -o IdentityFile={pod.key} -o Hostname={host} dc1",
        "a variable": f"ssh -i $PI_TEST_KEY root@{host}:{port}",
        "a blank in the path": f"ssh -i '{pod.key} copy' root@{host} -p {port}",
        "copied from a page": f"```sh\n$ ssh –p {port} \\\n  -i “{pod.key}” root@{host}\n```",
        "careless": f"ssh -A -tt -N -L 1:h:2 -o StrictHostKeyChecking=no -o ForwardAgent=yes -i {pod.key} root@{host}",
        "patient": f"ssh -4 -C -o ConnectTimeout=60 -o IdentitiesOnly=yes -i {pod.key} root@{host}",
        "a proxy command that needs a shell": (
            f"""ssh -i {pod.key} -o 'ProxyCommand=bash -c "exec 3<>/dev/tcp/%h/%p; cat <&3 & exec cat >&3" | cat' """
            f"root@{host}"
        ),
    }


def test_every_form_of_the_command_leads_pi_and_ssh_to_the_machine(
    pi: Pi, pod: OpensshPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_TEST_KEY", str(pod.key))
    shutil.copy(pod.key, f"{pod.key} copy")
    for number, (name, ssh) in enumerate(forms(pod).items()):
        register_way(pod, f"form{number}", ssh)
        listed = pi("list", "--pod", f"form{number}")
        assert listed.code == 0, (name, listed.err)
        remote = pi("ssh", f"form{number}", "hostname; tty")
        assert (remote.code, remote.out) == (1, "dc1\nnot a tty\n"), (name, remote.err)


def test_exit_codes_arguments_and_streams_arrive_unchanged(pi: Pi, machine: OpensshPod) -> None:
    assert pi("ssh", "dc1", "exit 7").code == 7
    assert pi("ssh", "dc1", "kill -9 $$").code == 255
    assert "total" in pi("ssh", "dc1", "--", "ls", "-la").out
    assert pi("ssh", "dc1", "printf", "%s|", "-p", "a b", "$HOME", "*").out == "-p|a b|$HOME|*|"
    assert pi("ssh", "cat; echo no >&2", input="yes\n") == Result(0, "yes\n", "no\n")
    machine.stop_sshd()
    refused = pi("ssh", "dc1", "true")
    assert (refused.code, "refused" in refused.err) == (255, True)


def test_the_command_stops_when_its_reader_exits(machine: OpensshPod) -> None:
    line = f"{sys.executable} -m pi_cli ssh dc1 yes | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "y\n"
    until(lambda: not [process for process in machine.processes() if process.args == ["yes"]])


@contextmanager
def on_terminal(*words: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run `pi ssh` on a terminal of its own, and yield the process and the other end of the terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pi_cli", "ssh", *words],
        stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    with process:
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, expected: bytes) -> bytes:
    output = b""
    while expected not in output:
        output += os.read(terminal, 4096)
    return output


def test_a_shell_gets_the_terminal(machine: OpensshPod) -> None:
    with on_terminal() as (process, terminal):
        os.write(terminal, b"stty -echo; echo $((6*7)) $(hostname) $(tty) $-\n")
        output = read_until(terminal, b"42 dc1 /dev/pts/")
        os.write(terminal, b"sleep 1000\n")
        until(lambda: sleeping(machine))
        os.write(terminal, b"\x03")  # it is for the remote command, not for ssh
        until(lambda: not sleeping(machine))
        os.write(terminal, b"exit 3\n")
        assert process.wait(30) == 3, output


def sleeping(machine: OpensshPod) -> bool:
    return any(process.args == ["sleep", "1000"] for process in machine.processes())


@pytest.mark.usefixtures("machine")
def test_a_command_gets_a_terminal_on_request() -> None:
    with on_terminal("-t", "dc1", "test -t 1 && echo yes; exit 4") as (process, terminal):
        assert b"yes" in read_until(terminal, b"yes")
        assert process.wait(30) == 4


@pytest.fixture
def careless(environment: Path, machine: OpensshPod, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An ssh command of a user who forwards an agent to every host and trusts every host."""
    (environment / ".ssh").mkdir()
    config = environment / ".ssh/config"
    config.write_text(CARELESS_CONFIG.format(folder=environment))
    socket = environment / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            until(socket.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", machine.key], check=True)
            monkeypatch.setenv("DISPLAY", "127.0.0.1:9")
            yield f"ssh -F {config} -AX -o StrictHostKeyChecking=no -o ForwardAgent=yes root@{machine.address}"
        finally:
            agent.terminate()


def test_nothing_is_forwarded_and_no_unknown_host_trusted_whatever_the_users_configuration(
    pi: Pi, machine: OpensshPod, careless: str
) -> None:
    """Security checks 14 and 15."""
    machine.sshd_config(AllowAgentForwarding="yes", X11Forwarding="yes")
    machine.restart_sshd()
    plain = "-o RemoteCommand=none -o RequestTTY=no -o ControlPath=none env"
    argv = [*careless.split(), *plain.split()]
    sent = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "SSH_AUTH_SOCK=" in sent  # as configured

    register_way(machine, "careless", careless)
    remote = pi("ssh", "careless", "env; ls /tmp; tty")
    assert remote.code == 1
    assert "not a tty" in remote.out
    assert "SSH_AUTH_SOCK" not in remote.out
    assert "DISPLAY" not in remote.out
    before = Path(os.environ["PI_CONFIG_DIR"], "known_hosts").read_text()

    machine.new_host_key()
    changed = pi("ssh", "careless", "touch /root/was-here")
    assert (changed.code, changed.out) == (255, "")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in changed.err
    assert not (machine.home / "was-here").exists()
    assert Path(os.environ["PI_CONFIG_DIR"], "known_hosts").read_text() == before


def test_the_pinned_key_of_a_pod_with_capital_letters_in_its_name_is_found(pi: Pi, machine: OpensshPod) -> None:
    register_way(machine, "DC-1.Big", machine.ssh)
    assert pi("ssh", "DC-1.Big", "hostname").out == "dc1\n"


def public_key(host: OpensshPod) -> str:
    return " ".join((host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])


def test_jump_hosts_that_only_pi_has_pinned_are_verified_too(pi: Pi, openssh_lab: OpensshLab) -> None:
    """Fault 12."""
    with openssh_lab.pod("dc1") as pod, openssh_lab.pod("inner") as inner, openssh_lab.pod("outer") as outer:
        config = Path(os.environ["HOME"], "cfg")
        config.write_text(
            "".join(
                f"Host {host.name}\n  HostName {host.address}\n  User root\n  IdentityFile {host.key}\n"
                for host in (pod, inner, outer)
            )
        )
        ssh = f"ssh -F {config} -J outer,inner dc1"
        register(pod)
        learn(pod, ssh)
        register_way(pod, "far", ssh)
        for host in (inner, outer):
            assert host_keys.read(f"dc1/{host.address}") == public_key(host)
            host_keys.remember(f"far/{host.address}", public_key(host))
        assert pi("ssh", "far", "hostname").out == "dc1\n"

        for host in (inner, outer):
            host.new_host_key()
            changed = pi("ssh", "far", "touch /root/was-here")
            assert changed.code == 255
            assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in changed.err
            assert not (pod.home / "was-here").exists()
            host_keys.remember(f"far/{host.address}", public_key(host))
            assert pi("ssh", "far", "hostname").out == "dc1\n"


def test_an_invalid_ssh_command_is_shown_with_the_part_at_fault_marked_before_any_connection(
    pi: Pi, machine: OpensshPod
) -> None:
    for words in (["pods", "setup", "dc2", f"{machine.ssh} && reboot"], ["pods", "setup", "dc2", f"{machine.ssh} ls"]):
        refused = pi(*words)
        assert refused.code == 2
        assert refused.out == ""
        first, command, mark, hint = refused.err.splitlines()
        assert first.startswith("error: cannot use this ssh command: ")
        at_fault = words[3].removeprefix(machine.ssh).strip()
        assert command.endswith(f"@{machine.address} {at_fault}")  # a command too wide for the screen loses its start
        assert mark == "^".rjust(command.index(at_fault) + 1) + "^" * (len(at_fault) - 1)
        assert hint.startswith("hint: ")
    assert host_keys.read("dc2") is None
