"""DGX Spark (GB10) and Jetson Thor: the memory is the machine's, and its own programs keep a part of it."""

import pytest

from pi_cli.errors import DoesNotFit
from pi_cli.planning import gpu_space, gpu_types, plan
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import UnknownModel
from pi_cli.store.records import Gpu
from tests.planning.profiles import catalogued, from_hub

REASON = "--gpu-memory-utilization 0.80: the memory is the machine's, whose own programs need the rest of it"


def spaces(name: str = "NVIDIA GB10") -> list[GpuSpace]:
    return gpu_space.measure([Gpu(0, name, "unknown")], {}, {})


def make(constraints: Constraints | None = None, name: str = "NVIDIA GB10") -> Plan:
    return plan.make(from_hub(16e9), constraints or Constraints(), spaces(name), pod="spark")


@pytest.mark.parametrize("name", ["NVIDIA GB10", "NVIDIA Thor"])
def test_the_machine_keeps_a_fifth_of_its_memory_and_the_plan_says_why(name: str) -> None:
    made = make(name=name)
    assert made.memory == 0.8
    assert made.arguments[-2:] == ("--gpu-memory-utilization", "0.80")
    assert REASON in made.reasons
    assert made.fit is not None
    left = made.fit.memory.total - made.fit.memory.weights - made.fit.memory.overhead - made.fit.memory.kv_cache
    assert 20 < left < 26  # GiB


def test_the_users_own_share_and_that_of_the_catalogue_are_kept() -> None:
    asked = make(Constraints(memory=0.9))
    assert asked.memory == 0.9
    assert REASON not in asked.reasons
    listed = catalogued(("DGX Spark", 1, ("--gpu-memory-utilization", "0.7")), weights_gb=16)
    made = plan.make(listed, Constraints(), spaces(), pod="spark")
    assert (made.memory, made.arguments[:2]) == (0.7, ("--gpu-memory-utilization", "0.7"))
    assert REASON not in made.reasons


def test_a_model_of_unknown_size_leaves_it_too() -> None:
    made = plan.make(UnknownModel("a/b"), Constraints(), spaces(), pod="spark")
    assert "--gpu-memory-utilization" in made.arguments
    assert REASON in made.reasons


def test_own_arguments_are_not_changed() -> None:
    made = make(Constraints(("--max-model-len", "8192")))
    assert made.arguments == ("--max-model-len", "8192")
    assert made.memory == 0.92
    advice = "`--gpu-memory-utilization 0.80` would leave room for the machine's own programs"
    assert f"vLLM takes 92% of the machine's memory; {advice}" in made.reasons
    stated = make(Constraints(("--gpu-memory-utilization", "0.7")))
    assert not any("the machine's memory" in reason for reason in stated.reasons)


def test_other_gpus_keep_vllms_default() -> None:
    [space] = gpu_space.measure(gpu_types.parse("H100"), {}, {})
    assert gpu_space.default_share([space]) == 0.92
    assert "--gpu-memory-utilization" not in plan.make(from_hub(16e9), Constraints(), [space], pod="x").arguments


def test_a_hint_does_not_name_several_of_these_chips_which_are_in_different_machines() -> None:
    with pytest.raises(DoesNotFit, match="1x DGX Spark offers 9") as caught:
        plan.make(from_hub(140e9), Constraints(), spaces(), pod="spark")
    assert "it would fit on 2x A100, 2x H100, " in str(caught.value.hint)
    assert "DGX Spark" not in str(caught.value.hint)
