"""A machine for the agent, on which nothing is left running after a test."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.agent.machine import Machine


@pytest.fixture
def machine(environment: Path) -> Iterator[Machine]:
    machine = Machine(environment)
    yield machine
    for record in machine.records():
        if record["pid"]:
            with suppress(ProcessLookupError):  # the records of other machines
                os.killpg(record["pid"], signal.SIGKILL)
