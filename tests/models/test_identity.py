"""A server is the model if it answers the challenge, and nothing else that it says makes it so."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from pi_cli.models import identity
from pi_cli.models.identity import Identity
from pi_cli.pods.reports import RunningModel

KEY = bytes(range(32))
PORT = 8001

Answer = Callable[[str], bytes]


def right(nonce: str, *, port: int = PORT, key: bytes = KEY) -> bytes:
    proof = hmac.new(key, f"{nonce} {port}".encode(), "sha256").hexdigest()
    return with_length(json.dumps({"proofs": ["00" * 32, proof]}).encode())


def with_length(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n") -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def asked(answer: Answer, *, timeout: float = 5.0) -> bool:
    """Challenge a server that answers in this way, a few bytes at a time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        data = answer(request.split()[1].partition("nonce=")[2])
        with suppress(ConnectionError):
            for start in range(0, len(data), 100):
                writer.write(data[start : start + 100])
                await asyncio.sleep(0)
            if not data.endswith(b"hang up"):
                await reader.read()
        writer.close()
        is_served.set()

    async def run() -> bool:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            proven = await identity.prove_at(url, Identity(PORT, {KEY, bytes(32)}), timeout=timeout)
            await is_served.wait()
            return proven

    is_served = asyncio.Event()

    return asyncio.run(run())


def test_the_model_is_recognised() -> None:
    assert asked(right)


@pytest.mark.parametrize(
    "answer",
    [
        lambda nonce: right(nonce, port=PORT + 1),
        lambda nonce: right(nonce, key=bytes(31) + b"x"),
        lambda nonce: right(nonce[::-1]),
        lambda nonce: right(nonce) + b"HTTP/1.1 200 OK",
        lambda nonce: right(nonce).replace(b"200 OK", b"401 Unauthorized"),
        lambda nonce: right(nonce).replace(b"Content-Length", b"Connection: close\r\nContent-Length"),
        lambda _: with_length(b"[]"),
        lambda _: with_length(b'{"proofs": [1, null, "zz"]}'),
        lambda _: with_length(b'{"proofs": {}}'),
        lambda _: with_length(b"[" * 5000),
        lambda _: with_length(b"\xff\xfe"),
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + bytes(100_000),
        lambda _: b"SSH-2.0-OpenSSH_9.2\r\nhang up",
        lambda _: b"hang up",
        lambda _: b"\r\n" * 40_000,
        lambda _: bytes(1 << 20),
    ],
)
def test_everything_else_is_not_the_model(answer: Answer) -> None:
    assert not asked(answer)


def test_a_silent_server_is_given_up_on() -> None:
    began = time.monotonic()
    assert not asked(lambda _: b"", timeout=0.2)
    assert time.monotonic() - began < 5


def test_a_proof_key_is_shown_nowhere() -> None:
    model = RunningModel("q", "u", "a/b", PORT, "0", 1, None, False, "ready", proof_keys=frozenset({KEY}))
    for shown in (repr(model), repr(Identity(PORT, {KEY}))):
        assert repr(KEY) not in shown
        assert KEY.hex() not in shown
