"""Requests to a model with retries, and answers as streams of JSON: what pi needs of OpenAI's SDK, and no more.

The SDK takes half a second to load, longer than a login over an ocean. The rules are its own: what is tried again and
when, what is an error, and what it is called.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pi_cli import __version__

if TYPE_CHECKING:
    import httpx2

# Never resolved: the transport is connected to the pod already.
SERVER = "http://pod"
BASE_URL = f"{SERVER}/v1"
CONNECT_SECONDS = 10.0
# A long prompt on a busy machine takes minutes before its first token.
READ_SECONDS = 600.0
MAX_RETRIES = 2
FIRST_PAUSE, MAX_PAUSE = 0.5, 8.0  # seconds; each pause is twice the one before, less up to a quarter
MAX_RETRY_AFTER = 120.0  # seconds that a server may ask to wait
MARK = "\ufeff".encode()  # a byte order mark, which some programs write where they begin to write
RETRIED = (408, 409, 429)  # and all from 500 on


class RequestError(Exception):
    """A request failed. `body` is the server's own error, as JSON where it is that, or None."""

    def __init__(self, message: str, request: "httpx2.Request", body: Any = None) -> None:
        super().__init__(message)
        self.message, self.request, self.body = message, request, body


class NotConnected(RequestError):
    """There was no connection, or it was lost before the answer began."""


class TimedOut(NotConnected):
    """There was no answer in time."""


class Refused(RequestError):
    """The server answered with the status of an error."""

    def __init__(self, response: "httpx2.Response") -> None:
        self.status_code = response.status_code
        text = response.text.strip()
        try:
            body = json.loads(text)
            message = f"Error code: {response.status_code} - {body}"
        except (ValueError, RecursionError):
            body, message = text, text or f"Error code: {response.status_code}"
        super().__init__(message, response.request, body.get("error", body) if isinstance(body, dict) else body)


class Client:
    """Requests to one server, for `async with`, which closes `transport` at the end."""

    def __init__(self, transport: "httpx2.AsyncBaseTransport", *, api_key: str) -> None:
        import httpx2

        self.max_retries = MAX_RETRIES
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            headers={
                "accept": "application/json",
                "authorization": f"Bearer {api_key}",
                "user-agent": f"pi/{__version__}",
            },
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> "Stream":
        """Send a request for an answer that streams. Raises `RequestError`."""
        return Stream(await self._send("POST", BASE_URL + path, body))

    async def get(self, url: str) -> Any:
        """Return the JSON at a URL. Raises `RequestError`, and `ValueError` for what is not JSON."""
        async with Stream(await self._send("GET", url)) as stream:
            return json.loads(await stream.response.aread())

    async def _send(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> "httpx2.Response":
        for tried in range(self.max_retries + 1):
            is_last = tried == self.max_retries
            request = self._http.build_request(method, url, json=body)
            response = await self._answer(request, is_last=is_last)
            if response and response.is_success:
                return response
            if response and (is_last or not _may_pass(response)):
                await self._refuse(response)
            if response:
                await response.aclose()
            await asyncio.sleep(_pause(tried, response))
        raise AssertionError  # the last try has returned or raised

    async def _answer(self, request: "httpx2.Request", *, is_last: bool) -> "httpx2.Response | None":
        """Return the answer; None if there was none and another try is left."""
        import httpx2

        try:
            return await self._http.send(request, stream=True)
        except httpx2.TimeoutException as error:
            if is_last:
                raise TimedOut("the request timed out", request) from error
        except httpx2.RequestError as error:
            if is_last:
                raise NotConnected("the connection failed", request) from error
        return None

    async def _refuse(self, response: "httpx2.Response") -> None:
        import httpx2

        try:
            await response.aread()
        except httpx2.RequestError as error:
            raise NotConnected("the connection failed", response.request) from error
        finally:
            await response.aclose()
        raise Refused(response)


class Stream:
    """The JSON of the events of an answer (text/event-stream), for `async with`, which ends the answer."""

    def __init__(self, response: "httpx2.Response") -> None:
        self.response = response
        self._pieces = self._read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.response.aclose()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._pieces)

    async def _read(self) -> AsyncIterator[Any]:
        """Yield the data of each event until `[DONE]`. Raises `RequestError` for an error that the server sends."""
        events, is_done = Events(), False
        async for chunk in self.response.aiter_bytes():  # to its end: only then the connection can be used again
            for data in () if is_done else events.feed(chunk):
                if data.startswith("[DONE]"):
                    is_done = True
                    break
                piece = json.loads(data)
                if isinstance(piece, dict) and (error := piece.get("error")):
                    message = error.get("message") if isinstance(error, dict) else None
                    said = message if message and isinstance(message, str) else "an error occurred while it answered"
                    raise RequestError(said, self.response.request, error)
                yield piece


class Events:
    """Finds the data of events in chunks, by the rules of text/event-stream; a block without data is not an event."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of an unfinished line
        self._data: list[str] = []
        self._skips_newline = False  # the last chunk ended with a carriage return

    def feed(self, chunk: bytes) -> Iterator[str]:
        r"""Yield the data of the events that a chunk completes.

        >>> list(Events().feed(b": comment\r\ndata: {\ndata:}\n\nretry: 1\n\ndata: [DONE]\n\n"))
        ['{\n}', '[DONE]']
        """
        if self._skips_newline and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skips_newline = False
        if b"\r" in chunk:
            self._skips_newline = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = chunk.split(b"\n")
        self._line.append(first)
        if not others:
            return
        lines = [b"".join(self._line), *others[:-1]]
        self._line = [others[-1]]
        for line in lines:
            if line.startswith(MARK):
                line = line.removeprefix(MARK)
            if not line:
                data, self._data = "\n".join(self._data), []
                if data.strip():
                    yield data
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" ").decode("utf-8"))


def _may_pass(response: "httpx2.Response") -> bool:
    """Return whether the same request may succeed later."""
    wait = _retry_after(response)
    if wait is not None and wait > MAX_RETRY_AFTER:
        return False
    said = response.headers.get("x-should-retry")
    if said in ("true", "false"):
        return bool(said == "true")
    return response.status_code in RETRIED or response.status_code >= 500


def _pause(tried: int, response: "httpx2.Response | None") -> float:
    """Return how many seconds to wait before the next try."""
    if response and (wait := _retry_after(response)) and 0 < wait <= MAX_RETRY_AFTER:
        return wait
    pause: float = min(FIRST_PAUSE * 2**tried, MAX_PAUSE)
    return pause * random.uniform(0.75, 1)  # noqa: S311 - other clients wait too


def _retry_after(response: "httpx2.Response") -> float | None:
    """Return the seconds after which a server asks to try again; None if it does not say, or names a date."""
    for header, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(response.headers[header]) / divisor
        except (KeyError, ValueError):
            continue
        return seconds if seconds == seconds else None
    return None
