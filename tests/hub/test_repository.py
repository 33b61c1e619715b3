"""What the Hub says of a model is checked where it enters: nonsense is left out, and no field of it is a crash."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.hub import forms, model_kind, repository, servable
from pi_cli.hub.hub_search import Form
from pi_cli.hub.repository import Base, Repository
from pi_cli.hub.servable import Target
from pi_cli.planning import inheritance
from pi_cli.vllm.abilities import Abilities
from tests.properties import PROPERTY

KEYS = [
    *("architectures", "model_type", "quantization_config", "quantization", "compression_config", "text_config"),
    *("quant_method", "producer", "name", "quant_algo", "bits", "auto_map", "num_hidden_layers", "id2label"),
    *("base_model", "base_model_relation", "cardData", "tags", "pipeline_tag", "library_name", "id"),
    *("peft_type", "r", "rank_pattern", "base_model_name_or_path", "use_dora"),
]
WORDS = [
    *("Qwen3ForCausalLM", "LlamaForCausalLMEagle3", "Unknown9ForCausalLM", "InternLMForCausalLM", "MPNetModel"),
    *("a/b", "../..", "base_model:quantized:Qwen/Qwen3-8B", "base_model:x", "modelopt", "awq", "\x1b[31m", "peft"),
]
LEAVES = (
    st.none() | st.booleans() | st.integers(-1, 600) | st.floats(allow_nan=False) | st.sampled_from(WORDS) | st.text()
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8)
FILES = [
    *("config.json", "params.json", "model.safetensors", "m.gguf", "adapter_config.json", "adapter_model.bin"),
    *(
        "model_index.json",
        "onnx/model.onnx",
        "tokenizer.json",
        "transformer/model.safetensors",
        "modules.json",
        "[",
        "/",
    ),
]


@PROPERTY
@given(OBJECTS, OBJECTS | st.none(), OBJECTS | st.none(), st.sets(st.sampled_from(FILES)), st.booleans(), st.booleans())
def test_no_answer_of_a_hub_is_a_crash(
    info: dict[str, Any],
    config: dict[str, Any] | None,
    adapter: dict[str, Any] | None,
    names: set[str],
    is_of_pod: bool,
    has_own: bool,
) -> None:
    about = repository.about(info)
    found = Repository("someone/model", config, None, {}, None, False, frozenset(names), about, adapter)
    target = Target(is_of_pod=is_of_pod, pod="dc1", name="q")
    refused = servable.refusal(found, target, ["--enforce-eager"] if has_own else None)
    servable.note(found, target)
    model_kind.of(found.id, repository.architectures(config), target.vllm, about=about, files=names, config=config)
    inheritance.by_architecture(found, [])
    inheritance.by_name(inheritance.parents(about))
    if refused:
        assert refused.reason.isprintable()
        assert (refused.hint or forms.hint([], refused.base, "q")).isprintable()


@PROPERTY
@given(OBJECTS)
def test_base_models_are_names_of_the_hub_and_never_the_model_itself(info: dict[str, Any]) -> None:
    for base in repository.about({**info, "id": "a/b"}).bases:
        assert repository.REPOSITORY_ID.fullmatch(base.id)
        assert base.id != "a/b"


@pytest.mark.parametrize(
    ("info", "bases"),
    [
        ({"cardData": {"base_model": "a/b"}}, [Base("a/b")]),
        (
            {"cardData": {"base_model": ["a/b", "c/d"], "base_model_relation": "merge"}},
            [Base("a/b", "merge"), Base("c/d", "merge")],
        ),
        ({"tags": ["base_model:a/b", "base_model:quantized:a/b"]}, [Base("a/b", "quantized")]),
        ({"tags": ["base_model:adapter:a/b"], "cardData": {"base_model": "a/b"}}, [Base("a/b", "adapter")]),
        ({"tags": ["base_model:../..", "base_model:a b", "license:mit"]}, []),
    ],
)
def test_base_models_are_read_from_tags_and_from_the_card(info: dict[str, Any], bases: list[Base]) -> None:
    assert list(repository.about(info).bases) == bases


def test_abilities_that_are_not_known_are_never_a_reason_to_refuse() -> None:
    config = {"architectures": ["Unknown9ForCausalLM"], "quantization_config": {"quant_method": "aqlm"}}
    found = Repository("a/b", config, 5, {}, 5, False, frozenset({"config.json", "model.safetensors"}))
    assert servable.refusal(found, Target(Abilities(), is_of_pod=True)) is None
    assert servable.note(found, Target(Abilities())) is None


@pytest.mark.parametrize(
    ("config", "doubt"),
    [
        ({"architectures": ["Unknown9ForCausalLM"]}, "can serve the architecture `Unknown9ForCausalLM`"),
        (
            {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "bitsandbytes"}},
            "can load weights quantised with bitsandbytes",
        ),
    ],
)
def test_what_another_version_of_vllm_can_do_is_said_to_be_unknown(config: dict[str, Any], doubt: str) -> None:
    found = Repository("a/b", config, 5, {}, 5, False, frozenset({"config.json", "model.safetensors"}))
    assert servable.refusal(found, Target()) is not None
    older = Target(pod="dc1", other="vLLM 0.20.0")
    assert servable.refusal(found, older) is None
    assert servable.note(found, older) == f"whether vLLM 0.20.0 {doubt} is not known"


def test_the_pods_own_vllm_refuses_an_unknown_architecture_with_own_arguments_too() -> None:
    config = {"architectures": ["Unknown9ForCausalLM"]}
    found = Repository("a/b", config, 5, {}, 5, False, frozenset({"config.json", "model.safetensors"}))
    for own, is_refused in (
        (["--enforce-eager"], True),
        (["--hf-overrides", "{}"], False),
        (["--model_impl=x"], False),
    ):
        assert (servable.refusal(found, Target(is_of_pod=True, pod="dc1"), own) is not None) == is_refused
        assert servable.refusal(found, Target(), own) is None
    refused = servable.refusal(found, Target(is_of_pod=True, pod="dc1"))
    assert refused is not None
    assert refused.hint == "a newer vLLM may: `pi pods setup dc1 --vllm nightly`"


@pytest.mark.parametrize(
    ("id", "tags", "is_small", "chosen"),
    [
        ("a/m-AWQ", [], True, True),
        ("a/m_w4a16", ["compressed-tensors"], True, True),
        ("a/m", ["fp8", "compressed-tensors"], False, True),
        ("a/m-AWQ-GGUF", ["gguf"], True, False),
        ("a/m-fp8-mlx", [], False, False),
        ("a/m", ["bitsandbytes", "4-bit"], True, False),
        ("a/m-bf16", [], False, False),
    ],
)
def test_forms_that_vllm_can_serve_are_known_by_tags_and_names(
    id: str, tags: list[str], is_small: bool, chosen: bool
) -> None:
    form = Form(id, frozenset(tags))
    assert forms.choose([form], Target().vllm, is_small=is_small) == ([id] if chosen else [])
