"""A machine for the agent, with nothing left running after a test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.machine import Machine


@pytest.fixture
def machine(environment: Path) -> Iterator[Machine]:
    made = Machine(environment)
    yield made
    for record in made.records():
        if record["pid"]:
            os.killpg(record["pid"], signal.SIGKILL)
