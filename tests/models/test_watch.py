"""Watching pods: a lost connection is reported once, and so is its return."""

import asyncio
import json
import os
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.events import Event, Note
from pi_cli.models import listing
from pi_cli.models.model_status import Listed
from pi_cli.store import state
from tests.conftest import pods_json
from tests.lab.relay import Relay


def test_a_lost_connection_and_its_return_are_reported_once_each(pod: EmbeddedPod) -> None:
    with Relay(pod.address, pod.port) as relay:
        pods = {"dc1": {"ssh": f"ssh -p {relay.port} -i {pod.key} root@127.0.0.1", "gpus": [], "models": {}}}
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(pods_json() | {"pods": pods}))
        looks: asyncio.Queue[list[Listed]] = asyncio.Queue()
        events: list[Event] = []

        async def watch() -> None:
            watched = listing.watch(state.load().pods, lambda _, models: looks.put_nowait(models), events.append)
            watching = asyncio.create_task(watched)
            await looks.get()
            assert events == []
            relay.cut()
            while len(events) < 2:
                await looks.get()
            await looks.get()
            watching.cancel()
            await asyncio.wait([watching])

        asyncio.run(watch())
    lost, back = [event.text for event in events if isinstance(event, Note)]
    assert lost.startswith("cannot reach pod `dc1`: ")
    assert back == "`dc1` answers again"
