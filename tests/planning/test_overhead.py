"""How near the estimate of the memory beside weights and KV cache comes to what public logs say."""

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pi_cli.planning import catalogue, fit, lookup, overhead
from pi_cli.planning.architecture import Architecture
from pi_cli.planning.fit import MeasuredMemory, ModelShape
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.overhead import Batch, Overhead
from pi_cli.planning.widths import UNKNOWN_WIDTHS
from pi_cli.store.records import Gpu
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.vllm_arguments import Options
from tests.planning.overhead_logs import (
    GLM_5_2,
    GPT_OSS_20B,
    HOPPER,
    LARGE,
    LLAMA_8B,
    LOGS,
    QWEN_3_30B,
    QWEN_3_235B,
    STARTS,
    Log,
    Start,
)
from tests.properties import PROPERTY

ARCHITECTURE_PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
MOST_TOO_HIGH = 2.5  # GiB; the rest goes to the KV cache anyway
PROFILES = {entry.id: lookup.from_catalogue(entry) for entry in catalogue.entries()}


def predicted(log: Log) -> Overhead:
    return overhead.estimate(log.model, log.weights, "", log.options, log.batch, log.capability, vllm=log.vllm)


def before(log: Log) -> float:
    """Return the constants that the estimate replaces."""
    return 2.5 if log.total < 50 else 4.0


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_the_estimate_is_within_its_error_of_what_vllm_logged(log: Log) -> None:
    estimated = predicted(log)
    assert -estimated.error <= estimated.total - log.overhead <= MOST_TOO_HIGH


def test_the_error_is_what_the_docs_say() -> None:
    errors = [predicted(log).total - log.overhead for log in LOGS]
    assert len(LOGS) == 48
    assert median(map(abs, errors)) == pytest.approx(0.12, abs=0.01)
    assert min(errors) == pytest.approx(-1.95, abs=0.01)
    assert max(errors) == pytest.approx(2.30, abs=0.01)
    too_low_for_dense_models = [error for log, error in zip(LOGS, errors, strict=True) if not log.model.expert_size]
    assert min(too_low_for_dense_models) == pytest.approx(-0.14, abs=0.01)
    for page in (" ".join(ARCHITECTURE_PAGE.read_text().split()), overhead.__doc__ or ""):
        for figure in ("48 public logs of vLLM 0.10 to 0.31", "0.12 GiB", "1.95", "2.3", "0.14", "8.3"):
            assert figure in page


def test_the_constants_were_further_from_the_logs() -> None:
    errors = [before(log) - log.overhead for log in LOGS]
    assert median(map(abs, errors)) == pytest.approx(1.0, abs=0.01)
    assert min(errors) == pytest.approx(-8.26, abs=0.01)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.name)
def test_a_catalogued_model_leaves_as_much_for_the_kv_cache_as_vllm_logged(start: Start) -> None:
    options = vllm_arguments.parse(start.arguments)
    space = GpuSpace(Gpu(0, "a GPU", ""), start.total, kind=start.kind, capability=start.capability)
    shape = PROFILES[start.model].shape
    memory = fit.estimate(shape, [space], options).memory
    estimated = overhead.estimate(
        *(shape.architecture, memory.weights, shape.dtype, options, fit.batch(space, options), start.capability),
        vllm=start.vllm,
    )
    kv_cache = memory.total * options.memory - memory.weights - estimated.total
    assert -2.7 <= kv_cache - start.kv_cache <= estimated.error


def estimated(model: Architecture | None, options: Options | None = None, **more: object) -> Overhead:
    settings = {"weights": 15.0, "dtype": "", "options": options or Options(), "batch": LARGE, "capability": HOPPER}
    return overhead.estimate(model, **settings | more)  # type: ignore[arg-type]


def test_each_part_follows_what_it_depends_on() -> None:
    alone = estimated(LLAMA_8B)
    assert alone.communication == alone.packing == alone.workspaces == 0
    assert estimated(LLAMA_8B, Options(tensor=2)).communication == 2.0
    assert estimated(LLAMA_8B, Options(tensor=2), capability=(8, 6)).communication == 0.4
    assert estimated(LLAMA_8B, Options(is_eager=True)).graphs == 0
    assert estimated(LLAMA_8B, batch=Batch(2048, 256)).activations < alone.activations
    assert estimated(QWEN_3_30B).workspaces == pytest.approx(0.5)
    assert estimated(QWEN_3_235B, Options(tensor=4)).workspaces == pytest.approx(1.0)
    assert estimated(GPT_OSS_20B, weights=12.8, dtype="mxfp4").packing == pytest.approx(1.09, abs=0.01)
    assert estimated(GLM_5_2).workspaces > estimated(GLM_5_2, batch=Batch(2048, 256)).workspaces


def test_text_only_leaves_out_the_encoder_of_images() -> None:
    model = PROFILES["Qwen/Qwen3.8-27B-FP8"].shape.architecture
    assert estimated(model, Options(is_text_only=True)).total < estimated(model).total


def test_what_is_not_known_makes_the_error_larger_and_the_estimate_not_smaller() -> None:
    for model in (LLAMA_8B, QWEN_3_235B):
        unknown = estimated(replace(model, widths=UNKNOWN_WIDTHS))
        assert unknown.error == estimated(model).error + 1.0
        assert unknown.total >= estimated(model).total
    assert estimated(None, weights=200.0).error > estimated(None, weights=20.0).error


def test_experts_with_data_parallelism_are_uncertain_by_a_third() -> None:
    overhead_of_eight = estimated(QWEN_3_235B, Options(data=8, is_expert_parallel=True))
    assert overhead_of_eight.error == pytest.approx(overhead_of_eight.total / 3, rel=0.02)


@PROPERTY
@given(
    st.sampled_from([log.model for log in LOGS]),
    st.integers(1, 65536),
    st.integers(1, 4096),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([(7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0), None]),
)
def test_a_larger_batch_never_needs_less(
    model: Architecture, tokens: int, sequences: int, tensor: int, capability: tuple[int, int] | None
) -> None:
    options = Options(tensor=tensor)
    small = estimated(model, options, batch=Batch(tokens, min(sequences, tokens)), capability=capability)
    large = estimated(model, options, batch=Batch(2 * tokens, min(2 * sequences, 2 * tokens)), capability=capability)
    assert 0 < small.total <= large.total
    assert small.error > 0


@PROPERTY
@given(
    st.sampled_from([log.model for log in LOGS]),
    st.floats(1e9, 75e9),
    st.integers(1, 200_000),
    st.sampled_from([(24564, (8, 9)), (81559, HOPPER), (183359, (10, 0))]),
)
def test_a_context_that_does_not_hang_on_the_estimate_fits_even_if_the_estimate_is_wrong(
    model: Architecture, weights: float, context: int, gpu: tuple[int, tuple[int, int]]
) -> None:
    space = GpuSpace(Gpu(0, "a GPU", ""), gpu[0], capability=gpu[1])
    options = Options(context=min(context, model.max_context))
    shape = ModelShape(weights, "", model)
    expected = fit.estimate(shape, [space], options)
    assume(not expected.hangs_on_the_estimate)
    worst = MeasuredMemory(expected.memory.weights + expected.memory.overhead + expected.error)
    assert fit.estimate(shape, [space], options, worst).is_enough


def test_a_measured_start_overrides_the_estimate_and_has_no_error() -> None:
    space = GpuSpace(Gpu(0, "a GPU", ""), 81559, capability=HOPPER)
    shape = ModelShape(16e9, "bfloat16", LLAMA_8B)
    expected = fit.estimate(shape, [space], Options())
    measured = fit.estimate(shape, [space], Options(), MeasuredMemory(20.0))
    assert expected.error == 1.0
    assert measured.error == 0.0
    assert measured.memory.weights + measured.memory.overhead == pytest.approx(20.0)
