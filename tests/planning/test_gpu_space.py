"""What is on the GPUs of a pod, and where a model goes."""

import pytest

from pi_cli.planning import gpu_space
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.store.records import Gpu, Pod
from tests.planning.profiles import gpus, running, spaces


def ids(found: list[GpuSpace] | None) -> list[int] | None:
    return None if found is None else [space.gpu.id for space in found]


def test_a_free_gpu_gives_all_it_has_whatever_its_driver_holds() -> None:
    [space] = spaces(1, used={0: 600})
    assert (space.is_free, space.share) == (True, 1.0)


@pytest.mark.parametrize(("used", "share"), [(4_000, 0.94), (40_000, 0.5), (73_000, 0.09), (79_000, 0.0)])
def test_what_others_hold_leaves_so_much(used: int, share: float) -> None:
    assert spaces(1, used={0: used})[0].share == share


def test_a_model_counts_with_its_share_or_with_what_it_holds_if_that_is_more() -> None:
    [loading] = spaces(1, used={0: 500}, a=running("0", 0.4))
    [grown] = spaces(1, used={0: 50_000}, a=running("0", 0.4))
    assert loading.taken == round(0.4 * loading.total)
    assert grown.taken == 50_000


def test_a_model_that_pi_knows_no_share_of_has_vllms_default() -> None:
    [space] = spaces(1, a=running("0"))
    assert space.taken == round(0.92 * space.total)


def test_the_gpus_with_the_fewest_models_come_first_and_of_those_the_lowest_ids() -> None:
    places = spaces(4, a=running("0", 0.3), b=running("0,1", 0.3))
    assert ids(gpu_space.least_used(places, 2, 0.6)) == [2, 3]
    assert ids(gpu_space.least_used(places, 3, 0.6)) == [1, 2, 3]
    assert ids(gpu_space.least_used(places, 4, 0.6)) is None
    assert ids(gpu_space.least_used(places, 4, 0.3)) == [0, 1, 2, 3]


def test_the_share_of_several_gpus_is_that_of_the_fullest() -> None:
    found, share = gpu_space.most_free(spaces(3, a=running("0", 0.7), b=running("1", 0.5)), 2)
    assert (ids(found), share) == ([1, 2], 0.49)
    assert gpu_space.most_free(spaces(1), 2) == ([], 0.0)


def test_what_is_seen_on_a_pod_counts_and_not_what_is_remembered() -> None:
    """The GPUs are those recorded; their memory and the models on them are as the pod says."""
    pod = Pod("ssh root@1.2.3.4", gpus=gpus(2), models={"gone": running("0")})
    used = {0: (1_000, 81_559), 1: (2_000, 81_559)}
    first, second = gpu_space.observed(pod, [0, 1], {"b": running("1", 0.25)}, used)
    assert (first.models, first.is_free) == ((), True)
    assert (second.models, second.taken) == (("b",), round(0.25 * 81_559))


def test_only_gpus_that_are_recorded_and_still_there_are_used() -> None:
    """Somebody may have left GPUs out of `pods.json` on purpose."""
    pod = Pod("ssh root@1.2.3.4", gpus=gpus(2))
    assert ids(gpu_space.observed(pod, [1, 2, 3], {}, {})) == [1]
    assert ids(gpu_space.observed(pod, [], {}, {})) == [0, 1]


@pytest.mark.parametrize(("memory", "total"), [("100GB", 97_280), ("unknown", 0)])
def test_a_gpu_that_nobody_knows_has_the_memory_it_says(memory: str, total: int) -> None:
    [space] = gpu_space.measure([Gpu(0, "NVIDIA X1000", memory)], {}, {})
    assert (space.total, space.kind, space.capability) == (total, "NVIDIA X1000", None)
