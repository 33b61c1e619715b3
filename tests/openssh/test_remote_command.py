"""`pi ssh POD COMMAND` over pi's own login: it is what `ssh POD COMMAND` is, and runs a command once."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pi_cli.ssh import early_facts
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.lab.relay import Relay
from tests.openssh.at_work import begin, ended, living, register_way, session_of_sshd
from tests.openssh.conftest import register
from tests.openssh.session import learn
from tests.until import until

OVER_PIS_LOGIN = "was sent with the login"


@pytest.fixture
def known(openssh_pod: OpensshPod) -> OpensshPod:
    """A pod that pi has logged in to before."""
    register(openssh_pod)
    learn(openssh_pod)
    return openssh_pod


def begun(*words: str, stdin: int | None = None, stdout: int | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "pi_cli", "ssh", *words], stdin=stdin, stdout=stdout)


def run(*words: str, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "pi_cli", "ssh", *words], input=input, capture_output=True, check=False, timeout=60
    )


@pytest.fixture
def debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_DEBUG", "1")


@pytest.mark.usefixtures("known")
def test_streams_and_the_exit_code_are_those_of_the_command() -> None:
    done = run("dc1", "cat; echo no >&2; exit 7", input=b"\x00\xff\r\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"\x00\xff\r\n", b"no\n")
    assert run("dc1", "true").returncode == 0
    assert run("dc1", "kill -9 $$").returncode == 255
    assert run("dc1", "echo", "a  b", "$HOME").stdout == b"a  b $HOME\n"
    assert run("dc1", b"echo \xff".decode("utf-8", "surrogateescape")).stdout == b"\xff\n"


@pytest.mark.usefixtures("known")
def test_many_bytes_pass_both_ways() -> None:
    sent = os.urandom(5_000_000)
    assert run("cat", input=sent).stdout == sent
    assert run("head -c 5; echo; exec 0<&-; sleep 0.1", input=sent).stdout == sent[:5] + b"\n"


@pytest.mark.usefixtures("known", "debugging")
def test_it_travels_with_the_login(pi: Pi) -> None:
    assert OVER_PIS_LOGIN in pi("ssh", "dc1", "true").err


@pytest.mark.usefixtures("debugging")
@pytest.mark.parametrize(
    "option",
    ["LocalForward 127.0.0.1:{port} 127.0.0.1:22", "ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"],
    ids=["a forward", "a proxy command"],
)
def test_what_only_ssh_does_is_left_to_it(pi: Pi, known: OpensshPod, environment: Path, option: str) -> None:
    assert known.name == "dc1"
    (environment / ".ssh").mkdir(exist_ok=True)
    (environment / ".ssh/config").write_text(f"Host *\n  {option.format(port=18_322)}\n")
    done = pi("ssh", "dc1", "echo $((6*7))")
    assert (done.code, done.out) == (0, "42\n")
    assert OVER_PIS_LOGIN not in done.err


@pytest.mark.usefixtures("debugging")
def test_a_server_that_grants_no_early_login_gets_the_command_once(pi: Pi, known: OpensshPod) -> None:
    """Its algorithms have changed, then the key: ssh logs in, with what it says."""
    known.sshd_config(KexAlgorithms="ecdh-sha2-nistp256,diffie-hellman-group16-sha512")
    known.restart_sshd()
    done = pi("ssh", "dc1", "echo x >> ran; echo done")
    assert (done.code, done.out) == (0, "done\n")
    assert (known.home / "ran").read_text() == "x\n"
    (known.home / ".ssh/authorized_keys").write_text("")
    refused = pi("ssh", "dc1", "echo x >> ran")
    assert refused.code == 255
    assert "Permission denied" in refused.err
    assert (known.home / "ran").read_text() == "x\n"


def test_a_changed_host_key_sends_nothing(pi: Pi, known: OpensshPod) -> None:
    known.new_host_key()
    refused = pi("ssh", "dc1", "touch ran")
    assert (refused.code, refused.out) == (255, "")
    assert "its host key changed" in refused.err
    assert not (known.home / "ran").exists()


def test_variables_are_those_that_ssh_sends(
    pi: Pi, known: OpensshPod, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.sshd_config(AcceptEnv="LC_* GIVEN")
    known.restart_sshd()
    (environment / ".ssh").mkdir(exist_ok=True)
    (environment / ".ssh/config").write_text("Host *\n  SendEnv LC_*\n  SetEnv GIVEN=a,b\n")
    monkeypatch.setenv("LC_PI", "x y")
    assert pi("ssh", "dc1", "echo $LC_PI $GIVEN").out == "x y a,b\n"


def test_a_command_that_may_have_run_is_not_run_again(pi: Pi, known: OpensshPod) -> None:
    """The connection is lost at a moment around the answer."""
    ran = known.home / "ran"
    seen = []
    with Relay(known.address, known.port) as way:
        register_way(known, "far", f"ssh -i {known.key} -p {way.port} root@127.0.0.1")
        assert "has no python3" in pi("pods", "--check").err  # but pi has logged in
        before = way.carried
        assert pi("ssh", "far", "echo x >> ran").code == 0
        whole = way.carried - before
        for left in range(0, 1600, 100):
            known_server = early_facts.read("far")
            assert known_server
            early_facts.remember(replace(known_server, lost=0))
            ran.unlink(missing_ok=True)
            way.cut_each_after(whole - left)
            done = pi("ssh", "far", "echo x >> ran")
            assert done.code in (0, 255), done.err
            lines = ran.read_text() if ran.exists() else ""
            assert lines in ("", "x\n"), left
            seen.append((done.code, lines, "the command may have run" in done.err))
    assert (255, "x\n", True) in seen, seen


def test_a_reader_that_waits_does_not_stop_the_connection(known: OpensshPod) -> None:
    """A pager: what is not read yet waits on the pod, and the connection is kept alive."""
    known.sshd_config(ClientAliveInterval=1, ClientAliveCountMax=2)
    known.restart_sshd()
    with begun("dc1", "head -c 9000000 /dev/zero", stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"\0"
        time.sleep(5)  # what is tested is that nothing happens
        assert len(process.stdout.read()) == 8_999_999
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_signal_ends_it_at_once_and_ends_stdin_on_the_pod(known: OpensshPod, number: signal.Signals) -> None:
    with begun("dc1", "touch began; cat; touch ended", stdin=subprocess.PIPE) as process:
        until((known.home / "began").exists)
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    until((known.home / "ended").exists)
    until(lambda: living(known) == [])


@pytest.mark.usefixtures("known")
def test_a_reader_that_leaves_ends_it() -> None:
    with begun("dc1", "yes", stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(20) == 1


def test_a_lost_connection_is_an_error_of_ssh(known: OpensshPod) -> None:
    process = begin("ssh", "dc1", "touch began; sleep 600")
    until((known.home / "began").exists)
    known.check(f"kill -KILL {session_of_sshd(known).pid}")
    done = ended(process)
    assert (done.code, done.out) == (255, "")
    assert "error: cannot reach pod `dc1`: the connection was lost" in done.err
