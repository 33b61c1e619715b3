"""Forwarded ports follow the model, and not the port that it had: another model may have that now."""

import asyncio
import time
from contextlib import suppress

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.events import Down, Up
from pi_cli.models import forwards
from pi_cli.models.forwards import Target
from pi_cli.store import state
from tests.conftest import KEY, Pi


def start(pi: Pi, name: str) -> int:
    result = pi("start", "Qwen/Qwen3-8B", "--name", name, "--json")
    assert result.code == 0, result.err
    return int(result.json[0]["port"])


async def served(url: str) -> str | None:
    """Return the name of the model that answers, or None if the connection is cut."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        with suppress(httpx2.TransportError):
            models = await client.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"})
            return str(models.json()["data"][0]["id"])
    return None


def test_a_port_that_now_belongs_to_another_model_is_detected(
    pi: Pi, pod: EmbeddedPod, caplog: pytest.LogCaptureFixture
) -> None:
    first = start(pi, "q")
    events: asyncio.Queue[Up | Down] = asyncio.Queue()

    async def check() -> None:
        keeping = asyncio.create_task(
            forwards.keep_open([Target("dc1", "q", [0])], state.load().pods, events.put_nowait, pauses=(0.1,))
        )
        up = await events.get()
        assert await served(up.url) == "q"
        await asyncio.to_thread(pi, "stop", "q")
        assert await asyncio.to_thread(start, pi, "r") == first
        await asyncio.to_thread(start, pi, "q")
        deadline = time.monotonic() + 20
        while await served(up.url) != "q":  # a connection to the other model is cut when that is detected
            assert time.monotonic() < deadline
        assert events.empty(), "no check has found it down"
        keeping.cancel()
        await asyncio.wait([keeping])

    asyncio.run(check())
    assert not caplog.records, "errors that asyncio logs are tracebacks on the user's screen"
    assert pod.processes()
