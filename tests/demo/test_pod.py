"""The embedded pod as a machine: how it behaves for an SSH client, and that it leaves nothing behind."""

import asyncio
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import asyncssh
import pytest

from pi_cli.demo import processes
from pi_cli.demo.pod import EmbeddedPod
from tests.demo.conftest import Shell, connect, ssh
from tests.until import until


def test_a_command_runs_under_bash_in_the_pods_own_home(machine: EmbeddedPod, shell: Shell) -> None:
    assert shell("pwd; echo $HOME; [[ -n $BASH_VERSION ]] && echo bash").text.split() == [
        *[str(machine.home)] * 2,
        "bash",
    ]
    assert list(machine.home.iterdir()) == [machine.home / ".demo"]


def test_the_callers_environment_is_not_passed_on(shell: Shell) -> None:
    assert "HF_TOKEN" in os.environ
    names = {line.partition("=")[0] for line in shell("env").text.splitlines()}
    own = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "SSH_CLIENT"}
    own |= {"PI_DEMO_ADDRESS", "PI_DEMO_CUDA", "PI_DEMO_POD", "PI_FIRST_PORT", "PI_FREE_DISK", "PI_MACHINE_ROOT"}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == own


def test_exit_status_stdout_and_stderr_are_separate(shell: Shell) -> None:
    outcome = shell("echo out; echo err >&2; exit 7")
    assert (outcome.status, outcome.out, outcome.err) == (7, b"out\n", b"err\n")


def test_a_death_by_signal_is_reported_as_a_signal(shell: Shell) -> None:
    assert shell("kill -TERM $$").signal == "TERM"


def test_bytes_are_unchanged_and_stdin_ends(shell: Shell) -> None:
    data = secrets.token_bytes(3_000_000)
    assert shell("cat", input=data).out == data


def test_unread_input_does_not_block_a_command(shell: Shell) -> None:
    assert shell("exec < /dev/null; seq 200000 | tail -n 1", input=bytes(1_000_000)).out == b"200000\n"


def test_a_signal_from_the_client_reaches_the_command(machine: EmbeddedPod) -> None:
    async def run() -> tuple[str | None, str]:
        async with connect(machine) as connection:
            process = await connection.create_process("trap 'echo caught; exit 3' TERM; echo up; sleep 60 & wait")
            assert await process.stdout.readline() == "up\n"
            process.terminate()
            return process.exit_signal and process.exit_signal[0], await process.stdout.readline()

    assert asyncio.run(run()) == (None, "caught\n")


def test_a_terminal_has_the_requested_size_and_controls_the_command(machine: EmbeddedPod) -> None:
    async def run() -> str:
        async with connect(machine) as connection:
            done = await connection.run(
                "stty size; tty < /dev/tty; echo $TERM", term_type="xterm", term_size=(101, 33), term_modes={}
            )
            return str(done.stdout)

    size, name, term = asyncio.run(run()).replace("\r", "").split("\n")[:3]
    assert (size, name, term) == ("33 101", "/dev/tty", "xterm")


def test_a_terminal_without_output_processing_leaves_bytes_unchanged(machine: EmbeddedPod) -> None:
    async def run() -> object:
        async with connect(machine) as connection:
            modes = {asyncssh.PTY_OPOST: 0}
            return (
                await connection.run("printf 'a\\nb\\n'", term_type="xterm", term_modes=modes, encoding=None)
            ).stdout

    assert asyncio.run(run()) == b"a\nb\n"


def test_closing_a_terminal_ends_the_command(machine: EmbeddedPod) -> None:
    async def run() -> None:
        async with connect(machine) as connection:
            process = await connection.create_process("echo up; exec sleep 1234", term_type="xterm")
            await process.stdout.readline()

    asyncio.run(run())
    until(lambda: not machine.processes())


def test_a_lost_connection_ends_stdin_but_not_the_command(machine: EmbeddedPod) -> None:
    """As with OpenSSH. This is why a command that has to stop with pi watches its stdin."""

    async def run() -> None:
        async with connect(machine) as connection:
            await connection.create_process("cat > /dev/null; touch ended; exec sleep 1234")
            connection.abort()

    asyncio.run(run())
    until((machine.home / "ended").exists)
    until(lambda: [process.command for process in machine.processes()] == [("sleep", "1234")])


def test_ports_on_the_pod_are_reached_through_the_connection(machine: EmbeddedPod) -> None:
    async def run() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with connect(machine) as connection:
                reader, writer = await connection.open_connection("127.0.0.1", listener.getsockname()[1], encoding=None)
                accepted, _ = await asyncio.to_thread(listener.accept)
                with accepted:
                    accepted.sendall(b"hello")
                received: bytes = await reader.read()
                writer.close()
                return received

    assert asyncio.run(run()) == b"hello"


def test_only_loopback_is_reached_through_the_connection(machine: EmbeddedPod) -> None:
    async def run() -> None:
        async with connect(machine) as connection:
            await connection.open_connection("192.0.2.1", 80)

    with pytest.raises(asyncssh.ChannelOpenError):
        asyncio.run(run())


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs the OpenSSH client")
def test_the_command_line_works_in_openssh(machine: EmbeddedPod, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{machine.port} {machine.host_key}\n")
    options = ["-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    command = [*shlex.split(machine.ssh), *options, "cat; exit 5"]
    done = subprocess.run(command, input=b"hello", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"hello", b"")


def test_an_unknown_key_is_refused(machine: EmbeddedPod) -> None:
    async def run() -> None:
        stranger = asyncssh.generate_private_key("ssh-ed25519")
        known = asyncssh.import_known_hosts(f"* {machine.host_key}")
        await asyncssh.connect(machine.address, machine.port, client_keys=[stranger], known_hosts=known, config=None)

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(run())


def test_a_recreated_machine_has_another_host_key(machine: EmbeddedPod, shell: Shell) -> None:
    before = machine.host_key
    assert shell("true").status == 0
    machine.new_host_key()
    assert machine.host_key != before
    assert shell("true").status == 0  # `connect` trusts the new key only


def test_the_commands_of_the_remote_shell_are_recorded(machine: EmbeddedPod, shell: Shell) -> None:
    shell("echo one")
    shell("cat > file", input=b"secret")
    assert machine.commands == ["echo one", "cat > file"]
    assert machine.files()["file"] == b"secret"


def test_an_installed_program_replaces_a_stub(machine: EmbeddedPod, shell: Shell) -> None:
    machine.install("nvidia-smi", "#!/bin/sh\necho broken\nexit 9\n")
    outcome = shell("nvidia-smi -L")
    assert (outcome.status, outcome.out) == (9, b"broken\n")


def test_processes_are_found_in_any_session(machine: EmbeddedPod, shell: Shell) -> None:
    shell("MARK=here setsid --fork sleep 4321 < /dev/null > /dev/null 2>&1")
    until(lambda: any(process.command == ("sleep", "4321") for process in machine.processes()))
    [process] = machine.processes()
    assert process.environ["MARK"] == "here"


def test_closing_leaves_no_process_thread_port_or_file() -> None:
    threads = threading.active_count()
    with EmbeddedPod() as pod:
        ignoring = "trap '' TERM HUP INT; echo up > ready; while :; do sleep 0.1; done"
        ssh(pod, f"setsid --fork bash -c {shlex.quote(ignoring)} < /dev/null > /dev/null 2>&1")
        until((pod.home / "ready").exists)
        folder = pod.key.parent
    assert pod.processes() == []
    assert not folder.exists()
    until(lambda: threading.active_count() == threads)
    with socket.socket() as probe:
        assert probe.connect_ex((pod.address, pod.port)) != 0


def test_an_exception_in_the_block_leaves_nothing_behind(tmp_path: Path) -> None:
    pod = EmbeddedPod(home=tmp_path / "given")
    with pytest.raises(ChildProcessError), pod:
        _fail_after(ssh(pod, "setsid --fork sleep 4321 < /dev/null > /dev/null 2>&1; touch kept"))
    assert pod.processes() == []
    assert (tmp_path / "given" / "kept").exists()
    assert not pod.key.parent.exists()


def _fail_after(_: object) -> None:
    raise ChildProcessError


def test_pods_are_independent_of_each_other() -> None:
    with EmbeddedPod("1x H100 80GB") as one, EmbeddedPod("none") as other:
        ssh(one, "touch mine; setsid --fork sleep 4321 < /dev/null > /dev/null 2>&1")
        assert ssh(other, "ls").out == b""
        assert other.processes() == []
        first_ports = {ssh(pod, "echo $PI_FIRST_PORT").text for pod in (one, other)}
        assert len(first_ports) == 2


OWNER = """
import sys
from pi_cli.demo.pod import EmbeddedPod
from tests.demo.conftest import ssh

pod = EmbeddedPod()
ssh(pod, "setsid --fork vllm serve m/m --port 0 --simulate slow=0.1 > log 2>&1 < /dev/null")
print(pod.key.parent, flush=True)
sys.stdin.read()
"""


def test_engines_exit_after_their_owner_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().decode().strip())
        log = folder / "home" / "log"
        until(lambda: log.exists() and "Application startup complete." in log.read_text())
        assert processes.marked("PI_DEMO_POD", str(folder))
        owner.kill()
    until(lambda: not processes.marked("PI_DEMO_POD", str(folder)))
    shutil.rmtree(folder)
