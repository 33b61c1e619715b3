"""What pi remembers of servers for early logins, and when it does not try one."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.ssh import early, early_facts, early_plan, host_keys, login
from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.first import First
from pi_cli.ssh.keys import KeyOffer, Keys, _LockedKey
from pi_cli.ssh.one_login import Login
from tests.properties import PROPERTY

SERVER = Server(
    "dc1", "root@1.2.3.4:22", "SSH-2.0-OpenSSH_9.2p1", "0123", "curve25519-sha256", "SHA256:x", "ssh-ed25519"
)


def file() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "servers.json")


def test_what_is_known_of_a_server_is_kept_in_a_private_file() -> None:
    assert early_facts.read("dc1") is None
    early_facts.remember(SERVER)
    early_facts.remember(replace(SERVER, name="dc2"))
    early_facts.remember(replace(SERVER, version="SSH-2.0-OpenSSH_10.0"))
    assert early_facts.read("dc1") == replace(SERVER, version="SSH-2.0-OpenSSH_10.0")
    assert early_facts.read("dc2") == replace(SERVER, name="dc2")
    assert file().stat().st_mode & 0o777 == 0o600
    changed = file().stat().st_mtime_ns
    early_facts.remember(replace(SERVER, name="dc2"))
    assert file().stat().st_mtime_ns == changed


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "file"))
    early_facts.remember(SERVER)
    assert early_facts.read("dc1") is None


def test_a_removed_pod_is_forgotten_with_its_jump_hosts() -> None:
    for name in ("dc1", "dc1/jump", "dc10"):
        early_facts.remember(replace(SERVER, name=name))
    host_keys.forget("dc1")
    assert [early_facts.read(name) is None for name in ("dc1", "dc1/jump", "dc10")] == [True, True, False]


BROKEN = ["", "{", "null", "[1, null]", '[{"name": "dc1"}]', '[{"name": "dc1", "lost": "many"}]', "\0", "[" * 5000]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_nothing_remembered(text: str) -> None:
    file().parent.mkdir(exist_ok=True)
    file().write_text(text)
    assert early_facts.read("dc1") is None
    early_facts.remember(SERVER)
    assert early_facts.read("dc1") == SERVER


def test_two_logins_in_a_row_without_an_answer_are_enough() -> None:
    assert replace(SERVER, lost=1).may_be_asked
    assert not replace(SERVER, lost=2).may_be_asked
    assert not replace(SERVER, refused=True).may_be_asked


def offer_of(algorithm: bytes) -> KeyOffer:
    pair = SimpleNamespace(algorithm=algorithm, key_public_data=b"public")
    return KeyOffer("a key", cast("asyncssh.SSHKeyPair", pair))


def test_a_key_that_asks_a_person_is_never_used_ahead() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    locked = _LockedKey(Path("locked"), key.convert_to_public(), Keys(), cast("Any", None))
    assert KeyOffer("plain", asyncssh.load_keypairs(key)[0]).asks_nobody
    assert offer_of(b"ssh-ed25519-cert-v01@openssh.com").asks_nobody
    asking = [
        KeyOffer("encrypted, public half unknown", None),
        KeyOffer("encrypted", locked),
        *map(offer_of, (b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com")),
        offer_of(b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"),
        offer_of(b"ssh-rsa-cert-v01@openssh.com"),
    ]
    assert [offer.name for offer in asking if offer.asks_nobody] == []


def test_an_agent_that_takes_long_to_sign_has_asked_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    class AgentKey:
        async def sign_async(self, data: bytes) -> bytes:
            await asyncio.sleep(0)
            return b"signed " + data

    async def sign(limit: float) -> tuple[bytes, bool]:
        monkeypatch.setattr(early_plan, "PERSON", limit)
        watched = SimpleNamespace(has_asked=False)
        key: Any = early_plan.timed(cast("Login", watched), cast("asyncssh.SSHKeyPair", AgentKey()))
        return await key.sign_async(b"x"), watched.has_asked

    assert asyncio.run(sign(60)) == (b"signed x", False)
    assert asyncio.run(sign(-1)) == (b"signed x", True)


def test_this_asyncssh_has_what_an_early_login_needs() -> None:
    early.missing.cache_clear()
    assert early.missing() is None


@pytest.mark.parametrize("path", early.METHODS)
def test_each_part_of_asyncssh_is_missed(path: str) -> None:
    *way_there, name = path.split(".")
    owner: Any = asyncssh
    for part in way_there:
        owner = getattr(owner, part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, lambda *changed: changed)
        early.missing.cache_clear()
        assert early.missing() == path
    early.missing.cache_clear()


def kexinit(names: bytes) -> asyncssh.SSHClientConnection:
    payload = b"\x14" + b"c" * 16 + len(names).to_bytes(4, "big") + names
    connection = SimpleNamespace(_server_kexinit=payload)
    return cast("asyncssh.SSHClientConnection", connection)


def test_the_first_offered_key_exchange_that_the_server_has_is_agreed_on() -> None:
    ours = ["mlkem768x25519-sha256", "curve25519-sha256", "ecdh-sha2-nistp256"]
    assert early.agreed_key_exchange(kexinit(b"ecdh-sha2-nistp256,curve25519-sha256"), ours) == "curve25519-sha256"
    assert early.agreed_key_exchange(kexinit(b"other"), ours) == ""
    assert early.agreed_key_exchange(cast("asyncssh.SSHClientConnection", SimpleNamespace()), ours) == ""


@PROPERTY
@given(st.binary(max_size=60))
def test_no_list_of_a_server_is_an_error(payload: bytes) -> None:
    connection = SimpleNamespace(_server_kexinit=payload)
    assert early.agreed_key_exchange(cast("asyncssh.SSHClientConnection", connection), ["a"]) in ("", "a")


def test_a_server_that_ends_the_connection_costs_one_ordinary_login(
    pod: EmbeddedPod, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncssh's server does when a session is asked for before the login; here pi believes that it would not."""
    monkeypatch.setenv("PI_DEBUG", "1")
    monkeypatch.setattr(early_plan, "OPENSSH", "SSH-2.0-AsyncSSH")

    def echoed() -> str:
        async def visit() -> str:
            printed = bytearray()
            async with login.connect("dc1", pod.ssh, at_once=True) as session:
                await session.logged_in(First("head -c 5", b"hello"))
                await session.stream("head -c 5", printed.extend, input=b"hello")
            return printed.decode()

        capsys.readouterr()
        return asyncio.run(visit())

    assert echoed() == "hello"
    known = early_facts.read("dc1")
    assert known is not None
    assert known.may_be_asked
    assert echoed() == "hello"
    assert "did not grant an early login" in capsys.readouterr().err
    known = early_facts.read("dc1")
    assert known is not None
    assert not known.may_be_asked
    assert echoed() == "hello"
    assert "did not grant" not in capsys.readouterr().err
