"""How long the context of a running model is, by its own list of models."""

import asyncio
import json
from contextlib import suppress
from typing import Any

TIMEOUT = 5.0  # seconds for the model to answer
MAX_LIST = 1 << 20  # bytes


async def of(url: str, name: str, key: str) -> int | None:
    """Ask the server at a URL that ends with `/v1`, with a key; return tokens, or None if it does not say."""
    import httpx2

    from pi_cli.models import plain_http

    with suppress(httpx2.HTTPError, ValueError, TypeError, AttributeError, KeyError, RecursionError, TimeoutError):
        async with (
            asyncio.timeout(TIMEOUT),
            httpx2.AsyncClient(transport=plain_http.direct(), trust_env=False) as client,
        ):
            response = await client.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
            listed: Any = json.loads(response.content[:MAX_LIST])["data"]
            for each in listed:
                length = each.get("max_model_len")
                if each.get("id") == name and isinstance(length, int) and 0 < length < 1 << 40:
                    return length
    return None
