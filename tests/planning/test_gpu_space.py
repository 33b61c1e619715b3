"""What is on the GPUs of a pod, and where a model goes."""

import pytest

from pi_cli.errors import HeldGpu
from pi_cli.planning import gpu_space
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.store.records import Gpu, Pod
from tests.planning.profiles import gpus, running, spaces


def ids(chosen: list[GpuSpace] | None) -> list[int] | None:
    return None if chosen is None else [space.gpu.id for space in chosen]


def test_a_free_gpu_offers_all_its_memory_whatever_its_driver_uses() -> None:
    [space] = spaces(1, used={0: 600})
    assert (space.is_free, space.share) == (True, 1.0)


@pytest.mark.parametrize(("used", "share"), [(4_000, 0.94), (40_000, 0.5), (73_000, 0.09), (79_000, 0.0)])
def test_a_gpu_in_use_offers_the_share_that_is_left(used: int, share: float) -> None:
    assert spaces(1, used={0: used})[0].share == share


def test_a_model_counts_with_its_share_or_with_the_memory_it_uses_if_that_is_more() -> None:
    [loading] = spaces(1, used={0: 500}, a=running("0", 0.4))
    [grown] = spaces(1, used={0: 50_000}, a=running("0", 0.4))
    assert loading.taken == round(0.4 * loading.total)
    assert grown.taken == 50_000


def test_a_model_without_a_recorded_share_counts_with_vllms_default() -> None:
    [space] = spaces(1, a=running("0"))
    assert space.taken == round(0.92 * space.total)


def test_gpus_with_the_fewest_models_come_first_then_the_lowest_ids() -> None:
    pod = spaces(4, a=running("0", 0.3), b=running("0,1", 0.3))
    assert ids(gpu_space.least_used(pod, 2, 0.6)) == [2, 3]
    assert ids(gpu_space.least_used(pod, 3, 0.6)) == [1, 2, 3]
    assert ids(gpu_space.least_used(pod, 4, 0.6)) is None
    assert ids(gpu_space.least_used(pod, 4, 0.3)) == [0, 1, 2, 3]


def test_the_share_of_several_gpus_is_that_of_the_fullest() -> None:
    chosen, share = gpu_space.most_free(spaces(3, a=running("0", 0.7), b=running("1", 0.5)), 2)
    assert (ids(chosen), share) == ([1, 2], 0.49)
    assert gpu_space.most_free(spaces(1), 2) == ([], 0.0)


def test_held_gpus_are_those_in_use_with_the_models_on_them() -> None:
    assert gpu_space.held(spaces(3, used={0: 600, 2: 40_000}, a=running("1", 0.5))) == (
        HeldGpu(1, round(0.5 * 81559), 81559, ("a",)),
        HeldGpu(2, 40_000, 81559),
    )


def test_the_observed_models_count_and_not_the_recorded_ones() -> None:
    """The GPUs are those recorded; their memory and the models on them are as the pod reports."""
    pod = Pod("ssh root@1.2.3.4", gpus=gpus(2), models={"gone": running("0")})
    used = {0: (1_000, 81_559), 1: (2_000, 81_559)}
    first, second = gpu_space.observed(pod, [0, 1], {"b": running("1", 0.25)}, used)
    assert (first.models, first.is_free) == ((), True)
    assert (second.models, second.taken) == (("b",), round(0.25 * 81_559))


def test_only_gpus_that_are_recorded_and_still_present_are_used() -> None:
    """A user may have left GPUs out of `pods.json` on purpose."""
    pod = Pod("ssh root@1.2.3.4", gpus=gpus(2))
    assert ids(gpu_space.observed(pod, [1, 2, 3], {}, {})) == [1]
    assert ids(gpu_space.observed(pod, [], {}, {})) == [0, 1]


@pytest.mark.parametrize(("memory", "total"), [("100GB", 97_280), ("unknown", 0)])
def test_a_gpu_of_unknown_type_has_the_memory_that_was_recorded(memory: str, total: int) -> None:
    [space] = gpu_space.measure([Gpu(0, "NVIDIA X1000", memory)], {}, {})
    assert (space.total, space.kind, space.capability) == (total, "NVIDIA X1000", None)
