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
