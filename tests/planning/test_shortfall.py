"""How much memory a model lacks: one value for the refusal and for the catalogue's list."""

import pytest

from pi_cli.planning import shortfall
from pi_cli.planning.candidates import Constraints
from tests.planning.profiles import from_hub, spaces


def test_the_shortfall_is_that_of_the_candidate_with_the_most_memory() -> None:
    lacking = shortfall.compute(from_hub(), Constraints(), spaces(2, "L4"))
    assert lacking is not None
    assert (lacking.count, lacking.kind, lacking.kv_cache) == (2, "L4", 0.0)
    assert lacking.weights == pytest.approx(65.5e9 / 2**30 / 2)


def test_the_constraints_count() -> None:
    whole = shortfall.compute(from_hub(), Constraints(), spaces(2))
    half = shortfall.compute(from_hub(), Constraints(memory=0.46), spaces(2))
    one = shortfall.compute(from_hub(), Constraints(gpus=1), spaces(2))
    assert whole is not None
    assert half is not None
    assert one is not None
    assert half.usable == pytest.approx(whole.usable / 2)
    assert (whole.count, one.count) == (2, 1)


def test_gpus_that_cannot_run_the_model_have_no_shortfall() -> None:
    assert shortfall.compute(from_hub(dtype="mxfp4"), Constraints(), spaces(8, "T4")) is None
