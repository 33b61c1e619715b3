"""The planner over the whole catalogue and all kinds of hardware: what it promises adds up."""

import functools

import pytest

from pi_cli.errors import DoesNotFit
from pi_cli.planning import catalogue, fit, gpu_space, gpu_types, lookup, plan, vllm_arguments
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel
from tests.every import every

HARDWARE = [f"{count}x {kind}" for kind in ("H100", "H200", "A100", "RTX 4090") for count in (1, 2, 8)]
HARDWARE += ["3x H100", "1x T4", "4x L4", "2x A100 40GB", "8x H20", "4x RTX PRO 6000", "1x B300"]


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
        assert memory.kv_cache > 0, profile.id
        assert memory.weights + memory.overhead + memory.kv_cache <= memory.total * options.memory + 0.01, profile.id
        assert memory.total <= min(space.total for space in spaces) / 1024
        if architecture := profile.shape.architecture:
            assert fit.divides(architecture, options.tensor), profile.id
            assert outcome.fit.longest is not None
            assert 0 < (outcome.fit.context or 0) <= min(outcome.fit.longest, architecture.max_context), profile.id
            assert (outcome.fit.concurrency or 0) >= 1, profile.id


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
