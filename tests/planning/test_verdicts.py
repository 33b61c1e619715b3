"""How a model fits given GPUs: it fits, it is tight, others use the memory, or it does not fit."""

from dataclasses import replace

from pi_cli.planning import verdicts
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel
from pi_cli.planning.verdicts import CatalogueVerdict
from tests.planning import profiles


def judge(profile: KnownModel, spaces: list[GpuSpace]) -> CatalogueVerdict:
    return verdicts.judge(profile, spaces, pod="dc1")


def test_a_model_fits_if_it_serves_its_context_to_several_requests_at_once() -> None:
    verdict = judge(profiles.catalogued(("H100", 2, ("--tensor-parallel-size", "2"))), profiles.spaces(2))
    assert verdict.status == "fits"
    assert verdict.plan
    assert verdict.plan.gpus == (0, 1)
    assert verdict.reason == verdict.brief == ""


def test_a_model_is_tight_if_it_serves_its_context_to_one_request() -> None:
    verdict = judge(profiles.catalogued(("H100", 1, ())), profiles.spaces(1))
    assert verdict.status == "tight"
    assert verdict.plan
    assert verdict.plan.is_tight


def test_the_verdict_on_a_model_that_is_too_large_compares_its_memory_with_the_gpus() -> None:
    verdict = judge(profiles.catalogued(("H100", 8, ("--tensor-parallel-size", "8"))), profiles.spaces(2, "L4"))
    assert verdict.status == "no"
    assert verdict.plan is None
    assert verdict.brief == "needs 67 GiB, has 41"
    assert verdict.reason == (
        "its weights take 30.5 GiB of each GPU and running it about 3.2, but 2x L4 offer 20.4 each"
    )


def test_a_model_that_cannot_be_split_is_compared_with_the_gpus_that_it_can_use() -> None:
    odd_heads = replace(profiles.DENSE_32B, heads=7)
    verdict = judge(profiles.from_hub(architecture=odd_heads), profiles.spaces(2, "L4"))
    assert verdict.brief == "needs 64 GiB, 1 GPU has 20"
    assert verdict.reason.endswith("and its 7 attention heads cannot be split over 2 GPUs")


def test_the_verdict_on_a_model_with_too_little_memory_for_its_context_names_the_context_that_fits() -> None:
    verdict = judge(profiles.from_hub(weights=72.5e9), profiles.spaces(1))
    assert verdict.status == "no"
    assert verdict.brief.startswith("only ")
    assert verdict.brief.endswith(" tokens fit")
    assert "for its KV cache" in verdict.reason


def test_a_model_that_would_fit_without_other_models_has_no_room() -> None:
    spaces = profiles.spaces(1, qwen=profiles.running("0"), coder=profiles.running("0"))
    verdict = judge(profiles.catalogued(("H100", 1, ())), spaces)
    assert verdict.status == "no room"
    assert verdict.brief == "used by `coder`, `qwen`"
    assert "GPU 0" in verdict.reason


def test_memory_that_no_model_of_pi_uses_is_used_by_other_processes() -> None:
    verdict = judge(profiles.catalogued(("H100", 1, ())), profiles.spaces(1, used={0: 70000}))
    assert (verdict.status, verdict.brief) == ("no room", "used by other processes")


def test_a_model_that_does_not_fit_the_empty_gpu_is_not_blamed_on_other_models() -> None:
    spaces = profiles.spaces(1, "L4", qwen=profiles.running("0"))
    assert judge(profiles.catalogued(("H100", 1, ())), spaces).status == "no"


def test_weights_of_a_type_that_the_gpu_does_not_support_need_a_newer_gpu() -> None:
    verdict = judge(profiles.from_hub(weights=5e9, dtype="mxfp4"), profiles.spaces(1, "T4"))
    assert (verdict.status, verdict.brief) == ("no", "MXFP4 needs a newer GPU")
    assert "compute capability" in verdict.reason
