"""Which arguments a model is started with."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.models import plan
from pi_cli.store.records import Gpu


def gpus(count: int, name: str = "NVIDIA H100 80GB HBM3") -> list[Gpu]:
    return [Gpu(id, name, "80GB") for id in range(count)]


def test_a_known_model_takes_the_smallest_configuration_that_suits() -> None:
    made = plan.make("qwen/qwen2.5-coder-32b-instruct", gpus(8), None)
    assert made.model == "Qwen/Qwen2.5-Coder-32B-Instruct"
    assert made.gpu_count == 1
    assert "--tool-call-parser" in made.arguments


def test_a_known_model_on_a_gpu_type_of_its_own() -> None:
    assert plan.make("zai-org/GLM-4.5-Air-FP8", gpus(8, "NVIDIA H200"), None).gpu_count == 1
    assert plan.make("zai-org/GLM-4.5-Air-FP8", gpus(8), None).gpu_count == 2


def test_a_known_model_on_hardware_without_configuration_says_what_would_fit() -> None:
    with pytest.raises(BadUsage, match="2x NVIDIA H100") as caught:
        plan.make("Qwen/Qwen2.5-72B-Instruct", gpus(2), None)
    assert "4x H100" in str(caught.value.hint)


def test_an_unknown_model_gets_one_gpu_and_the_context_that_fits() -> None:
    made = plan.make("someone/model", gpus(4), None)
    assert (made.gpu_count, made.arguments) == (1, ("--max-model-len", "auto"))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 1),
        (["--tensor-parallel-size", "4"], 4),
        (["-tp=2", "-pp", "2", "--data-parallel-size=2"], 8),
        (["--tensor-parallel-size"], 1),
        (["--tensor-parallel-size", "x"], 1),
    ],
)
def test_own_arguments_ask_for_as_many_gpus_as_they_say(arguments: list[str], count: int) -> None:
    made = plan.make("Qwen/Qwen2.5-72B-Instruct", gpus(8), arguments)
    assert made.gpu_count == count
    assert made.arguments == tuple(arguments)


@pytest.mark.parametrize(
    "argument", ["--port", "--port=1", "--host", "--api-key", "--api-key=x", "--served-model-name"]
)
def test_what_pi_sets_itself_cannot_be_given(argument: str) -> None:
    with pytest.raises(BadUsage, match="cannot be given after `--vllm`"):
        plan.make("m", gpus(1), [argument, "1"])


def test_on_a_cpu_pod_a_model_gets_no_gpu() -> None:
    made = plan.make("someone/model", [], None, is_cpu=True)
    assert (made.gpu_count, made.reason) == (0, "not in the catalogue: the CPU, the longest context that fits")
    own = plan.make("someone/model", [], ["-tp", "2"], is_cpu=True)
    assert (own.gpu_count, own.arguments) == (0, ("-tp", "2"))


def test_what_the_catalogue_has_for_gpus_only_is_refused_on_a_cpu_pod() -> None:
    with pytest.raises(BadUsage, match="for a CPU pod") as caught:
        plan.make("Qwen/Qwen2.5-72B-Instruct", [], None, is_cpu=True)
    assert "4x H100" in str(caught.value.hint)


def slices(count: int) -> list[Gpu]:
    name = "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    return [Gpu(id, name, "40GB", {"uuid": f"MIG-{id}"}) for id in range(count)]


def test_what_fits_a_card_is_not_taken_for_its_slices() -> None:
    """Fault 81."""
    with pytest.raises(BadUsage, match="2x NVIDIA H100 80GB HBM3 MIG"):
        plan.make("Qwen/Qwen2.5-Coder-32B-Instruct", slices(2), None)
    assert plan.make("someone/model", slices(2), None).gpu_count == 1


def test_slices_cannot_be_joined() -> None:
    """Fault 81: CUDA shows a program only one of them."""
    with pytest.raises(BadUsage, match="a model cannot use 2 MIG slices"):
        plan.make("someone/model", slices(2), ["--tensor-parallel-size", "2"])
