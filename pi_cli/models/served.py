"""What a model server serves: text, embeddings, rankings, classes or transcriptions. Its routes say so.

vLLM registers the routes of what its model can do (entrypoints/openai/api_server.py, entrypoints/pooling of 0.32): this
holds for a model that was started with any arguments, by any version of pi.
"""

import io
import wave
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from pi_cli.vllm.kinds import ROUTES

Kind = Literal["generation", "embedding", "reranker", "classification", "speech", "pooling"]

# pi's guard answers the first (`remote/require_key.py`). vLLM composes the second when it is first asked for it, which
# takes up to a second; a model that an older version of pi has started has only that one.
GUARD_ROUTES, DESCRIPTION = "/.well-known/pi-model?routes", "/openapi.json"
COMPLETIONS, EMBEDDINGS, RERANK = "/v1/completions", "/v1/embeddings", "/rerank"
CLASSIFY, POOLING, TRANSCRIPTIONS = "/classify", "/pooling", "/v1/audio/transcriptions"
# The route by which a kind is known, the most telling first: a model that embeds also ranks by comparing embeddings,
# and one that answers with text may transcribe too.
TELLING: dict[str, Kind] = {
    "/v1/chat/completions": "generation",
    COMPLETIONS: "generation",
    TRANSCRIPTIONS: "speech",
    EMBEDDINGS: "embedding",
    RERANK: "reranker",
    CLASSIFY: "classification",
    POOLING: "pooling",
}
# What a model of a kind is called, and the route that its clients use.
NAMES: dict[Kind, tuple[str, str]] = {
    "generation": ROUTES["generation"],
    "embedding": ROUTES["embedding"],
    "reranker": ROUTES["reranker"],
    "classification": ROUTES["classification"],
    "speech": ROUTES["speech"],
    "pooling": ("a pooling model", POOLING),
}
SAMPLE_RATE = 16_000  # Hz


@dataclass(frozen=True, slots=True)
class Question:
    """A small request for a kind of model: JSON, or the fields and files of a form."""

    route: str
    json: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    files: dict[str, tuple[str, bytes, str]] | None = None

    async def ask(self, client: httpx2.AsyncClient) -> httpx2.Response:
        if self.json is not None:
            return await client.post(self.route, json=self.json)
        return await client.post(self.route, data=self.form, files=self.files)


def kind_of(routes: Collection[str]) -> Kind | None:
    """Return what a server with these routes serves; None if none of them says so."""
    return next((kind for route, kind in TELLING.items() if route in routes), None)


def routes_of(answer: object) -> Collection[str]:
    """Return the routes in the answer of pi's guard or in a server's OpenAPI description, whatever it sent."""
    if not isinstance(answer, dict):
        return ()
    routes, paths = answer.get("routes"), answer.get("paths")
    if isinstance(routes, list):
        return [route for route in routes if isinstance(route, str)]
    return paths.keys() if isinstance(paths, dict) else ()


async def ask_kind(client: httpx2.AsyncClient) -> Kind | None:
    """Ask a server what it serves; None if it does not say, for example with `--disable-fastapi-docs`."""
    return kind_of(await _asked(client, GUARD_ROUTES)) or kind_of(await _asked(client, DESCRIPTION))


async def _asked(client: httpx2.AsyncClient, source: str) -> Collection[str]:
    """Return the routes that a server reports; none if it does not."""
    response = await client.get(source)
    try:
        return routes_of(response.json()) if response.status_code == 200 else ()
    except (ValueError, RecursionError):
        return ()


def question(kind: Kind | None, name: str) -> Question:
    """Return the smallest request to which a model of this kind gives a real answer."""
    match kind:
        case "embedding":
            return Question(EMBEDDINGS, {"model": name, "input": "Hi"})
        case "reranker":
            return Question(RERANK, {"model": name, "query": "Hi", "documents": ["Hi"]})
        case "classification":
            return Question(CLASSIFY, {"model": name, "input": "Hi"})
        case "pooling":
            return Question(POOLING, {"model": name, "input": "Hi"})
        case "speech":
            file = ("silence.wav", silence(), "audio/wav")
            return Question(TRANSCRIPTIONS, form={"model": name}, files={"file": file})
        case "generation" | None:
            return Question(COMPLETIONS, {"model": name, "prompt": "Hi", "max_tokens": 1})


def silence(seconds: float = 1.0) -> bytes:
    """Return a WAV file of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(SAMPLE_RATE)
        audio.writeframes(bytes(2 * int(SAMPLE_RATE * seconds)))
    return file.getvalue()
