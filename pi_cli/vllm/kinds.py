"""The kinds of models: what a model is for."""

from typing import Literal

# Only models that generate text have parsers for tool calls and reasoning.
Kind = Literal[
    "generation",
    "embedding",
    "late-interaction",
    "reranker",
    "classification",
    "token-classification",
    "reward",
    "speech",
]

# The kinds that vLLM's pooling runner serves: they return vectors, scores or classes instead of text.
POOLED = frozenset[Kind](
    {"embedding", "late-interaction", "reranker", "classification", "token-classification", "reward"}
)

# What a model of a kind is called, and the route at which vLLM serves it.
ROUTES: dict[Kind, tuple[str, str]] = {
    "generation": ("a model that generates text", "/v1/chat/completions"),
    "embedding": ("an embedding model", "/v1/embeddings"),
    "late-interaction": ("an embedding model with a vector for each token", "/pooling"),
    "reranker": ("a reranker", "/v1/rerank"),
    "classification": ("a classifier", "/classify"),
    "token-classification": ("a classifier of tokens", "/pooling"),
    "reward": ("a reward model", "/pooling"),
    "speech": ("a model that transcribes speech", "/v1/audio/transcriptions"),
}


def described(kind: Kind) -> str:
    """Return what a model of a kind is and where it is served.

    >>> described("reranker")
    'a reranker, served at /v1/rerank'
    """
    return ", served at ".join(ROUTES[kind])
