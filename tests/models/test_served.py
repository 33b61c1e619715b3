"""What a server serves, as it says itself."""

import asyncio
from typing import Any

import httpx2
import pytest

from pi_cli.models import served

EMBEDDER = ["/v1/embeddings", "/rerank", "/v1/models"]
HOSTILE: list[Any] = [
    None,
    1,
    [],
    "x",
    {},
    {"routes": None, "paths": None},
    {"routes": [1, None, ["/rerank"]]},
    {"paths": ["/rerank"]},
]


def kind(answers: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the kind that a server with these answers has, and what it was asked for; others are not found."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        route = request.url.raw_path.decode()
        asked.append(route)
        return httpx2.Response(200, json=answers[route]) if route in answers else httpx2.Response(404)

    async def ask() -> Any:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="http://pod") as client:
            return await served.ask_kind(client)

    return asyncio.run(ask()), asked


def test_the_guard_says_it_without_the_description() -> None:
    assert kind({served.GUARD_ROUTES: {"routes": EMBEDDER}}) == ("embedding", [served.GUARD_ROUTES])


@pytest.mark.parametrize("routes", [None, {"routes": []}, {"routes": ["/v1/models"]}], ids=["older", "none", "others"])
def test_without_the_guard_the_description_says_it(routes: Any) -> None:
    answers: dict[str, Any] = {served.DESCRIPTION: {"paths": {route: {} for route in EMBEDDER}}}
    answers |= {served.GUARD_ROUTES: routes} if routes else {}
    assert kind(answers)[0] == "embedding"


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_other_answers_say_nothing(answer: Any) -> None:
    assert kind({served.GUARD_ROUTES: answer, served.DESCRIPTION: answer})[0] is None
