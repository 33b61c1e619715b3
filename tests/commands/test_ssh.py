"""`pi ssh`: the ssh command that it runs, and its exit code and output."""

import json
import os
import pwd
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests import executables
from tests.conftest import Pi, pods_json

SSH = shutil.which("ssh")
pytestmark = pytest.mark.skipif(SSH is None, reason="needs the OpenSSH client")

# Prints its arguments; `ssh -G` is passed to the real ssh.
RECORDER = f"""#!/bin/sh
[ "$1" = -G ] && exec {SSH} "$@"
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
exit 255
"""
OF_THIS_HOME = ["-F", "none"]  # $HOME is not the account's home here, and has no configuration
SAFE = [
    "-a", "-k", "-x", "-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no", "-o", "VerifyHostKeyDNS=no",
    "-o", "HostKeyAlias=dc1", "-o", 'UserKnownHostsFile="{config}/known_hosts"', "-o", "ControlPath=none",
    "-o", "RemoteCommand=none",
]  # fmt: skip
Called = Callable[..., list[str]]


def register(ssh: str, *others: str, known: str = "dc1", **more: object) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir(exist_ok=True)
    pod = {"ssh": ssh, "gpus": [], "models": {}} | more
    state = {"pods": dict.fromkeys(["dc1", *others], pod), "active": "dc1"}
    (folder / "pods.json").write_text(json.dumps(state))
    (folder / "known_hosts").write_text("".join(f"{name} ssh-ed25519 AAAA\n" for name in known.split()))


@pytest.fixture
def called(pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Called:
    """Run `pi ssh` with a recorder as `ssh`, and return the arguments after those that make it safe."""
    recorder = tmp_path / "bin/ssh"
    executables.put(recorder, RECORDER)
    monkeypatch.setenv("PATH", f"{recorder.parent}:{os.environ['PATH']}")

    def call(*words: str) -> list[str]:
        result = pi("ssh", *words)
        assert result.code == 255, result.err
        argv: list[str] = result.json
        argv = argv[2:] if argv[:2] == OF_THIS_HOME else argv
        safe = [word.format(config=os.environ["PI_CONFIG_DIR"]) for word in SAFE]
        assert argv[: len(safe)] == safe
        return argv[len(safe) :]

    return call


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        ("ssh root@1.2.3.4 -p 40022", ["-p", "40022", "-l", "root", "1.2.3.4"]),
        ("root@1.2.3.4 -p 1234", ["-p", "1234", "-l", "root", "1.2.3.4"]),
        ("ssh ssh://root@[::1]:2222", ["-p", "2222", "-l", "root", "::1"]),
        ("ssh.exe 'root'@h -i '/my key'", ["-l", "root", "-i", "/my key", "h"]),  # ssh warns that it is not there
        ("ssh -F /dev/null -J a@b,c h", ["-F", "/dev/null", "-o", "ProxyJump a@b,c", "h"]),
        ("ssh -o ConnectTimeout=60 h", ["-o", "ConnectTimeout 60", "h"]),
        ("ssh -A -N -tt -L 1:h:2 -o StrictHostKeyChecking=no -o ForwardAgent=yes -S sock h", ["h"]),
        ("ssh -o RequestTTY=no -o RemoteCommand=none -o UserKnownHostsFile=/dev/null h", ["h"]),
    ],
)
def test_it_takes_the_route_of_pi_and_opens_a_shell(called: Called, ssh: str, words: list[str]) -> None:
    """Security checks 14 and 15."""
    register(ssh)
    assert called("dc1") == ["-o", "RequestTTY=auto", *words]


@pytest.mark.parametrize(
    ("words", "remote"),
    [
        (["dc1"], []),
        (["dc1", "exit 7"], ["exit 7"]),
        (["exit 7"], ["exit 7"]),
        (["dc1", "nvidia-smi", "-L"], ["nvidia-smi -L"]),
        (["nvidia-smi", "-L"], ["nvidia-smi -L"]),
        (["dc1", "--", "ls", "-la"], ["ls -la"]),
        (["--", "ls", "-la"], ["ls -la"]),
        (["dc1", "mkdir", "-p", "a b"], ["mkdir -p 'a b'"]),
        (["--pod", "dc1", "ls", "-h", "--help", "--pod", "--"], ["ls -h --help --pod --"]),
        (["dc1", "echo", "dc1", "$HOME", "*"], ["echo dc1 '$HOME' '*'"]),
    ],
)
def test_everything_after_the_pod_belongs_to_the_command(called: Called, words: list[str], remote: list[str]) -> None:
    register("ssh h")
    assert called(*words) == ["-o", "RequestTTY=auto", "h", *remote]


def test_a_word_that_is_almost_the_name_of_a_pod_is_not_run_on_the_active_one(pi: Pi) -> None:
    register("ssh h", "lab-3")
    for word, meant in (("lab", "lab-3"), ("lab3", "lab-3"), ("dc11", "dc1")):
        result = pi("ssh", word, "ls")
        assert (result.code, result.out) == (2, "")
        told = f"hint: did you mean `{meant}`? To run it on `dc1`: `pi ssh --pod dc1 {word} ls`"
        assert result.err.splitlines() == [f"error: there is no pod `{word}`", told]


@pytest.mark.parametrize("command", ["ls", "nvidia-smi", "gpu-burn", "./lab", "lab 3"])
def test_what_may_be_a_command_runs_on_the_active_pod(called: Called, command: str) -> None:
    register("ssh h", "lab-3", "l", "nvidia-sm", "lsx")
    assert called(command) == ["-o", "RequestTTY=auto", "h", command]


def test_a_command_gets_a_terminal_on_request(called: Called) -> None:
    register("ssh h")
    assert called("-t", "dc1", "htop") == ["-t", "h", "htop"]


def test_the_connect_timeout_of_a_pod_is_passed_to_ssh(called: Called) -> None:
    register("ssh h", connect_timeout=90)
    assert called("dc1")[2:] == ["-o", "ConnectTimeout 90", "h"]
    register("ssh -o ConnectTimeout=60 h", connect_timeout=90)
    assert called("dc1")[2:] == ["-o", "ConnectTimeout 60", "h"]


def test_jump_hosts_are_verified_with_the_keys_that_setup_learned(called: Called) -> None:
    register("ssh -F /dev/null -J a@b,c:2222 h", known="dc1 dc1/b")
    [option, *_] = called("dc1")[3:]
    known = f"""-o 'UserKnownHostsFile="{os.environ["PI_CONFIG_DIR"]}/known_hosts"'"""
    strict = "ssh -a -k -x -F /dev/null -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o VerifyHostKeyDNS=no"
    me = pwd.getpwuid(os.getuid()).pw_name
    first = f"{strict} -o HostKeyAlias=dc1/b {known} -o ControlPath=none -p 22 -l a -W '[c]:2222' b"
    second = f"{strict} -o ControlPath=none -o {{proxy}} -p 2222 -l {me} -W '[h]:22' c"
    assert option == "ProxyCommand=" + second.format(proxy=shlex.quote(f"ProxyCommand={first}"))


def test_an_option_in_place_of_the_command_is_refused(pi: Pi) -> None:
    register("ssh h")
    for words in (["dc1", "--help"], ["dc1", "--", "-la"], ["--", "-la"]):
        result = pi("ssh", *words)
        assert result.code == 2
        assert f"`{words[-1]}` is not a command" in result.err
    assert "`pi ssh` has no option `-L`" in pi("ssh", "-L", "1:h:2", "dc1").err


def test_an_invalid_ssh_command_is_shown_with_the_part_at_fault_marked(pi: Pi) -> None:
    register("ssh root@h; reboot")
    result = pi("ssh", "dc1")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: cannot use this ssh command: `;` begins a second command\n"
        "  ssh root@h; reboot\n"
        "            ^^^^^^^^\n"
        "hint: paste the ssh command alone\n"
    )


def test_a_missing_pinned_key_is_reported_as_the_reason(pi: Pi, pod: EmbeddedPod) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "known_hosts").unlink()
    result = pi("ssh", "dc1", "true")
    assert result.code == 255
    assert f"learn it with `pi pods setup dc1 '{pods_json()['pods']['dc1']['ssh']}'`" in result.err
    assert "Host key verification failed." in result.err
    assert pod.commands == []


def test_a_missing_ssh_client_is_reported(pi: Pi, tmp_path: Path) -> None:
    register("ssh -F none h")
    result = pi("ssh", "dc1", PATH=str(tmp_path))
    assert result.code == 1
    assert "cannot run ssh for pod `dc1`: No such file or directory" in result.err


def test_exit_code_stdin_and_output_are_passed_on(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("ssh", "dc1", "cat; echo no >&2; exit 7", input="yes\n")
    assert (result.code, result.out, result.err) == (7, "yes\n", "no\n")
    assert pi("ssh", "dc1", "--", "ls", "-d", "-1", "/").out == "/\n"
    assert pod.commands
