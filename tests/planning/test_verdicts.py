"""What a model comes to on given GPUs: it fits, it is tight, others hold its space, or it does not fit."""

from pi_cli.planning import verdicts
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import ModelProfile
from pi_cli.planning.verdicts import CatalogueVerdict
from tests.planning import profiles


def judge(profile: ModelProfile, spaces: list[GpuSpace]) -> CatalogueVerdict:
    return verdicts.judge(profile, spaces, pod="dc1")


def test_a_model_fits_that_serves_its_context_to_several_at_once() -> None:
    verdict = judge(profiles.known(("H100", 2, ("--tensor-parallel-size", "2"))), profiles.spaces(2))
    assert verdict.status == "fits"
    assert verdict.plan
    assert verdict.plan.gpus == (0, 1)
    assert verdict.reason == verdict.brief == ""


def test_a_model_is_tight_that_serves_its_context_to_one() -> None:
    verdict = judge(profiles.known(("H100", 1, ())), profiles.spaces(1))
    assert verdict.status == "tight"
    assert verdict.plan
    assert verdict.plan.is_tight


def test_a_model_that_is_too_large_says_how_much_it_needs_and_what_there_is() -> None:
    verdict = judge(profiles.known(("H100", 8, ("--tensor-parallel-size", "8"))), profiles.spaces(2, "L4"))
    assert verdict.status == "no"
    assert verdict.plan is None
    assert verdict.brief == "needs 66 GiB, has 41"
    assert "its weights take 30.5 GiB of each GPU" in verdict.reason


def test_a_model_that_cannot_be_split_is_compared_with_the_gpus_that_it_can_use() -> None:
    verdict = judge(profiles.unknown(architecture=None), profiles.spaces(2, "L4"))
    assert verdict.brief == "needs 64 GiB, 1 GPU has 20"


def test_a_model_without_room_for_a_context_says_how_long_it_would_be() -> None:
    verdict = judge(profiles.unknown(weights=73.0e9), profiles.spaces(1))
    assert verdict.status == "no"
    assert verdict.brief.startswith("only ")
    assert verdict.brief.endswith(" tokens fit")
    assert "for its KV cache" in verdict.reason


def test_a_model_whose_room_is_held_by_others_would_fit_without_them() -> None:
    spaces = profiles.spaces(1, qwen=profiles.running("0"), coder=profiles.running("0"))
    verdict = judge(profiles.known(("H100", 1, ())), spaces)
    assert verdict.status == "no room"
    assert verdict.brief == "held by `coder`, `qwen`"
    assert "GPU 0" in verdict.reason


def test_memory_that_a_stranger_holds_is_said_to_be_held_by_others() -> None:
    verdict = judge(profiles.known(("H100", 1, ())), profiles.spaces(1, used={0: 70000}))
    assert (verdict.status, verdict.brief) == ("no room", "held by others")


def test_a_model_that_fits_no_empty_gpu_is_not_blamed_on_others() -> None:
    spaces = profiles.spaces(1, "L4", qwen=profiles.running("0"))
    assert judge(profiles.known(("H100", 1, ())), spaces).status == "no"


def test_weights_that_a_gpu_cannot_compute_with_need_a_newer_one() -> None:
    verdict = judge(profiles.unknown(weights=5e9, dtype="mxfp4"), profiles.spaces(1, "T4"))
    assert (verdict.status, verdict.brief) == ("no", "MXFP4 needs a newer GPU")
    assert "compute capability" in verdict.reason
