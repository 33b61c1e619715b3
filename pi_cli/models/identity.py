"""Is this the model? A server proves it before it is sent a key: it answers a challenge that only the model can answer.

The guard of a model (`remote/require_key.py`) answers a nonce with HMACs. Their keys, the proof keys, are derived from
an API key and from the uid of the launch, so an answer fits one launch only, and shows nothing of the key.

A forwarded port proves in the same way that pi itself forwards it: with a key that only this user's processes know.

Without `httpx2`, which takes as long to load as everything else that `pi list` needs. What loads OpenSSL is imported
only when there is an answer to judge.
"""

import asyncio
import json
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from pi_cli.pods.reports import RunningModel

ROUTE = "/.well-known/pi-model"
FORWARD_ROUTE = "/.well-known/pi-forward"
FORWARD_REQUEST = re.compile(rf"GET {FORWARD_ROUTE}\?nonce=([0-9a-f]{{64}}) HTTP/1.1\r\n".encode())
REACH_TIMEOUT = 1.5  # seconds for a port on a public address; firewalls often drop packets to closed ports
PROOF_TIMEOUT = 10.0  # seconds for an answer: a busy server takes its time
MAX_ANSWER = 1 << 14  # bytes of the head and of the body of an answer; a proof for each of 100 keys fits
READ_SIZE = 1 << 12  # bytes read at a time, at most


class Reader(Protocol):
    """The reading end of a connection: asyncio's or asyncssh's."""

    async def read(self, n: int, /) -> bytes: ...


class Writer(Protocol):
    """The writing end of a connection: asyncio's or asyncssh's."""

    def write(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What the answer of a model has to fit: the port that it serves, and at least one of the proof keys."""

    port: int
    proof_keys: Collection[bytes] = field(repr=False)


def proof_key(api_key: str, uid: str) -> bytes:
    """Return the proof key of an API key and of the uid of a launch."""
    return _hmac(api_key.encode(), b"pi proof " + uid.encode())


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered to the challenge `nonce`; with the proof keys it can be told if it is the model."""

    nonce: str
    proofs: tuple[bytes, ...] = field(default=(), repr=False)

    def proves(self, identity: Identity) -> bool:
        """Return whether the server has proved to know one of the proof keys."""
        if not self.proofs:
            return False
        import hmac

        message = f"{self.nonce} {identity.port}".encode()
        expected = [_hmac(key, message) for key in identity.proof_keys]
        return any(hmac.compare_digest(proof, right) for proof in self.proofs for right in expected)


async def challenge(reader: Reader, writer: Writer, *, host: str = "pod", route: str = ROUTE) -> Answer:
    """Challenge the server at the other end of a connection, with a random number that tells nothing of a key.

    If it proves itself, the connection can be used for requests. Raises `OSError` and the errors of the connection.
    """
    nonce = os.urandom(32).hex()
    writer.write(f"GET {route}?nonce={nonce} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    with suppress(TimeoutError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        async with asyncio.timeout(PROOF_TIMEOUT):
            answer = json.loads(await _body(reader))
        return Answer(nonce, tuple(bytes.fromhex(proof) for proof in answer["proofs"]))
    return Answer(nonce)


async def challenge_at(
    url: str, *, timeout: float = REACH_TIMEOUT, route: str = ROUTE, addresses: Collection[str] = ()
) -> Answer | None:
    """Challenge the server at `http://HOST:PORT/v1`; None if there is none that answers.

    It is given `timeout` seconds, of which connecting may take only `REACH_TIMEOUT`. `addresses` are those of the host,
    if they are known.
    """
    with suppress(OSError, ValueError):  # a TimeoutError is an OSError
        parts = urlsplit(url)
        async with asyncio.timeout(timeout):
            async with asyncio.timeout(REACH_TIMEOUT):
                reader, writer = await _connected(addresses or (parts.hostname,), parts.port)
            try:
                return await challenge(reader, writer, host=parts.netloc, route=route)
            finally:
                writer.close()
    return None


async def prove(reader: Reader, writer: Writer, identity: Identity) -> bool:
    """Challenge the server at the other end of a connection; return whether it proves to know one of the proof keys.

    Raises what `challenge` raises.
    """
    return (await challenge(reader, writer)).proves(identity)


async def prove_at(url: str, identity: Identity, *, timeout: float = REACH_TIMEOUT, route: str = ROUTE) -> bool:
    """Challenge the server at `http://HOST:PORT/v1`; return whether it proves to know one of the proof keys."""
    answer = await challenge_at(url, timeout=timeout, route=route)
    return answer is not None and answer.proves(identity)


def accepts(model: RunningModel, key: str) -> bool:
    """Return whether a model accepts an API key; True for a model that was started by hand, which is not known."""
    return model.uid is None or proof_key(key, model.uid) in model.proof_keys


def answer_as_forward(request: bytes, identity: Identity) -> bytes | None:
    """Return the answer of a forwarded port to a challenge; None if the request is another one."""
    if not (challenge := FORWARD_REQUEST.match(request)):
        return None
    message = challenge[1] + b" %d" % identity.port
    body = json.dumps({"proofs": [_hmac(key, message).hex() for key in identity.proof_keys]})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def _connected(
    hosts: Collection[str | None], port: int | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of these that accepts."""
    failure = OSError()
    for host in hosts:
        try:
            return await asyncio.open_connection(host, port)
        except OSError as error:
            failure = error
    raise failure


async def _body(reader: Reader) -> bytes:
    """Read one answer, and no byte more. Raises `ValueError` if it is not a complete answer of moderate size."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _more(reader, len(data))
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = int(headers["content-length"])
    if status.split()[:2] != ["HTTP/1.1", "200"] or not 0 <= size <= MAX_ANSWER:
        raise ValueError(status)
    while len(body) < size:
        body += await _more(reader, len(body))
    if len(body) > size or headers.get("connection", "").lower() == "close":
        raise ValueError(status)  # not a connection for more requests
    return body


async def _more(reader: Reader, so_far: int) -> bytes:
    chunk = await reader.read(READ_SIZE)
    if not chunk or so_far + len(chunk) > 2 * MAX_ANSWER:
        raise ValueError(so_far)
    return chunk


def _hmac(key: bytes, message: bytes) -> bytes:
    import hashlib
    import hmac

    return hmac.new(key, message, hashlib.sha256).digest()
