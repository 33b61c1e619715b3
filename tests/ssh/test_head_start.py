"""A connection that begins before the login is loaded is used where it leads there, and changes nothing else."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pi_cli.ssh import early_facts, head_start, transport
from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.ssh_config import Destination
from pi_cli.ssh.transport import NoBanner

LOGIN = "pi_cli.ssh.login"


class Listener:
    """A server that counts who connects; port 0 is any free one."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def accepted(self) -> int:
        """Return how many have connected since the last time."""
        self.socket.setblocking(False)
        count = 0
        try:
            while True:
                self.socket.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count


@pytest.fixture
def server() -> Iterator[Listener]:
    listener = Listener()
    with closing(listener.socket):
        yield listener


@pytest.fixture(autouse=True)
def not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, LOGIN, raising=False)
    yield
    for pod in [*head_start._begun]:
        head_start._begun.pop(pod).socket.close()


def know(port: int, host: str = "127.0.0.1", **changes: object) -> None:
    known: dict[str, object] = {"key": "SHA256:x", "signature": "ssh-ed25519", **changes}
    early_facts.remember(Server("dc1", f"root@{host}:{port}", "OpenSSH_9.2", "offer", "curve25519-sha256", **known))  # type: ignore[arg-type]


def connect(port: int, **settings: tuple[str, ...]) -> None:
    async def open_and_close() -> None:
        destination = Destination("dc1", "127.0.0.1", port, "root", settings)
        async with transport.opened(destination, 5.0, head_start.take("dc1")) as opened:
            assert opened.socket.getpeername() == ("127.0.0.1", port)

    asyncio.run(open_and_close())


def test_the_login_uses_the_connection_that_is_there(server: Listener) -> None:
    know(server.port)
    head_start.begin("dc1")
    begun = head_start._begun["dc1"].socket
    connect(server.port)
    assert server.accepted() == 1
    assert begun.fileno() == -1


@pytest.mark.parametrize("settings", [{}, {"bindaddress": ("127.0.0.1",)}], ids=["elsewhere", "another source"])
def test_one_that_is_not_the_right_one_is_closed(server: Listener, settings: dict[str, tuple[str, ...]]) -> None:
    other = Listener()
    with closing(other.socket):
        know(server.port if settings else other.port)
        head_start.begin("dc1")
        begun = head_start._begun["dc1"].socket
        connect(server.port, **settings)
        assert begun.fileno() == -1
        assert server.accepted() + other.accepted() == 2


def test_one_that_has_waited_too_long_is_not_used(server: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    know(server.port)
    head_start.begin("dc1")
    monkeypatch.setattr(head_start, "MAX_AGE", 0.0)
    connect(server.port)
    assert server.accepted() == 2


def test_one_that_fails_gives_the_error_of_the_login(server: Listener) -> None:
    know(server.port)
    server.socket.close()
    head_start.begin("dc1")
    with pytest.raises(NoBanner, match="refused the connection: no SSH server answers there"):
        connect(server.port)


@pytest.mark.parametrize(
    "changes",
    [{"refused": True}, {"lost": early_facts.MAX_LOST}, {"key": ""}, {"host": "pod.example.org"}, {"host": "$(x)"}],
    ids=str,
)
def test_servers_that_pi_does_not_go_straight_to_are_not_touched(server: Listener, changes: dict[str, object]) -> None:
    know(server.port, **changes)  # type: ignore[arg-type]
    head_start.begin("dc1")
    assert head_start.take("dc1") is None


def test_nothing_begins_for_an_unknown_pod_or_beside_a_login_that_is_loaded(
    server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    head_start.begin("dc1")
    know(server.port)
    monkeypatch.setitem(sys.modules, LOGIN, sys)
    head_start.begin("dc1")
    assert head_start.take("dc1") is None


def test_only_a_few_begin() -> None:
    for number in range(20):
        early_facts.remember(
            Server(f"pod{number}", "root@127.0.0.1:9", "OpenSSH_9.2", "offer", "", "SHA256:x", "ssh-ed25519")
        )
        head_start.begin(f"pod{number}")
    assert len(head_start._begun) == head_start.MOST
