"""Check that a model really answers, through the connection to its pod."""

from pathlib import Path

import httpx2

from pi_cli.errors import ModelNotStarted
from pi_cli.models import plain_http, served
from pi_cli.models.served import Kind
from pi_cli.safe import safe

FIRST_ANSWER_TIMEOUT = 300.0  # seconds: the first request may compile kernels


async def prove(socket: Path, *, name: str, key: str) -> Kind:
    """Check that a model answers a real request: its name is served, and its engine does what the model is for.

    One that generates text is asked for a token, one that embeds for an embedding, and so on. Raises `ModelNotStarted`
    if it does not answer. A server that does not say what it serves is asked for a token too, and may refuse that.
    Returns what the model is for.
    """
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with httpx2.AsyncClient(
            transport=plain_http.over(socket), base_url="http://pod", headers=headers, timeout=FIRST_ANSWER_TIMEOUT
        ) as client:
            listed = await client.get("/v1/models")
            if listed.status_code != 200 or name not in _names(listed):
                raise ModelNotStarted(f"`{name}` answers /health, but /v1/models answers {_brief(listed)}")
            kind = await served.ask_kind(client)
            answer = await served.question(kind, name).ask(client)
            may_refuse = kind in (None, "generation", "pooling")
            if answer.status_code >= (500 if may_refuse else 400) or answer.status_code in (401, 403):
                raise ModelNotStarted(f"`{name}` is up, but a request failed: {_brief(answer)}")
            return kind or "generation"
    except httpx2.HTTPError as error:
        raise ModelNotStarted(
            f"`{name}` answers /health, but a request failed: {str(error) or type(error).__name__}"
        ) from error


def _names(response: httpx2.Response) -> list[str]:
    try:
        return [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _brief(response: httpx2.Response) -> str:
    return f"{response.status_code} {safe(response.text[:200]).strip()}"
