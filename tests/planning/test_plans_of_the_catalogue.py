"""The planner over the whole catalogue and all kinds of hardware: what it promises adds up."""

import functools

import pytest

from pi_cli.errors import DoesNotFit
from pi_cli.planning import catalogue, conditions, fit, gpu_space, gpu_types, lookup, plan, sequences, verdicts
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel
from pi_cli.vllm import vllm_arguments
from tests.every import every

HARDWARE = [f"{count}x {kind}" for kind in ("H100", "H200", "A100", "RTX 4090") for count in (1, 2, 8)]
HARDWARE += ["3x H100", "1x T4", "4x L4", "2x A100 40GB", "8x H20", "4x RTX PRO 6000", "1x B300"]
# What people rent: 16 sets, on which every model is planned.
RENTED = ["1x H100", "2x H100", "4x H100", "8x H100", "1x A100", "2x A100", "8x A100", "1x H200", "8x H200"]
RENTED += ["1x B200", "8x B200", "1x L40S", "2x A6000", "1x RTX 4090", "1x RTX PRO 6000", "1x DGX Spark"]


@functools.cache
def profiles() -> list[KnownModel]:
    return [lookup.from_catalogue(entry) for entry in catalogue.entries()]


def spaces_of(hardware: str) -> list[GpuSpace]:
    return gpu_space.measure(gpu_types.parse(hardware), {}, {})


def made(profile: KnownModel, hardware: str) -> Plan | DoesNotFit:
    try:
        return plan.make(profile, Constraints(), spaces_of(hardware), pod="dc1")
    except DoesNotFit as refused:
        return refused


def is_trusted(profile: KnownModel, made: Plan) -> bool:
    """Return whether nothing but the catalogue says that a model has space for its KV cache; its weights always fit."""
    architecture = profile.shape.architecture
    if made.fit is None or made.fit.memory.kv_cache > 0 or (architecture and architecture.layers):
        return False
    assert made.fit.memory.weights < made.fit.memory.total * (made.memory or 1)
    assert made.reasons[0].startswith("the catalogue's configuration for ")
    return True


@pytest.mark.parametrize("hardware", HARDWARE)
def test_every_plan_adds_up_and_every_refusal_has_a_reason(hardware: str) -> None:
    spaces = spaces_of(hardware)
    for profile in profiles():
        outcome = made(profile, hardware)
        if isinstance(outcome, DoesNotFit):
            assert str(outcome).startswith(f"`{profile.id}` does not fit `dc1`: ")
            assert outcome.hint
            continue
        assert outcome.fit is not None
        options, memory = vllm_arguments.parse(outcome.arguments), outcome.fit.memory
        assert options.gpus == len(outcome.gpus) <= len(spaces), profile.id
        if is_trusted(profile, outcome):
            continue
        assert memory.kv_cache > 0, profile.id
        assert memory.weights + memory.overhead + memory.kv_cache <= memory.total * options.memory + 0.01, profile.id
        assert memory.total <= min(space.total for space in spaces) / 1024
        if architecture := profile.shape.architecture:
            assert fit.divides(architecture, options.tensor), profile.id
            assert outcome.fit.longest is not None
            assert 0 < (outcome.fit.context or 0) <= min(outcome.fit.longest, architecture.max_context), profile.id
            assert (outcome.fit.concurrency or 0) >= 1, profile.id


@pytest.mark.parametrize("hardware", RENTED)
def test_vllm_has_no_number_to_refuse_in_any_plan(hardware: str) -> None:
    """Issue 14: before, it refused 38 of the 265 plans of hybrid models on these GPUs, after loading their weights."""
    spaces = spaces_of(hardware)
    for profile in profiles():
        outcome = made(profile, hardware)
        if isinstance(outcome, DoesNotFit):
            continue
        assert conditions.certain(profile.shape.architecture, outcome.arguments, spaces[0]) == (), profile.id
        assert outcome.fit is not None
        if is_trusted(profile, outcome):
            continue
        assert list(conditions.likely(outcome.fit, outcome.arguments, spaces[0])) == [], profile.id
        requests, blocks = sequences.configured(outcome.arguments, spaces[0]), outcome.fit.state_blocks
        if blocks is not None and sequences.has_full_graphs(outcome.arguments):
            assert requests <= blocks / 2, profile.id


@pytest.mark.parametrize("hardware", RENTED)
def test_a_refusal_compares_with_all_gpus_or_says_why_not_more(hardware: str) -> None:
    count, spaces = int(hardware.partition("x")[0]), spaces_of(hardware)
    refused = [
        judged for profile in profiles() if (judged := verdicts.judge(profile, spaces, pod="dc1")).status == "no"
    ]
    for verdict in refused:
        assert (
            f"{count}x " in verdict.reason or f"over {count} GPUs" in verdict.reason or "GPUs would" in verdict.reason
        )


@pytest.mark.parametrize(
    ("model", "hardware", "fitting"),
    [
        ("zai-org/GLM-4.5-Air", "1x H200", "2x H200"),
        ("zai-org/GLM-4.5-Air", "2x H100", "4x H100"),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "8x H20", "8x B200"),
    ],
)
def test_a_model_too_large_for_the_hardware_it_was_once_listed_for_is_refused_for_its_weights(
    model: str, hardware: str, fitting: str
) -> None:
    [profile] = [profile for profile in profiles() if profile.id == model]
    refused = made(profile, hardware)
    assert isinstance(refused, DoesNotFit)
    assert "its weights take" in str(refused)
    assert fitting in str(refused.hint)


@every(profiles, lambda profile: profile.id)
def test_every_configuration_of_the_catalogue_can_be_planned_on_its_own_hardware(profile: KnownModel) -> None:
    assert profile.entry is not None
    for configuration in profile.entry.hardware:
        kinds = ["H100"] if configuration.gpus == ("any",) else configuration.gpus
        for kind in kinds:
            spaces = spaces_of(f"{configuration.count}x {kind}")
            outcome = plan.make(profile, Constraints(gpus=configuration.count), spaces, pod="dc1")
            assert len(outcome.gpus) == configuration.count
