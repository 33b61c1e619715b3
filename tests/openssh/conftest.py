"""Pods with a real sshd for the tests of this directory, or the reason why there are none."""

import os
from collections.abc import Iterator

import pytest

from tests.lab import openssh
from tests.lab.openssh import OpensshLab, OpensshPod


@pytest.fixture(scope="session")
def openssh_lab() -> Iterator[OpensshLab]:
    reason = openssh.why_not()
    if reason and os.environ.get("PI_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with OpensshLab() as lab:
        yield lab


@pytest.fixture
def openssh_pod(openssh_lab: OpensshLab) -> Iterator[OpensshPod]:
    with openssh_lab.pod("dc1") as pod:
        yield pod


@pytest.fixture
def two_openssh_pods(openssh_lab: OpensshLab) -> Iterator[list[OpensshPod]]:
    with openssh_lab.pod("dc1") as first, openssh_lab.pod("dc2") as second:
        yield [first, second]
