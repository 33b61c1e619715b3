"""Public ports are asked beside other work: what has answered by then counts and is kept; nothing waits for it."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from pi_cli.models import identity, public_ports
from pi_cli.models.identity import Identity
from pi_cli.models.public_ports import PublicPorts, Verdict
from pi_cli.store import port_verdicts, state
from pi_cli.store.port_verdicts import Place
from pi_cli.store.records import Model, Pod

UID = "0123456789abcdef0123456789abcdef"
KEY = identity.proof_key("sk-key", UID)

Work = Callable[[Place, Identity], Awaitable[None]]


@asynccontextmanager
async def served(*, key: bytes = KEY, heard: asyncio.Event | None = None) -> AsyncIterator[tuple[Place, Identity]]:
    """Run a server that proves to know a key, or says nothing when it has `heard`; `pods.json` has its model."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        nonce = request.split()[1].partition("nonce=")[2]
        proof = hmac.new(key, f"{nonce} {port}".encode(), "sha256").hexdigest()
        body = json.dumps({"proofs": [proof]})
        if heard:
            heard.set()
        else:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(answer(reader, writer)))

    connections: list[asyncio.Task[None]] = []
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with state.edit() as current:
            current.pods["dc1"] = Pod("ssh root@127.0.0.1", models={"q": Model("a/b", port, "0", 7, UID)})
        yield Place("dc1", "127.0.0.1", port, UID), Identity(port, {KEY})
    await asyncio.gather(*connections, return_exceptions=True)


async def looked(place: Place, expected: Identity) -> Verdict | None:
    """Look as `pi list` does whose pod answers after the port."""
    ports = PublicPorts()
    async with ports.asking({"dc1": state.load().pod("dc1")}):
        await asyncio.wait(ports._questions.values())
        verdict = ports.verdict(place, expected)
    ports.remember()
    return verdict


def test_what_answered_before_the_pod_did_counts_and_is_remembered() -> None:
    async def run() -> None:
        async with served() as (place, expected):
            assert await looked(place, expected) == Verdict(answers=True)
        later = PublicPorts()
        async with later.asking({}):  # nothing has answered this one
            known = later.verdict(place, expected)
        assert known is not None
        assert (known.answers, known.age > 0) == (True, True)

    asyncio.run(run())


def test_a_server_without_the_models_keys_does_not_answer_as_the_model() -> None:
    async def run() -> None:
        async with served(key=bytes(32)) as (place, expected):
            assert await looked(place, expected) == Verdict(answers=False)

    asyncio.run(run())


def test_a_port_that_says_nothing_is_not_known_and_not_waited_for() -> None:
    async def run() -> None:
        heard = asyncio.Event()
        async with served(heard=heard) as (place, expected):
            began, ports = time.monotonic(), PublicPorts()
            async with ports.asking({"dc1": state.load().pod("dc1")}):
                await heard.wait()
                assert ports.verdict(place, expected) is None
            ports.remember()
            assert time.monotonic() - began < identity.PROOF_TIMEOUT / 2
        assert port_verdicts.load() == []

    asyncio.run(run())


def test_what_is_remembered_never_stands_for_a_proof_now() -> None:
    """`pi env` exports a key towards the URL: the port may be another server's by now."""

    async def run() -> None:
        async with served() as (place, expected):
            assert await looked(place, expected) == Verdict(answers=True)
        ports = PublicPorts()
        async with ports.asking({}):
            assert not await ports.answers_now(place, expected), "nothing listens there any more"

    asyncio.run(run())


def test_a_challenge_that_is_under_way_is_the_proof_now() -> None:
    async def run() -> None:
        async with served() as (place, expected):
            ports = PublicPorts()
            async with ports.asking({"dc1": state.load().pod("dc1")}):
                assert await ports.answers_now(place, expected)

    asyncio.run(run())


def test_a_watched_port_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_ports, "RECHECK", 0.0)

    async def run() -> None:
        async with served() as (place, expected):
            ports = PublicPorts()
            async with ports.asking({"dc1": state.load().pod("dc1")}):
                assert await ports.answers_now(place, expected)
                ports.verdict(place, Identity(place.port, {bytes(32)}))
                async with asyncio.timeout(20):
                    while (now := ports.verdict(place, Identity(place.port, {bytes(32)}))) != Verdict(answers=False):
                        assert now == Verdict(answers=True)
                        await asyncio.sleep(0.005)

    asyncio.run(run())


def test_only_models_that_can_prove_themselves_in_public_have_a_place() -> None:
    model = Model("a/b", 8001, "0", 7, UID)
    assert public_ports.place_of("dc1", "1.2.3.4", model) == Place("dc1", "1.2.3.4", 8001, UID)
    by_hand, private = Model("a/b", 8001, "0", 7), Model("a/b", 8001, "0", 7, UID, {"private": True})
    assert [public_ports.place_of("dc1", "1.2.3.4", each) for each in (by_hand, private)] == [None, None]
