"""One pod for the tests of a module, with models that keep running."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, Result, pods_json, register

GPUS = 8  # enough that the models of all tests of a module fit


def entry_of(name: str, on: str) -> Any:
    return pods_json()["pods"][on]["models"][name]


def write_entry(name: str, on: str, entry: Any) -> None:
    """Write a model into this test's `pods.json`."""
    state = pods_json()
    state["pods"][on]["models"][name] = entry
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))


@dataclass
class Served:
    """One pod with models that tests start when they first need them.

    A test that changes the pod or a model in a way that other tests would notice takes a pod of its own instead.
    """

    pod: EmbeddedPod
    entries: dict[str, Any] = field(default_factory=dict)
    """What stands in `pods.json` about each running model."""
    results: dict[str, Result] = field(default_factory=dict)
    """What the `pi start` of each model printed."""

    def register(self, *names: str) -> None:
        """Write the pod into this test's `pods.json` under these names."""
        for name in names:
            register(name, self.pod, count=GPUS)

    def ensure(self, name: str, start: Callable[[], Any], *, on: str = "dc1") -> Any:
        """Start a model unless it runs already, register it in this test's `pods.json`, and return its entry."""
        if name not in self.entries:
            self.entries[name] = start()
        write_entry(name, on, self.entries[name])
        return self.entries[name]

    def started(self, pi: Pi, name: str, *arguments: str, on: str = "dc1", model: str = "Qwen/Qwen3-8B") -> Result:
        """Let `pi start` start a model unless it runs already, and return what that printed."""

        def start() -> Any:
            result = pi("start", model, "--name", name, "--pod", on, "--json", *arguments)
            assert result.code == 0, result.err
            self.results[name] = result
            return entry_of(name, on)

        self.ensure(name, start, on=on)
        return self.results[name]
