"""Models that do not generate text: the routes that vLLM has for them, with simulated answers."""

import hashlib
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

from pi_cli.demo.engine.flags import Settings

Json = dict[str, Any]
Kind = Literal["generation", "embedding", "reranker", "classification", "speech"]

DIMENSIONS = 64
# vLLM knows the kind by the architecture; the simulation has only the name.
BY_NAME: dict[str, Kind] = {
    r"rerank|cross-encoder": "reranker",
    r"embed|bge-|e5-|gte-": "embedding",
    r"classif|reward": "classification",
    r"whisper|-asr": "speech",
}
ROUTES: dict[Kind, tuple[str, ...]] = {
    "generation": ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions", "/invocations"),
    "embedding": ("/v1/embeddings", "/pooling", "/rerank", "/v1/rerank", "/score"),
    "reranker": ("/rerank", "/v1/rerank", "/score", "/classify", "/pooling"),
    "classification": ("/classify", "/pooling"),
    "speech": ("/v1/audio/transcriptions", "/v1/audio/translations"),
}


def kind_of(settings: Settings) -> Kind:
    """Return the kind of a model by its name, or by `--runner pooling`."""
    for pattern, kind in BY_NAME.items():
        if re.search(pattern, settings.model, re.IGNORECASE):
            return kind
    return "embedding" if settings.text("runner") == "pooling" else "generation"


def answers(settings: Settings) -> dict[str, Callable[[Json], Json]]:
    """Return the functions that answer on the routes of a kind; empty for a model that generates text."""
    kind = kind_of(settings)
    if kind == "generation":
        return {}
    known: dict[str, Callable[[Json], Json]] = {
        "/v1/embeddings": _embeddings,
        "/pooling": _embeddings,
        "/rerank": _ranking,
        "/v1/rerank": _ranking,
        "/score": _scores,
        "/classify": _classes,
        "/v1/audio/transcriptions": _transcription,
        "/v1/audio/translations": _transcription,
    }
    return {route: known[route] for route in ROUTES[kind]}


def _vector(text: str) -> list[float]:
    """Return a vector in which texts that share words are similar."""
    vector = [0.01] * DIMENSIONS
    for word in re.findall(r"[a-z]{4,}", text.lower()) or [text]:
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1.0
    size = sum(number * number for number in vector) ** 0.5
    return [number / size for number in vector]


def _similarity(first: str, second: str) -> float:
    return sum(one * other for one, other in zip(_vector(first), _vector(second), strict=True))


def _texts(request: Json) -> list[str]:
    given = request.get("input", "")
    return [str(text) for text in given] if isinstance(given, list) else [str(given)]


def _embeddings(request: Json) -> Json:
    data = [
        {"index": number, "object": "embedding", "embedding": _vector(text)}
        for number, text in enumerate(_texts(request))
    ]
    return _reply(request, "embd") | {"object": "list", "data": data}


def _ranking(request: Json) -> Json:
    documents, query = request.get("documents") or [], str(request.get("query", ""))
    scores = {number: _similarity(query, str(text)) for number, text in enumerate(documents)}
    results = [
        {"index": number, "document": {"text": str(documents[number])}, "relevance_score": scores[number]}
        for number in sorted(scores, key=lambda number: -scores[number])
    ]
    return _reply(request, "score") | {"results": results}


def _scores(request: Json) -> Json:
    pair = str(request.get("text_1", "")), str(request.get("text_2", ""))
    return _reply(request, "score") | {"object": "list", "data": [{"index": 0, "score": _similarity(*pair)}]}


def _classes(request: Json) -> Json:
    data = [
        {"index": number, "label": "LABEL_0", "probs": [0.75, 0.25], "num_classes": 2}
        for number, _ in enumerate(_texts(request))
    ]
    return _reply(request, "classify") | {"object": "list", "data": data}


def _transcription(_: Json) -> Json:
    return {"text": "", "usage": {"type": "duration", "seconds": 1}}


def _reply(request: Json, kind: str) -> Json:
    return {"id": f"{kind}-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": request.get("model")}
