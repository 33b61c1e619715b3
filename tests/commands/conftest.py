"""A pod that the tests of a module share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import GPUS, Served


@pytest.fixture(scope="module")
def module_pod() -> Iterator[Served]:
    """Make the pod of a module, as fast as that of `embed`."""
    with EmbeddedPod(f"{GPUS}x H100 80GB") as pod:
        for program in ("hf", "vllm"):
            (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        yield Served(pod)


@pytest.fixture
def served(module_pod: Served, environment: Path) -> Served:
    """The module's pod, registered in the test's own `pods.json`: `dc1` is active, `dc2` is the same machine."""
    assert environment.exists()
    module_pod.register("dc1", "dc2")
    return module_pod
