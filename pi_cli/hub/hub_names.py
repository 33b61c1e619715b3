"""Search the Hugging Face Hub for models by name."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pi_cli.hub import hub_api

SEARCH_TIMEOUT = 5.0  # seconds, for a command that would end with an error without it
MAX_FOUND = 8
LIMIT = 100  # models that the Hub is asked for: many are forms that vLLM cannot load, and are left out
# Tags of the Hub on repositories that `vllm serve` does not load by themselves.
NOT_SERVED = {"gguf", "mlx", "onnx", "peft", "diffusers", "adapter-transformers", "coreml", "exl2", "exl3"}
ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """A model of the Hub: its id, and how often it was downloaded in the last month, if the Hub says so."""

    id: str
    downloads: int | None = None


async def find(name: str, *, token: str | None, endpoint: str | None, timeout: float = SEARCH_TIMEOUT) -> list[Found]:
    """Return the models with a name, or with a part of it: those of exactly this name first, then the most downloaded.

    Raises `HubUnreachable`, or `ModelNotStarted` for a token that the Hub refuses.
    """

    deadline = time.monotonic() + timeout
    for query in dict.fromkeys([name, re.sub(r"[\s_]+", "-", name)]):
        path = f"/api/models?search={quote(query)}&sort=downloads&limit={LIMIT}"
        left = max(0.01, deadline - time.monotonic())
        answer = await hub_api.get_json(path, token=token, endpoint=endpoint, timeout=left)
        found = [model for row in answer if (model := _found(row))] if isinstance(answer, list) else []
        if found:
            return sorted(found, key=lambda model: not _is_called(model, name))[:MAX_FOUND]
    return []


def _found(row: Any) -> Found | None:
    """Return a model of the answer; None for one that cannot be served, or whose id pi would not accept."""
    if not isinstance(row, dict) or not isinstance(id := row.get("id"), str) or not ID.fullmatch(id):
        return None
    tags = {str(tag).lower() for tag in row.get("tags") or ()} if isinstance(row.get("tags"), list) else set()
    return None if tags & NOT_SERVED else Found(id, _downloads(row))


def _downloads(row: Mapping[str, Any]) -> int | None:
    count = row.get("downloads")
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _is_called(model: Found, name: str) -> bool:
    ours, typed = (re.sub(r"[\s_-]+", "-", text.lower()) for text in (model.id, name))
    return typed in (ours, ours.rpartition("/")[2])
