"""Pods with a real sshd for the tests of this directory; without a lab, the reason why they are skipped."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab import base_root, openssh, prepared, wire
from tests.lab.openssh import OpensshLab, OpensshPod

Prepare = Callable[..., OpensshPod]


@pytest.fixture(scope="session")
def openssh_lab() -> Iterator[OpensshLab]:
    skip_or_fail(openssh.why_not())
    with OpensshLab() as lab:
        yield lab


@pytest.fixture(scope="session")
def wires(openssh_lab: OpensshLab) -> None:  # noqa: ARG001 - without a lab there is nothing to lay a wire to
    """What a test with a `Wire` asks for."""
    skip_or_fail(wire.why_not())


@pytest.fixture
def openssh_pod(openssh_lab: OpensshLab) -> Iterator[OpensshPod]:
    with openssh_lab.pod("dc1") as pod:
        yield pod


@pytest.fixture
def two_openssh_pods(openssh_lab: OpensshLab) -> Iterator[list[OpensshPod]]:
    with openssh_lab.pod("dc1") as first, openssh_lab.pod("dc2") as second:
        yield [first, second]


@pytest.fixture(scope="session")
def lab_with_python(openssh_lab: OpensshLab) -> OpensshLab:
    """The lab with the root that has Python, which must be made before a test gets its own environment."""
    base_root.ready(base_root.WITH_PYTHON)
    return openssh_lab


@pytest.fixture
def prepare(lab_with_python: OpensshLab) -> Iterator[Prepare]:
    """Make prepared pods: `prepare("dc2", reaping=False)`. The first registered one becomes active.

    `share` are directories of the host that the pod sees too, as in `OpensshLab.pod`.
    """
    with ExitStack() as stack:

        def make(
            name: str = "dc1",
            *,
            reaping: bool = True,
            registered: bool = True,
            share: Iterable[tuple[Path, Path]] = (),
        ) -> OpensshPod:
            pod = lab_with_python.pod(name, packages=base_root.WITH_PYTHON, reaping=reaping, share=share)
            stack.enter_context(pod)
            prepared.furnish(pod)
            if registered:
                register(pod)
            return pod

        yield make


@pytest.fixture
def pod(prepare: Prepare) -> OpensshPod:
    """A pod called `dc1` with two GPUs, ready and active."""
    return prepare()


def skip_or_fail(reason: str | None) -> None:
    if reason and os.environ.get("PI_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def register(pod: OpensshPod) -> None:
    """Write a pod into `pods.json` and its key into `known_hosts`, like a user who does it by hand."""
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir(exist_ok=True)
    path = folder / "pods.json"
    state: Any = json.loads(path.read_text()) if path.exists() else {"pods": {}, "active": pod.name}
    gpus = [{"id": id, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"} for id in range(2)]
    state["pods"][pod.name] = {"ssh": pod.ssh, "gpus": gpus, "models": {}}
    path.write_text(json.dumps(state))
    key = (pod.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    with (folder / "known_hosts").open("a") as file:
        file.write(f"{pod.name} {' '.join(key)}\n")
