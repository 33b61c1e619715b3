"""What servers say during a login: shown after a while or with a failure, and obeyed where it asks for patience."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest

from pi_cli.errors import PodUnreachable
from pi_cli.ssh import login, login_failures, one_login, server_words
from pi_cli.ssh.server_words import ServerWords
from pi_cli.ssh.speaker import Speaker, speaker

CHECK = (
    "# Tailscale SSH requires an additional check.\n# To authenticate, visit: https://login.tailscale.com/a/1f2e3d\n"
)
BOOTING = (
    '"System is booting up. Unprivileged users are not permitted to log in yet. Please come back later. For technical '
    'details, see pam_nologin(8)."'
)
LEGAL = "Authorised use only.\x1b[2J See https://example.com/policy\n"


class Server(asyncssh.SSHServer):
    """Lets the test's key in after `check`, which may send banners."""

    def __init__(self, check: Callable[["Server"], Awaitable[bool]], greeting: str) -> None:
        self._check, self.greeting = check, greeting

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn

    def begin_auth(self, username: str) -> bool:
        del username
        if self.greeting:
            self.connection.send_auth_banner(self.greeting)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        del username, key
        return await self._check(self)


async def admit(server: Server) -> bool:
    del server
    return True


@pytest.fixture
def key(environment: Path) -> Path:
    path = environment / "key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    path.chmod(0o600)
    return path


def log_in(
    key: Path,
    check: Callable[[Server], Awaitable[bool]] = admit,
    *,
    greeting: str = "",
    option: str = "",
    on_waiting: Callable[[], None] = lambda: None,
) -> list[str]:
    """Log in to a server and return what was shown; an error has that as its note."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            on_waiting()

    async def visit() -> None:
        speaker.set(Speaker(say))
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        listening = asyncssh.listen(
            "127.0.0.1", 0, server_factory=lambda: Server(check, greeting), server_host_keys=[host_key]
        )
        async with listening as acceptor:
            ssh = f"ssh -i {key} -p {acceptor.get_port()} me@127.0.0.1 {option}"
            async with login.connect("dc1", ssh, learn=True):
                pass

    try:
        asyncio.run(visit())
    except PodUnreachable as error:
        error.__notes__ = said
        raise
    return said


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_words, "SHOWN_AFTER", 0.05)
    monkeypatch.setattr(one_login, "BOOT_PAUSE", 0.01)


def test_a_login_that_succeeds_quickly_shows_no_banner(key: Path) -> None:
    assert log_in(key, greeting=LEGAL) == []


@pytest.mark.usefixtures("quick")
def test_an_address_at_which_to_confirm_is_shown(key: Path) -> None:
    """Finding 8: Tailscale SSH's check mode."""

    async def confirmed_later(server: Server) -> bool:
        del server
        await asyncio.sleep(0.2)
        return True

    assert log_in(key, confirmed_later, greeting=CHECK) == [
        "dc1 says: # Tailscale SSH requires an additional check.",
        "dc1 says: # To authenticate, visit: https://login.tailscale.com/a/1f2e3d",
        "dc1: waiting for up to 5 min until you confirm at https://login.tailscale.com/a/1f2e3d (Ctrl+C stops pi)",
    ]


@pytest.mark.usefixtures("quick")
def test_a_login_that_is_never_confirmed_ends_after_a_time_of_its_own(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (one_login, login_failures):
        monkeypatch.setattr(module, "CONFIRMATION_TIMEOUT", 0.5)

    async def never(server: Server) -> bool:
        del server
        await asyncio.sleep(60)
        return True

    with pytest.raises(PodUnreachable, match="was not confirmed within") as raised:
        log_in(key, never, greeting=CHECK)
    assert "https://login.tailscale.com/a/1f2e3d" in str(raised.value.hint)


def test_a_failed_login_shows_the_banner_without_control_characters(key: Path) -> None:
    async def refuse(server: Server) -> bool:
        del server
        return False

    with pytest.raises(PodUnreachable, match="accepted none of the keys") as raised:
        log_in(key, refuse, greeting=LEGAL + "line\n" * 100)
    shown = raised.value.__notes__
    assert shown[0] == "dc1 says: Authorised use only. See https://example.com/policy"
    assert (len(shown), shown[-1]) == (21, "dc1 says: … (81 more lines)")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("text", [BOOTING, "The node is still joining the cluster."], ids=["systemd", "admin"])
def test_a_machine_that_lets_no_users_in_yet_is_waited_for(key: Path, text: str) -> None:
    """Finding 8: pam_nologin. OpenSSH sends its text after the key was accepted, and closes the connection."""
    attempts = []

    async def booted_at_the_third_attempt(server: Server) -> bool:
        attempts.append(server)
        if len(attempts) < 3:
            server.connection.send_auth_banner(text)
            await asyncio.sleep(0.05)
            server.connection.abort()
        return True

    said = log_in(key, booted_at_the_third_attempt)
    assert len(attempts) >= 3
    assert said == [
        f"dc1 says: {text}",
        "dc1: waiting for up to 120 s until it lets users log in (Ctrl+C stops pi)",
    ]


@pytest.mark.usefixtures("quick")
def test_a_machine_that_never_lets_users_in_is_given_up(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_login, "BOOT_TIMEOUT", 0.2)

    async def booting(server: Server) -> bool:
        server.connection.send_auth_banner(BOOTING)
        await asyncio.sleep(0.05)
        server.connection.abort()
        return True

    with pytest.raises(PodUnreachable, match=r"refused the login of `me`: it says `\"System is booting up") as raised:
        log_in(key, booting)
    assert "when the machine has booted" in str(raised.value.hint)


def test_an_account_that_stays_refused_is_not_waited_for(key: Path) -> None:
    async def expired(server: Server) -> bool:
        server.connection.send_auth_banner("Your account has expired; please contact your system administrator.")
        await asyncio.sleep(0.05)
        server.connection.abort()
        return True

    started = time.monotonic()
    with pytest.raises(PodUnreachable, match="it says `Your account has expired; please contact"):
        log_in(key, expired)
    assert time.monotonic() - started < one_login.BOOT_TIMEOUT / 4


@pytest.mark.usefixtures("quick")
def test_what_a_proxy_command_prints_with_an_address_is_shown(
    key: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cloudflared access ssh` prints an address when it cannot open a browser."""
    monkeypatch.setattr(one_login, "PROXY_INTERVAL", 0.05)
    confirmed = environment / "confirmed"
    proxy = (
        "bash -c 'echo Please open https://team.cloudflareaccess.com/x >&2; "
        f"until [ -e {confirmed} ]; do sleep 0.05; done; exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"
    )
    shown = log_in(key, option=f'-o "ProxyCommand={proxy}"', on_waiting=confirmed.touch)
    assert shown == [
        "dc1 says: Please open https://team.cloudflareaccess.com/x",
        "dc1: waiting for up to 5 min until you confirm at https://team.cloudflareaccess.com/x (Ctrl+C stops pi)",
    ]


def test_lines_before_the_ssh_banner_are_shown_with_a_failure(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 4253, 4.2."""
    monkeypatch.setattr(one_login, "LOGIN_PAUSES", ())
    said: list[str] = []

    async def visit() -> None:
        speaker.set(Speaker(said.append))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del reader
            writer.write(b"This gateway closes at \x1b]0;x\x0718:00.\r\nSSH-2.0-gate\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with login.connect("dc1", f"ssh -i {key} -p {port} me@127.0.0.1", learn=True):
                pass

    with pytest.raises(PodUnreachable, match="closed the connection before the login was complete"):
        asyncio.run(visit())
    assert said == ["dc1 says: This gateway closes at 18:00."]


def test_a_key_file_of_i_that_is_not_there_is_a_warning(key: Path) -> None:
    """Finding 9."""
    assert log_in(key, option="-i /missing") == [
        "dc1: identity file `/missing` is not accessible: continuing without it, as ssh does"
    ]


def test_words_with_an_address_beyond_the_limit_keep_it() -> None:
    async def lines() -> list[str]:
        said: list[str] = []
        speaker.set(Speaker(said.append))
        words = ServerWords("dc1")
        words.hear("\n".join(["words"] * 50 + ["visit https://login.example/x"] + ["x" * 9000]))
        words.show()
        words.show()
        return said

    shown = asyncio.run(lines())
    assert "dc1 says: visit https://login.example/x" in shown
    assert len(shown) == 22
