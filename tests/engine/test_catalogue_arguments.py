"""vLLM itself on what `models.md` says, and on every plan that pi makes of it: its argument parser and its names."""

from typing import Any

import pytest

from pi_cli.planning import catalogue
from pi_cli.planning.plan import Plan
from pi_cli.store import paths
from tests.engine.conftest import Engine
from tests.engine.parser import ask
from tests.planning.test_plans_of_the_catalogue import HARDWARE, made, profiles


def entries() -> list[catalogue.Entry]:
    return list(catalogue.parse(paths.asset("models.md").read_text(encoding="utf-8")))


def written() -> list[tuple[str, ...]]:
    """Return the arguments of every configuration of the catalogue, and of each with the drafts that it offers."""
    lists = []
    for entry in entries():
        drafts = ("--speculative-config", entry.speculative) if entry.speculative else ()
        for configuration in entry.hardware:
            lists += [(entry.id, *configuration.args), (entry.id, *configuration.args, *drafts)]
    return list(dict.fromkeys(lists))


def planned() -> list[tuple[str, ...]]:
    """Return the different lists of arguments that pi plans for the catalogue on all kinds of hardware."""
    plans = [made(profile, hardware) for profile in profiles() for hardware in HARDWARE]
    return list(dict.fromkeys((plan.model, *plan.arguments) for plan in plans if isinstance(plan, Plan)))


@pytest.fixture(scope="module")
def answer(engine: Engine) -> dict[str, Any]:
    """Ask the pod's vLLM once about all of them, with one that is wrong at the end."""
    return ask(engine, [*written(), *planned(), ("no/model", "--swap-space", "4")])


def test_vllm_accepts_every_argument_list_of_the_catalogue(answer: dict[str, Any]) -> None:
    *_, about_the_wrong_one = answer["said"]
    assert about_the_wrong_one == "unrecognized arguments: --swap-space 4"
    assert [(words, why) for words, why in zip(written(), answer["said"], strict=False) if why] == []


def test_vllm_accepts_every_argument_list_that_pi_plans_for_the_catalogue(answer: dict[str, Any]) -> None:
    assert len(planned()) > len(entries()), "some models have several plans"
    said = answer["said"][len(written()) : -1]
    assert [(words, why) for words, why in zip(planned(), said, strict=True) if why] == []


@pytest.mark.parametrize("kind", ["tool_call_parser", "reasoning_parser"])
def test_vllm_has_every_parser_of_the_catalogue(answer: dict[str, Any], kind: str) -> None:
    named = {name for entry in entries() if (name := getattr(entry, kind))}
    assert named - set(answer[kind]) == set()


def test_vllm_reads_every_environment_variable_of_the_catalogue(answer: dict[str, Any]) -> None:
    named = {name for entry in entries() for configuration in entry.hardware for name in configuration.env}
    assert named - set(answer["environment"]) == set()
