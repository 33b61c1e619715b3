"""Logins that ask a known sshd for everything at once, and every way in which it can answer otherwise."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from pi_cli.errors import HostKeyChanged, PiError
from pi_cli.ssh import early, early_facts, login
from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.first import First
from tests.conftest import Pi
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.openssh.at_work import living, start
from tests.openssh.conftest import Prepare
from tests.openssh.session import learn, said
from tests.until import until

ECHO = 'head -c 5; echo " from $HOSTNAME"; exit 3'


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what pi has noted for debugging since the last call."""
    monkeypatch.setenv("PI_DEBUG", "1")
    return lambda: capsys.readouterr().err


Notes = Callable[[], str]


def run(ssh: str, command: str = ECHO, *, input: bytes = b"hello") -> tuple[int, str]:
    """Run a command that travels with the login, if that is possible, and return its status and what it printed."""

    async def visit() -> tuple[int, str]:
        printed = bytearray()
        async with login.connect("dc1", ssh, at_once=True) as session:
            await session.logged_in(First(command, input))
            done = await session.stream(command, printed.extend, input=input)
        return done.status, printed.decode()

    return asyncio.run(visit())


def known(name: str = "dc1") -> Server:
    server = early_facts.read(name)
    assert server
    return server


def was_early(text: str) -> bool:
    """Return whether the notes are those of a login whose command was granted with it."""
    return "with the login" in text and "step by step" not in text


def error_of(ssh: str) -> str:
    with pytest.raises(PiError) as raised:
        run(ssh)
    return f"{raised.value}\n{raised.value.hint}"


@pytest.fixture
def way(openssh_pod: OpensshPod) -> OpensshPod:
    """A pod that pi has met before: its host key is pinned, and its server known."""
    learn(openssh_pod)
    assert known().may_be_asked
    return openssh_pod


def test_a_known_server_is_asked_for_everything_at_once(way: OpensshPod, notes: Notes) -> None:
    way.sshd_config(LogLevel="DEBUG1")
    way.restart_sshd()
    notes()
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert was_early(notes())
    log = (way.root / "var/log/sshd.log").read_text()
    assert "method none" not in log
    assert "Postponed publickey" not in log
    facts = Path(os.environ["PI_CONFIG_DIR"], "servers.json")
    assert facts.stat().st_mode & 0o777 == 0o600
    assert run(way.ssh, "true") == (0, "")
    assert run(way.ssh, "head -c 60001 | wc -c", input=b"x" * 60001) == (0, "60001\n")


def test_what_was_not_asked_for_in_time_is_asked_for_afterwards(way: OpensshPod, notes: Notes) -> None:
    notes()
    assert said(way.ssh, learn=False) == "root"
    assert "step by step" not in notes()
    assert run(way.ssh, "echo $((6*7))", input=b"") == (0, "42\n")


def test_the_key_that_was_accepted_goes_first(way: OpensshPod, tmp_path: Path, notes: Notes) -> None:
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
    way.sshd_config(MaxAuthTries=2)
    way.restart_sshd()
    ssh = way.ssh.replace("ssh -i", f"ssh -i {wrong} -i")
    assert run(ssh) == (3, "hello from dc1\n")
    notes()
    way.sshd_config(MaxAuthTries=1)
    way.restart_sshd()
    assert run(ssh) == (3, "hello from dc1\n")  # an ordinary login would have used up the only try
    assert was_early(notes())


@pytest.mark.parametrize("change", ["the key is removed", "no public keys", "another shell for errors"])
def test_an_error_is_that_of_an_ordinary_login(way: OpensshPod, change: str) -> None:
    match change:
        case "the key is removed":
            (way.home / ".ssh/authorized_keys").write_text("")
        case "no public keys":
            way.sshd_config(PubkeyAuthentication="no", PasswordAuthentication="yes")
        case _:
            way.sshd_config(MaxSessions=0)
    way.restart_sshd()
    early_error = error_of(way.ssh)
    Path(os.environ["PI_CONFIG_DIR"], "servers.json").unlink()
    assert early_error == error_of(way.ssh)


def test_a_changed_host_key_is_refused_before_anything_is_asked(way: OpensshPod) -> None:
    before = way.fingerprint()
    way.sshd_config(LogLevel="DEBUG1")
    way.new_host_key()
    with pytest.raises(HostKeyChanged) as raised:
        run(way.ssh)
    assert f"changed (known {before}, now {way.fingerprint()}" in str(raised.value)
    assert "userauth-request" not in (way.root / "var/log/sshd.log").read_text()
    assert known().may_be_asked


def test_a_removed_key_costs_one_ordinary_login_with_another(way: OpensshPod, tmp_path: Path, notes: Notes) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    (way.home / ".ssh/authorized_keys").write_text(Path(f"{other}.pub").read_text())
    ssh = way.ssh.replace("ssh -i", f"ssh -i {other} -i")
    notes()
    assert run(ssh) == (3, "hello from dc1\n")
    assert "it did not accept the key" in notes()
    assert run(ssh) == (3, "hello from dc1\n")
    assert was_early(notes())


def test_a_server_that_refuses_is_remembered_for_its_version(way: OpensshPod, notes: Notes) -> None:
    """A server that grants no session closes the connection when it is asked for a command in it."""
    way.sshd_config(MaxSessions=0)
    way.restart_sshd()
    assert "it refused a session" in error_of(way.ssh)
    assert known().refused
    way.sshd_config()
    way.restart_sshd()
    notes()
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert not was_early(notes())
    early_facts.remember(replace(known(), version="SSH-2.0-OpenSSH_1.0"))
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert known().may_be_asked  # it has another version now
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert was_early(notes())


def test_other_algorithms_cost_one_ordinary_login(way: OpensshPod, notes: Notes) -> None:
    before = known().key_exchange
    way.sshd_config(KexAlgorithms="ecdh-sha2-nistp256,diffie-hellman-group16-sha512")
    way.restart_sshd()
    notes()
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert not was_early(notes())
    assert known().key_exchange == "ecdh-sha2-nistp256" != before
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert was_early(notes())
    assert run(f"{way.ssh} -o Ciphers=aes256-ctr") == (3, "hello from dc1\n")  # the user's own choice has changed
    assert not was_early(notes())
    assert run(f"{way.ssh} -o Ciphers=aes256-ctr") == (3, "hello from dc1\n")
    assert was_early(notes())


def test_a_better_key_exchange_is_used_from_then_on(way: OpensshPod) -> None:
    """What was agreed on last time is not kept for ever: the server's list, which the host key signs, is compared."""
    best = known().key_exchange
    early_facts.remember(replace(known(), key_exchange="ecdh-sha2-nistp256"))
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert known().key_exchange == best


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_every_kind_of_key_signs_ahead(openssh_pod: OpensshPod, tmp_path: Path, kind: str, notes: Notes) -> None:
    key = tmp_path / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    (openssh_pod.home / ".ssh/authorized_keys").write_text(Path(f"{key}.pub").read_text())
    ssh = f"ssh -i {key} root@{openssh_pod.address}"
    learn(openssh_pod, ssh)
    notes()
    assert run(ssh) == (3, "hello from dc1\n")
    assert was_early(notes())


def test_keys_are_exchanged_again_and_again(way: OpensshPod, notes: Notes) -> None:
    way.sshd_config(RekeyLimit="64K")
    way.restart_sshd()
    notes()
    status, printed = run(way.ssh, "head -c 5; head -c 400000 /dev/zero | tr '\\0' x")
    assert (status, len(printed)) == (0, 400005)
    assert was_early(notes())


def test_a_forced_command_runs_in_place_of_the_first_one(way: OpensshPod, notes: Notes) -> None:
    way.sshd_config(ForceCommand="echo forced; head -c 5")
    way.restart_sshd()
    notes()
    assert run(way.ssh) == (0, "forced\nhello")
    assert was_early(notes())


def test_every_hop_is_asked_at_once(openssh_lab: OpensshLab, environment: Path, notes: Notes) -> None:
    with ExitStack() as stack:
        pod, jump = (stack.enter_context(openssh_lab.pod(name)) for name in ("dc1", "jump"))
        (environment / ".ssh").mkdir()
        (environment / ".ssh/config").write_text(
            f"Host jump\n  HostName {jump.address}\n  User root\n  IdentityFile {jump.key}\n"
        )
        ssh = f"{pod.ssh} -J jump"
        learn(pod, ssh)
        notes()
        assert run(ssh) == (3, "hello from dc1\n")
        assert was_early(notes())
        jump.sshd_config(AllowTcpForwarding="no")
        jump.restart_sshd()
        early_error = error_of(ssh)
        Path(os.environ["PI_CONFIG_DIR"], "servers.json").unlink()
        assert early_error == error_of(ssh)


def test_another_server_at_the_address_costs_no_login_more(way: OpensshPod, notes: Notes) -> None:
    """asyncssh's server, as in `pi demo`, with the same host key; it closes a connection that asks too early."""
    way.stop_sshd()
    key = (way.root / "etc/ssh/ssh_host_ed25519_key").read_text()
    public = Path(f"{way.key}.pub").read_text()

    async def answer(process: Any) -> None:
        process.stdout.write(f"{await process.stdin.read(5)} from asyncssh\n")
        process.exit(3)

    async def visit() -> tuple[int, str]:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.import_private_key(key)],
            authorized_client_keys=asyncssh.import_authorized_keys(public),
            process_factory=answer,
        )
        async with server:
            ssh = f"ssh -i {way.key} -p {server.get_port()} root@127.0.0.1"
            early_facts.remember(replace(known(), address=f"root@127.0.0.1:{server.get_port()}"))
            printed = bytearray()
            async with login.connect("dc1", ssh, at_once=True) as session:
                await session.logged_in(First("command", b"hello"))
                done = await session.stream("command", printed.extend, input=b"hello")
        return done.status, printed.decode()

    notes()
    assert asyncio.run(visit()) == (3, "hello from asyncssh\n")
    assert not was_early(notes())
    assert known().key == ""


def test_ctrl_c_leaves_nothing_on_the_pod(way: OpensshPod) -> None:
    """The command has travelled with the login, and ends with its stdin."""

    async def leave() -> None:
        async with login.connect("dc1", way.ssh, at_once=True) as session:
            await session.logged_in(First("cat > /root/seen; echo >> /root/ended", b"hello"))
            await asyncio.sleep(3600)

    async def visit() -> None:
        leaving = asyncio.create_task(leave())
        await asyncio.to_thread(until, lambda: seen.exists() and seen.read_text() == "hello")
        leaving.cancel()
        await asyncio.wait([leaving])

    seen, ended = way.home / "seen", way.home / "ended"
    asyncio.run(visit())
    until(ended.exists)
    until(lambda: living(way) == [])


def test_ctrl_c_at_any_moment_of_the_login_leaves_nothing(way: OpensshPod) -> None:
    async def visit(steps: int) -> bool:
        async def leave() -> None:
            async with login.connect("dc1", way.ssh, at_once=True) as session:
                await session.logged_in(First("exec cat", b"hello"))

        leaving = asyncio.create_task(leave())
        for _ in range(steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.wait([leaving])
        return leaving.cancelled()

    cancelled = [asyncio.run(visit(steps)) for steps in (0, 2, 5, 10, 20, 30, 40, 60, 90)]
    assert cancelled[0]
    until(lambda: living(way) == [])


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"name": "dc1"}]', '[{"name": "dc1", "lost": "x"}]'])
def test_a_broken_file_is_nothing_remembered(way: OpensshPod, content: str, notes: Notes) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "servers.json").write_text(content)
    notes()
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert not was_early(notes())
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert was_early(notes())


def give_another_parameter(path: str, patch: pytest.MonkeyPatch) -> None:
    """Give a part of asyncssh one more parameter, which asyncssh itself does not use."""
    *way_there, name = path.split(".")
    owner: Any = asyncssh
    for part in way_there:
        owner = getattr(owner, part)
    plain = getattr(owner, name)

    def other(*args: Any, new: None = None, **options: Any) -> Any:
        del new
        return plain(*args, **options)

    patch.setattr(owner, name, other)


def test_without_a_part_of_asyncssh_the_login_is_the_ordinary_one(way: OpensshPod, notes: Notes) -> None:
    for path in early.METHODS:
        with pytest.MonkeyPatch.context() as patch:
            give_another_parameter(path, patch)
            early.missing.cache_clear()
            notes()
            assert run(way.ssh) == (3, "hello from dc1\n"), path
            noted = notes()
            assert not was_early(noted), path
            assert f"lacks {path}" in noted
    early.missing.cache_clear()
    for name in ("CONNECTION", "CHANNEL"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(early, name, (*getattr(early, name), "_new"))
            assert run(way.ssh) == (3, "hello from dc1\n")
            assert not was_early(notes())
    assert run(way.ssh) == (3, "hello from dc1\n")
    assert was_early(notes())


def test_a_command_of_pi_is_asked_at_once(pi: Pi, prepare: Prepare) -> None:
    """`pi list`, `pi logs` and `pi stop`, with their results."""
    pod = prepare()
    start(pi)
    assert [model["status"] for model in pi("list", "--json").json] == ["ready"]
    listed = pi("list", "--json")
    assert [model["status"] for model in listed.json] == ["ready"]
    assert was_early(listed.err)
    log = pi("logs", "q", "-n", "all", "--all-lines", "--no-follow")
    assert log.out == (pod.home / ".vllm_logs/q.log").read_text()
    assert was_early(log.err)
    stopped = pi("stop", "q")
    assert stopped.out == "stopped `q` on `dc1`\n"
    assert was_early(stopped.err)
    assert living(pod) == []
