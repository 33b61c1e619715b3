"""OpenAI's own client, as other programs use it on a port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import KEY

if TYPE_CHECKING:  # it takes half a second to import
    import openai
    from openai.types.chat import ChatCompletionChunk


@contextmanager
def client(url: str) -> "Iterator[openai.OpenAI]":
    import httpx2
    import openai

    with (
        httpx2.Client(trust_env=False, timeout=60) as http,
        openai.OpenAI(base_url=url, api_key=KEY, http_client=http, max_retries=0) as opened,
    ):
        yield opened


def answer(url: str, name: str = "q") -> str:
    """Ask what 2+2 is, and return the answer to the letter."""
    with client(url) as opened:
        asked = opened.chat.completions.create(model=name, messages=[{"role": "user", "content": "What is 2+2?"}])
        return asked.choices[0].message.content or ""


@contextmanager
def counting(url: str, name: str = "q") -> "Iterator[openai.Stream[ChatCompletionChunk]]":
    """Ask for a long answer; the block begins when it has, and hangs up at its end."""
    with client(url) as opened:
        stream = opened.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Count to 100"}], stream=True
        )
        next(iter(stream))
        yield stream
