"""Logging in to an embedded pod: time-outs, passphrases, and servers that are not SSH servers."""

import asyncio
import os
import socket
import threading
import time
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import BadUsage, PiError, PodUnreachable
from pi_cli.pods import fleet
from pi_cli.ssh import login
from pi_cli.ssh.passphrases import Keyring, keyring
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Pod
from tests.ssh.keys import lock


def greet(ssh: str, *, name: str = "dc1", learn: bool = True, connect_timeout: float | None = None) -> str:
    """Log in, and return the output of `echo hello` on the pod."""

    async def log_in() -> str:
        async with login.connect(name, ssh, learn=learn, connect_timeout=connect_timeout) as session:
            return (await session.run("echo hello")).stdout.decode().strip()

    return asyncio.run(log_in())


@contextmanager
def server(greeting: bytes | None) -> Iterator[int]:
    """Accept connections on a port, send a greeting and close; with None, send nothing and stay open."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = []

        def serve() -> None:
            with suppress(OSError):  # the socket was shut down
                while True:
                    connection, _ = listening.accept()
                    connections.append(connection)
                    if greeting is not None:
                        connection.sendall(greeting)
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def test_a_command_on_a_connection_that_is_lost_is_not_called_refused(pod: EmbeddedPod) -> None:
    async def lose_it() -> None:
        async with login.connect("dc1", pod.ssh, learn=True) as session:
            session._connection.abort()
            await session.run("echo hello")

    with pytest.raises(PodUnreachable, match=r"the connection was lost$"):
        asyncio.run(lose_it())


def test_the_connect_timeout_is_the_first_that_is_set(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 3: the environment, the ssh command, the pod's own, the configuration."""
    config = environment / ".ssh/config"
    config.parent.mkdir()
    config.write_text("Host *\n  ConnectTimeout 1\n")
    with server(None) as port:

        def seconds(ssh: str, connect_timeout: float | None = None) -> str:
            with pytest.raises(PodUnreachable, match="sent no SSH banner") as raised:
                greet(ssh, connect_timeout=connect_timeout)
            return str(raised.value).partition("within ")[2]

        ssh = f"ssh -p {port} me@127.0.0.1"
        assert seconds(ssh) == "1 s"
        assert seconds(ssh, connect_timeout=0.2) == "0.2 s"
        assert seconds(f"{ssh} -o ConnectTimeout=2", connect_timeout=0.2) == "2 s"
        monkeypatch.setenv("PI_CONNECT_TIMEOUT", "0.1")
        assert seconds(f"{ssh} -o ConnectTimeout=2", connect_timeout=0.2) == "0.1 s"


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_connect_timeout_that_is_not_a_positive_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PI_CONNECT_TIMEOUT", value)
    with pytest.raises(BadUsage, match=f"PI_CONNECT_TIMEOUT is `{value}`, which is not a number of seconds"):
        greet("ssh me@127.0.0.1")


def test_an_unknown_host_name_is_reported() -> None:
    with pytest.raises(PodUnreachable, match=r"there is no host `nowhere.invalid` "):
        greet("ssh me@nowhere.invalid")


def test_a_closed_port_is_reported() -> None:
    """Fault 1."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PodUnreachable, match=f"`127.0.0.1` port {port} refused the connection: no SSH server answers"):
        greet(f"ssh -p {port} me@127.0.0.1")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b"Not allowed at this time\r\n", "accepts no more logins for now (it sent `Not allowed at this time`)"),
        (b"Exceeded MaxStartups\r\n", "accepts no more logins for now (it sent `Exceeded MaxStartups`)"),
        (b"220 mail.example.com ESMTP\x1b[2J\r\n", "is not an SSH server: it sent `220 mail.example.com ESMTP`"),
        (b"", "closed the connection before the login was complete"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "closed the connection before the login was complete"),
    ],
    ids=["penalty", "MaxStartups", "mail", "nothing", "banner"],
)
def test_a_server_that_closes_the_connection_is_tried_again_and_then_quoted(greeting: bytes, message: str) -> None:
    """Faults 4, 7 and 19."""
    with server(greeting) as port, pytest.raises(PodUnreachable) as raised:
        greet(f"ssh -p {port} me@127.0.0.1")
    assert message in str(raised.value)


@pytest.mark.parametrize("user", ["root", "abc-64411"])
def test_runpods_proxy_is_refused_with_a_hint_at_the_right_command(user: str) -> None:
    """Fault 13."""
    with pytest.raises(PodUnreachable, match="RunPod's basic proxy, which runs no commands") as raised:
        greet(f"ssh {user}@ssh.runpod.io -i ~/.ssh/id_ed25519")
    assert 'under "SSH over exposed TCP"' in str(raised.value.hint)


def test_a_passphrase_is_asked_once_however_many_pods_need_the_key(environment: Path) -> None:
    """Fault 11."""
    prompts = []

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "secret"

    async def use(session: PodSession) -> None:
        await session.run("true")

    async def log_in_to_all(pods: dict[str, Pod]) -> dict[str, PiError]:
        keyring.set(Keyring(ask=ask))
        return await fleet.on_each(pods, use)

    with EmbeddedPod() as machine:
        lock(machine, "secret")
        known = environment / ".ssh/known_hosts"
        known.parent.mkdir()
        known.write_text(f"[127.0.0.1]:{machine.port} {machine.host_key}\n")
        assert asyncio.run(log_in_to_all({f"dc{number}": Pod(machine.ssh) for number in range(5)})) == {}
        assert prompts == [f"Passphrase for {machine.key}: "]


def test_without_a_terminal_there_is_no_prompt() -> None:
    """Fault 11, security check 16."""
    with EmbeddedPod() as machine:
        lock(machine, "secret")
        started = time.monotonic()
        with pytest.raises(PodUnreachable, match=f"`{machine.key}` needs its passphrase") as raised:
            greet(machine.ssh)
        assert time.monotonic() - started < 15
        assert f"`ssh-add {machine.key}`" in str(raised.value.hint)


def test_a_fido2_key_that_is_not_in_the_agent_is_named(environment: Path) -> None:
    def string(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    public = string(b"sk-ssh-ed25519@openssh.com") + string(os.urandom(32)) + string(b"ssh:")
    body = b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"") + b"\0\0\0\1" + string(public)
    key = environment / "id_ed25519_sk"
    key.touch(mode=0o600)
    text = encodebytes(body + string(b"what the device needs")).decode()
    key.write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n")
    with EmbeddedPod() as machine, pytest.raises(PodUnreachable) as raised:
        greet(f"ssh -p {machine.port} -i {key} root@127.0.0.1")
    assert f"`{key}`: pi uses FIDO2 keys through the agent only (`ssh-add {key}`)" in str(raised.value)


def test_keys_on_a_hardware_token_are_named(environment: Path) -> None:
    config = environment / ".ssh/config"
    config.parent.mkdir()
    config.write_text("Host *\n  PKCS11Provider /usr/lib/token.so\n")
    with EmbeddedPod() as machine, pytest.raises(PodUnreachable) as raised:
        greet(f"ssh -p {machine.port} root@127.0.0.1")
    assert "PKCS11Provider: pi uses such keys through the agent only (`ssh-add -s /usr/lib/token.so`)" in str(
        raised.value
    )


def test_without_an_ssh_client_the_command_alone_counts(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPod() as machine:
        monkeypatch.setenv("PATH", str(environment))
        assert greet(machine.ssh) == "hello"
        (environment / ".ssh").mkdir()
        (environment / ".ssh/config").write_text("Host *\n")
        with pytest.raises(PiError, match="no ssh client is installed to read") as raised:
            greet(machine.ssh)
        assert raised.value.hint == "install the OpenSSH client"


def test_a_long_connect_timeout_does_not_delay_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONNECT_TIMEOUT", "60")
    with EmbeddedPod() as machine:
        assert greet(machine.ssh) == "hello"
