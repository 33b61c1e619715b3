"""HTTP to a model without TLS: through a unix socket that is forwarded to its port, or to its public URL.

What a server sends is bounded, whatever it sends: it is not trusted with the memory of this machine.
"""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

MIB = 1 << 20
MAX_ANSWER = 64 * MIB  # bytes; a stream of the longest answers (200,000 tokens of 250 bytes each) fits
MAX_EVENT = 16 * MIB  # bytes of one event of a stream
MAX_ERROR = 64 * 1024  # bytes of an error's body that are read; the rest is not


class AnswerTooLarge(httpx2.RequestError):
    """A server has sent more than it may, or compressed data, which it was not asked for."""


def over(socket: Path) -> httpx2.AsyncBaseTransport:
    """Return a transport that connects to a unix socket."""
    return _Bounded(httpx2.AsyncHTTPTransport(uds=str(socket), verify=_no_authorities()))


def direct() -> httpx2.AsyncBaseTransport:
    """Return a transport that connects to the host of a URL, without a proxy."""
    return _Bounded(httpx2.AsyncHTTPTransport(verify=_no_authorities()))


def _no_authorities() -> ssl.SSLContext:
    """Return an SSL context without certificates: loading the usual ones takes 21 ms, even for `http://`."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Bounded(httpx2.AsyncBaseTransport):
    """A transport whose answers have limits: compressed, 3 MB would be gigabytes."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        response = await self._transport.handle_async_request(request)
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            await response.aclose()
            raise AnswerTooLarge(f"it sent data compressed with {encoding[:20]!r}, which pi does not ask for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(
            response.stream,
            is_error=response.status_code >= 400,
            has_events=response.headers.get("content-type", "").startswith("text/event-stream"),
        )
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, *, is_error: bool, has_events: bool) -> None:
        self._stream, self._is_error, self._has_events = stream, is_error, has_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = event = 0
        end = b""
        async for chunk in self._stream:
            total += len(chunk)
            if self._is_error and total > MAX_ERROR:
                yield chunk[: len(chunk) - (total - MAX_ERROR)]
                return
            if total > MAX_ANSWER:
                raise AnswerTooLarge(f"it sent more than {MAX_ANSWER // MIB} MiB")
            if self._has_events:
                event = _length_of_the_last_event(end + chunk, event + len(chunk))
                end = (end + chunk)[-3:]
                if event > MAX_EVENT:
                    raise AnswerTooLarge(f"it sent an event of more than {MAX_EVENT // MIB} MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _length_of_the_last_event(text: bytes, so_far: int) -> int:
    """Return how many bytes have come since the last blank line, which ends an event."""
    blank = max(text.rfind(line) for line in (b"\n\n", b"\r\r", b"\n\r\n"))
    return so_far if blank < 0 else len(text) - blank
