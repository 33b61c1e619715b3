"""What the Hub has of a name, as far as vLLM could serve it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from pi_cli.errors import ModelNotStarted
from pi_cli.hub import hub_names
from pi_cli.hub.hub_api import HubUnreachable
from pi_cli.hub.hub_names import Found
from tests.hub.published import Connection, Site

ROWS: list[object] = [
    {"id": "someone/kimi-k9-GGUF", "downloads": 9000, "tags": ["gguf"]},
    {"id": "someone/kimi-k9-mlx", "downloads": 8000, "tags": ["MLX", "region:us"]},
    {"id": "someone/kimi-k9-tuned", "downloads": 700, "tags": ["safetensors"]},
    {"id": "moonshotai/Kimi-K9", "downloads": 500, "tags": []},
    {"id": "someone/kimi-k9-more", "downloads": True, "tags": "gguf"},
    {"id": "kimi-k9"},
    {"id": "../kimi-k9"},
    {"id": "someone/kimi k9;"},
    {"id": 7},
    "kimi-k9",
    None,
]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def serve(site: Site, body: bytes, status: int = 200) -> list[str]:
    """Answer every search in this way; return what is searched for."""
    queries: list[str] = []

    def answer(connection: Connection) -> bool:
        queries.append(parse_qs(urlsplit(connection.path).query)["search"][0])
        connection.reply(status, body)
        return True

    site.answer = answer
    return queries


def find(name: str, site: Site, *, token: str | None = None, timeout: float = 20.0) -> list[Found]:
    return asyncio.run(hub_names.find(name, token=token, endpoint=site.url, timeout=timeout))


def test_models_of_the_very_name_come_first_and_what_vllm_cannot_load_is_left_out(site: Site) -> None:
    queries = serve(site, json.dumps(ROWS).encode())
    assert find("kimi k9", site) == [
        Found("moonshotai/Kimi-K9", 500),
        Found("someone/kimi-k9-tuned", 700),
        Found("someone/kimi-k9-more", None),
    ]
    assert queries == ["kimi k9"]


def test_a_name_with_spaces_is_searched_for_with_hyphens_too(site: Site) -> None:
    queries = serve(site, b"[]")
    assert find("kimi_k9 & more", site) == []
    assert queries == ["kimi_k9 & more", "kimi-k9-&-more"]


@pytest.mark.parametrize("body", [b"{}", b"7", b'[{"id": []}]', b'["a/b"]'])
def test_an_answer_of_another_shape_has_no_models_in_it(site: Site, body: bytes) -> None:
    serve(site, body)
    assert find("kimi", site) == []


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [(b"<html>", 200, "its answer is not that of a Hub"), (b"", 500, "it answered 500 Internal Server Error")],
)
def test_a_hub_that_fails_is_unreachable(site: Site, body: bytes, status: int, reason: str) -> None:
    serve(site, body, status)
    with pytest.raises(HubUnreachable) as caught:
        find("kimi", site)
    assert caught.value.reason == reason


def test_a_hub_that_does_not_answer_delays_a_command_for_a_bounded_time(site: Site) -> None:
    left = threading.Event()
    site.answer = lambda _: left.wait(30)
    with pytest.raises(HubUnreachable) as caught:
        find("kimi", site, timeout=0.3)
    left.set()
    assert caught.value.reason == "it did not answer in time"


def test_a_token_that_the_hub_does_not_accept_is_an_error(site: Site) -> None:
    serve(site, b"{}", 401)
    with pytest.raises(ModelNotStarted):
        find("kimi", site, token="hf_wrong")
