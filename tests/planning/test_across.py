"""The plan of one model over several pods."""

from collections.abc import Callable

import pytest

from pi_cli.errors import BadUsage, NoRoom
from pi_cli.planning import across, plan
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import ModelProfile, UnknownModel
from pi_cli.vllm import vllm_arguments
from tests.planning.profiles import catalogued, from_hub, running, spaces

LARGE = 200e9  # bytes of weights: too large for two GPUs of 80 GB, and for four with two pods' worth of them


def make(profile: ModelProfile, given: Constraints | None = None, **pods: list[GpuSpace]) -> dict[str, Plan]:
    def make_plan(wanted: Constraints, pod: str) -> Plan:
        return plan.make(profile, wanted, pods[pod], pod=pod)

    return across.make(given or Constraints(), {pod: len(each) for pod, each in pods.items()}, make_plan)


def sizes(made: Plan) -> tuple[int, int]:
    options = vllm_arguments.parse(made.arguments)
    return options.tensor, options.pipeline


@pytest.mark.parametrize(
    "profile",
    [from_hub(), catalogued(("H100", 2, ("--tensor-parallel-size", "2"))), UnknownModel("m/m")],
    ids=["hub", "catalogue", "unknown"],
)
def test_tensor_parallel_is_inside_a_pod_and_pipeline_parallel_across_them(profile: ModelProfile) -> None:
    plans = make(profile, dc1=spaces(2), dc2=spaces(2))
    assert {pod: (made.gpus, sizes(made)) for pod, made in plans.items()} == dict.fromkeys(
        ("dc1", "dc2"), ((0, 1), (2, 2))
    )
    assert len({made.arguments for made in plans.values()}) == 1


def test_a_model_that_one_pod_cannot_hold_fits_two() -> None:
    with pytest.raises(BadUsage, match="does not fit"):
        plan.make(from_hub(LARGE), Constraints(), spaces(2), pod="dc1")
    made = make(from_hub(LARGE), dc1=spaces(2), dc2=spaces(2))["dc2"]
    assert made.fit
    assert made.fit.memory.weights == pytest.approx(LARGE / 4 / 2**30, rel=0.01)


def test_the_smallest_free_share_counts_for_all() -> None:
    plans = make(from_hub(30e9), dc1=spaces(2), dc2=spaces(2, q=running("0,1", 0.4)))
    assert plans["dc1"].memory == plans["dc2"].memory == pytest.approx(0.59, abs=0.01)
    assert plans["dc1"].arguments == plans["dc2"].arguments
    assert (plans["dc1"].beside, plans["dc2"].beside) == ((), ("q",))
    with pytest.raises(NoRoom):
        make(from_hub(), dc1=spaces(2), dc2=spaces(2, q=running("0,1", 0.95)))


def test_fewer_gpus_of_each_pod_can_be_chosen() -> None:
    plans = make(from_hub(30e9), Constraints(gpus=1), dc1=spaces(2), dc2=spaces(2))
    assert {sizes(made) for made in plans.values()} == {(1, 2)}


def test_own_arguments_are_divided_among_the_pods_unchanged() -> None:
    own = ("-tp", "2", "-pp", "2")
    plans = make(from_hub(), Constraints(own), dc1=spaces(2), dc2=spaces(2))
    assert {(made.arguments, made.gpus) for made in plans.values()} == {(own, (0, 1))}


@pytest.mark.parametrize(
    ("own", "is_cpu", "reason"),
    [
        ("-dp 2", False, "cannot be combined"),
        ("-tp 3", False, "cannot be divided among 2 pods"),
        ("-tp 2 --distributed-executor-backend ray", False, "without ray"),
        ("-pp 2 --enforce-eager --kv-cache-memory-bytes 1G", True, "skips the warm-up"),
    ],
    ids=["replicas", "odd", "ray", "cpu"],
)
def test_own_arguments_that_cannot_be_divided_are_refused(own: str, is_cpu: bool, reason: str) -> None:
    with pytest.raises(BadUsage, match=reason):
        across.refuse(tuple(own.split()), 2, is_cpu=is_cpu)


@pytest.mark.parametrize(("own", "spans"), [("-tp 2", True), ("-tp 2 -pp 2", False), ("-tp 4 -pp 3", True)])
def test_tensor_parallelism_across_pods_is_recognised(own: str, spans: bool) -> None:
    check: Callable[[tuple[str, ...], int], bool] = across.spans_pods
    assert check(tuple(own.split()), 2) is spans
