"""Which GPUs run which weights and which attention, by what a vLLM says about itself."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.planning import catalogue, lookup, quantisation
from pi_cli.planning.fit import ModelShape
from pi_cli.vllm.abilities import Abilities, Vllm
from tests.properties import PROPERTY

RELEASE = Vllm()


def config(method: str, **settings: object) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": method} | settings}


def compressed(weights: dict[str, object], inputs: dict[str, object] | None = None) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs}}
    return config("compressed-tensors", config_groups=groups)


FP8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
FP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
QUARK_FP8 = {"weight": {"dtype": "fp8_e4m3"}, "input_tensors": {"dtype": "fp8_e4m3"}}
MXFP4 = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}


@pytest.mark.parametrize(
    ("of", "methods", "least"),
    [
        ({}, (), None),
        (config("fp8", weight_block_size=[128, 128]), ("fp8",), (7, 5)),
        (config("fp8") | {"model_type": "deepseek_v4"}, ("deepseek_v4_fp8",), (7, 5)),
        (config("FP8"), ("fp8",), (7, 5)),
        (config("fbgemm_fp8"), ("fbgemm_fp8",), (8, 0)),
        (config("mxfp4") | {"model_type": "gpt_oss"}, ("gpt_oss_mxfp4",), (8, 0)),
        (config("mxfp8"), ("mxfp8",), (8, 0)),
        (config("awq"), ("awq",), (7, 5)),
        (config("gptq"), ("gptq",), (6, 0)),
        (config("modelopt", quant_algo="FP8"), ("modelopt",), (8, 0)),
        (config("modelopt", quant_algo="NVFP4"), ("modelopt_fp4",), (7, 5)),
        (config("modelopt", quantization={"quant_algo": "W4A16_NVFP4"}), ("modelopt_fp4",), (7, 5)),
        (config("modelopt", quant_algo="MXFP8"), ("modelopt_mxfp8",), (8, 0)),
        (config("modelopt", quant_algo="MIXED_PRECISION"), ("modelopt_mixed",), (7, 5)),
        (compressed(FP8, FP8), ("compressed-tensors", "CompressedTensorsW8A16Fp8"), (7, 5)),
        (compressed(FP4, FP4), ("compressed-tensors", "CompressedTensorsW4A4Fp4"), (7, 5)),
        (compressed(MXFP4), ("compressed-tensors", "CompressedTensorsW4A4Mxfp4"), (8, 0)),
        (compressed(MXFP4, FP8), ("compressed-tensors", "CompressedTensorsW4A8Mxfp4"), (8, 0)),
        (compressed(INT4), ("compressed-tensors",), (7, 0)),
        (compressed(INT4, FP8), ("compressed-tensors", "CompressedTensorsW4A8Fp8"), (9, 0)),
        (config("quark", global_quant_config=QUARK_FP8), ("quark", "QuarkW8A8Fp8"), (8, 9)),
        (config("quark", global_quant_config={"weight": {"dtype": "fp4"}}), ("quark",), (7, 0)),
        (config("bitsandbytes"), ("bitsandbytes",), None),
    ],
)  # fmt: skip
def test_the_method_is_read_from_the_configuration_and_its_least_capability_from_vllm(
    of: dict[str, Any], methods: tuple[str, ...], least: tuple[int, int] | None
) -> None:
    assert quantisation.methods(of) == methods
    shape = ModelShape(1e9, "fp8", methods=methods or ("none",))
    runs = [each for each in ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0)) if not quantisation.unmet(shape, each, RELEASE)]
    assert runs[0] == max(least or (7, 5), (7, 5))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["quant_method", "quant_algo", "quantization", "config_groups", "weights", "num_bits", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@PROPERTY
@given(JSON, st.sampled_from(["modelopt", "compressed-tensors", "quark", "fp8"]))
def test_no_configuration_of_a_stranger_breaks_the_plan(settings: object, method: str) -> None:
    given_config = {"quantization_config": settings}
    quantisation.methods(given_config)
    if isinstance(settings, dict):
        names = quantisation.methods({"quantization_config": settings | {"quant_method": method}})
        assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (11, 0)])
def test_a_model_with_sparse_attention_is_refused_where_no_backend_runs_it(capability: tuple[int, int]) -> None:
    """DeepSeek-V3.2 and GLM-5 in FP4 have the memory of eight A100s, and vLLM 0.32 has no attention for them there."""
    lacking = quantisation.unmet(ModelShape(1e9, "nvfp4", is_sparse=True), capability, RELEASE)
    assert lacking is not None
    suitable = "9.0, 10.0, 10.3, 12.0 or 12.1"
    has = f"{capability[0]}.{capability[1]}"
    assert lacking.text == f"in vLLM 0.32.0 its sparse attention needs compute capability {suitable}, and it has {has}"
    assert lacking.brief == f"sparse attention needs {'another' if has == '11.0' else 'a newer'} GPU"


@pytest.mark.parametrize("capability", [(9, 0), (10, 0), (12, 1), (13, 0), None])
def test_a_model_with_sparse_attention_runs_on_newer_gpus(capability: tuple[int, int] | None) -> None:
    assert quantisation.unmet(ModelShape(1e9, "fp8", is_sparse=True), capability, RELEASE) is None


def test_vllm_itself_needs_a_gpu_of_turing_or_newer() -> None:
    lacking = quantisation.unmet(ModelShape(1e9), (7, 0), Vllm("0.1.0", Abilities(), is_certain=False))
    assert lacking
    assert (lacking.text, lacking.brief) == (
        "vLLM needs compute capability 7.5, and it has 7.0",
        "vLLM needs a newer GPU",
    )


def test_what_another_version_says_is_a_remark_and_not_a_refusal() -> None:
    shape = ModelShape(1e9, "mxfp4")
    other = replace(RELEASE, version="0.31.0", is_certain=False)
    assert quantisation.unmet(shape, (7, 5), other) is None
    [remark] = quantisation.remarks(shape, "T4", (7, 5), other, "dc1")
    needs = "vLLM 0.32.0 needs compute capability 8.0 for MXFP4 weights, and it has 7.5"
    assert remark == f"it is not known what vLLM 0.31.0 can do: {needs}; `pi pods setup dc1` asks it"


def test_a_vllm_that_can_do_more_than_the_release_is_believed() -> None:
    newer = Vllm("0.40.0", Abilities("0.40.0", quantisations={"mxfp4": (7, 5)}))
    assert quantisation.unmet(ModelShape(1e9, "mxfp4"), (7, 5), newer) is None
    assert quantisation.unmet(ModelShape(1e9, "fp8"), (7, 5), newer) is None  # it does not say


def test_the_catalogue_names_methods_that_the_release_has() -> None:
    for entry in catalogue.entries():
        shape = lookup.from_catalogue(entry, []).shape
        names = shape.methods or quantisation.METHODS_OF_TYPES.get(shape.dtype, ())
        assert set(names) <= set(RELEASE.abilities.quantisations), entry.id
