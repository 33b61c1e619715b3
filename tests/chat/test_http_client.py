"""The HTTP client of a conversation beside OpenAI's SDK: the same events, tries and errors."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from openai._streaming import SSEDecoder

from pi_cli.chat import http_client
from pi_cli.chat.http_client import Client, Events, NotConnected, Refused, RequestError, TimedOut
from tests.properties import CUTS, PROPERTY, cut, texts_of

PIECES = (
    "data:",
    "data: ",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    ":",
    "event: x\n",
    "id: 1",
    "retry: 3\n\n",
    "{}",
    "[DONE]",
    "é",
)


@PROPERTY
@given(texts_of(*PIECES), CUTS)
def test_events_are_those_of_the_sdk_however_they_are_cut(text: str, cuts: list[int]) -> None:
    chunks = cut(text.encode("utf-8", "replace").replace(b"\xef\xbb\xbf", b""), cuts)
    events = Events()
    assert [data for chunk in chunks for data in events.feed(chunk)] == [
        event.data for event in SSEDecoder().iter_bytes(iter(chunks)) if event.data.strip()
    ]


class Server(httpx2.AsyncBaseTransport):
    """Answers with the given statuses, headers and bodies, or fails, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[httpx2.Request] = []
        self._answers = list(answers)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        return httpx2.Response(status, headers=headers, content=body, request=request)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(anyio, "sleep", sleep)  # the SDK's
    return found


def asked(server: Server) -> list[Any]:
    async def ask() -> list[Any]:
        async with Client(server, api_key="k") as client, await client.post("/chat/completions", {"a": "ü"}) as stream:
            return [piece async for piece in stream]

    return asyncio.run(ask())


def by_sdk(server: Server) -> list[Any]:
    import openai

    async def ask() -> list[Any]:
        http = httpx2.AsyncClient(transport=server)
        async with openai.AsyncOpenAI(api_key="k", base_url=http_client.BASE_URL, http_client=http) as client:
            stream = await client.post(
                "/chat/completions", body={"a": "ü"}, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            return [piece async for piece in stream]

    return asyncio.run(ask())


DONE = (200, {"content-type": "text/event-stream"}, b'data: {"x": 1}\n\ndata: [DONE]\n\n')
ANSWERS: list[list[Any]] = [
    [DONE],
    [(500, {}, b""), DONE],
    [(503, {"retry-after": "3"}, b"busy"), (429, {"retry-after-ms": "250"}, b""), DONE],
    [(500, {"retry-after": "121"}, b"no")],
    [(500, {"x-should-retry": "false"}, b'{"error": {"message": "no"}}')],
    [(400, {"x-should-retry": "true"}, b"no"), DONE],
    [(404, {}, b'{"detail": "Not Found"}')],
    [(401, {}, b'{"error": "Unauthorized"}')],
    [(302, {"location": "/x"}, b"")],
    [(408, {}, b""), (409, {}, b""), (500, {}, b"[1]")],
    [httpx2.ReadError("cut"), httpx2.ReadTimeout("slow"), httpx2.ConnectError("no")],
    [httpx2.ReadError("cut"), httpx2.ReadError("cut"), httpx2.ReadTimeout("slow")],
    [httpx2.ReadError("cut"), DONE],
    [(200, {}, b'data: {"error": {"message": "it broke"}}\n\n')],
    [(200, {}, b'data: {"error": "it broke"}\n\n')],
    [(200, {}, b"data: {}\n\ndata: {")],
]
SAME_AS = {"APIConnectionError": NotConnected, "APITimeoutError": TimedOut, "APIError": RequestError}


@pytest.mark.parametrize(
    "answers",
    ANSWERS,
    ids=lambda answers: "-".join(str(each[0]) if isinstance(each, tuple) else type(each).__name__ for each in answers),
)
def test_the_same_is_tried_again_after_the_same_pauses_and_fails_in_the_same_way(
    answers: Sequence[Any], pauses: list[float]
) -> None:
    import openai

    ours, sdks = Server(*answers), Server(*answers)
    outcome: list[Any] = []
    for ask, server in ((asked, ours), (by_sdk, sdks)):
        pauses.clear()
        try:
            result: Any = ask(server)
        except (RequestError, openai.APIError) as error:
            result = kind(error), error.body, getattr(error, "status_code", None)
        outcome.append((result, [json.loads(request.content) for request in server.requests], rounded(pauses)))
    assert outcome[0] == outcome[1]


def kind(error: Exception) -> type[Exception]:
    name = type(error).__name__
    return type(error) if isinstance(error, RequestError) else SAME_AS.get(name, Refused)


def rounded(pauses: Sequence[float]) -> list[float]:
    """Return pauses without what is left to chance: those of less than 8 s are 0.5, 1, 2 … s less up to a quarter."""
    usual = (0.5, 1.0, 2.0)
    return [next((each for each in usual if each * 0.75 <= pause <= each and pause != 0.25), pause) for pause in pauses]
