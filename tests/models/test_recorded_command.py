"""What is recorded of the command that started a model can be read again, whatever a user has done to it."""

from dataclasses import replace
from typing import Any

import pytest

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.models import recorded_command
from pi_cli.store.records import Gpu, Model, Pod

POD = Pod("ssh root@h", gpus=[Gpu(0, "NVIDIA H100 80GB HBM3", "80GB")])
COMMAND = StartCommand("m/m", "q", pod="dc1", gpus=2, context="32k", variables=("A=1",), planned_arguments=("--x", "1"))


def read(extra: dict[str, Any]) -> StartCommand | None:
    return recorded_command.read("q", Model("m/m", 8001, "0", 7, extra=extra), POD)


@pytest.mark.parametrize(
    "command",
    [
        COMMAND,
        StartCommand("m/m", "q"),
        replace(COMMAND, own_arguments=()),
        replace(COMMAND, own_arguments=("-tp", "2")),
    ],
    ids=["planned", "plain", "no arguments", "own arguments"],
)
def test_what_was_recorded_is_read_again(command: StartCommand) -> None:
    again = read(recorded_command.record(command))
    assert again
    assert again.argv == command.argv
    assert again.arguments == command.arguments
    assert (again.pod_gpus, again.capability) == (1, (9, 0))


@pytest.mark.parametrize(
    "broken",
    [None, "x", {"pod": 1}, {"variables": "x"}, {"own_arguments": [1]}, {"planned_arguments": None}],
    ids=range(6),
)
def test_a_broken_one_counts_as_none(broken: object) -> None:
    assert read({"command": broken}) is None
    assert read({}) is None


@pytest.mark.parametrize("word", ["--hf-token", "--hf-token=hf_x", "--api-key", "MY_SECRET=x"])
def test_a_command_with_a_secret_is_not_recorded(word: str) -> None:
    assert recorded_command.record(replace(COMMAND, own_arguments=(word, "hf_x"))) == {}


def test_an_option_that_only_sounds_like_a_secret_is_recorded() -> None:
    assert recorded_command.record(replace(COMMAND, own_arguments=("--max-num-batched-tokens", "8192")))
