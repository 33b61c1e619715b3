"""Work on many pods at once: what happens to one never happens to the others."""

import asyncio
import os
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import PiError
from pi_cli.events import Ended, Event
from pi_cli.pods import fleet
from pi_cli.ssh.session import PodSession
from pi_cli.store import state
from tests.conftest import register


@pytest.mark.parametrize("bug", [ZeroDivisionError("1/0"), RecursionError(), OSError("x"), TimeoutError()], ids=repr)
def test_a_bug_met_on_one_pod_is_that_pods_error(bug: Exception) -> None:
    done: list[str] = []
    reports: list[Event] = []

    async def work(session: PodSession) -> None:
        if session.pod == "odd":
            raise bug
        await session.run("true")
        done.append(session.pod)

    async def work_on_all() -> dict[str, PiError]:
        return await fleet.on_each(state.load().pods, work, reports.append)

    with EmbeddedPod() as machine:
        for name in ("dc1", "odd", "dc2"):
            register(name, machine, count=2)
        failures = asyncio.run(work_on_all())
    assert sorted(done) == ["dc1", "dc2"]
    [(pod, error)] = failures.items()
    assert (pod, error.exit_code) == ("odd", 1)
    assert str(error).startswith(f"this is a bug in pi, while working on `odd`: {type(bug).__name__}")
    log = Path(os.environ["PI_CONFIG_DIR"], "logs", "last.log")
    assert str(log) in str(error.hint)
    assert "Traceback" in log.read_text()
    ends = {event.pod: event.failure for event in reports if isinstance(event, Ended)}
    assert ends == {"dc1": None, "odd": str(error), "dc2": None}
