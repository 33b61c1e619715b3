"""What a model that is not in the catalogue has from the one that the Hub names as its base model."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pi_cli.planning import lookup
from pi_cli.planning.inheritance import CODE_WITHHELD, TOOLS_OFF
from pi_cli.planning.profile import KnownModel
from tests.lab.hub import Hub

QWEN_MOE: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}
QWEN_2: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "hidden_size": 5120,
    "max_position_embeddings": 131072,
}
LLAMA: dict[str, Any] = QWEN_2 | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def publish(
    hub: Hub, model: str, config: dict[str, Any], base: object = (), relation: str = "", **files: bytes
) -> None:
    card = {"base_model": base} | ({"base_model_relation": relation} if relation else {})
    weights: dict[str, int | bytes] = {"model.safetensors": 16_000_000_000}
    content = weights | {"config.json": json.dumps(config).encode(), **files}
    hub.add_synthetic(model, content, cardData=card)


def found(hub: Hub, model: str) -> KnownModel:
    profile = asyncio.run(lookup.find(model, token=None, endpoint=hub.url))
    assert isinstance(profile, KnownModel)
    return profile


def test_a_quantised_form_has_the_parsers_of_its_base_model(hub: Hub) -> None:
    publish(hub, "someone/q-awq", QWEN_MOE, "Qwen/Qwen3-30B-A3B", "quantized")
    profile = found(hub, "someone/q-awq")
    assert (profile.tool_call_parser, profile.reasoning_parser) == ("hermes", "qwen3")
    assert profile.needed_vllm == "0.8.5"
    assert profile.notes == ("tools and reasoning as for `Qwen/Qwen3-30B-A3B`, its base model",)
    assert len(hub.asked("GET", "/api/models/")) == 1, "the description names the base model: no further request"


def test_a_base_model_of_which_the_catalogue_has_another_form_counts(hub: Hub) -> None:
    publish(hub, "someone/q-gptq", QWEN_MOE, "unsloth/Qwen3-Coder-480B-A35B-Instruct", "quantized")
    profile = found(hub, "someone/q-gptq")
    assert (profile.tool_call_parser, profile.reasoning_parser) == ("qwen3_coder", None)
    assert profile.notes == ("tools as for `Qwen/Qwen3-Coder-480B-A35B-Instruct`, its base model",)


def test_the_base_model_of_a_base_model_is_found_in_at_most_three_steps(hub: Hub) -> None:
    publish(hub, "a/one", QWEN_MOE, "b/two", "quantized")
    publish(hub, "b/two", QWEN_MOE, "c/three")
    publish(hub, "c/three", QWEN_MOE, "Qwen/Qwen3-30B-A3B")
    assert found(hub, "a/one").tool_call_parser == "hermes"
    publish(hub, "c/three", QWEN_MOE, "d/four")
    publish(hub, "d/four", QWEN_MOE, "Qwen/Qwen3-30B-A3B")
    hub.requests.clear()
    assert found(hub, "a/one").notes == (TOOLS_OFF,)
    assert len(hub.asked("GET", "/api/models/")) == 3


def test_models_that_were_made_from_each_other_end(hub: Hub) -> None:
    publish(hub, "a/one", QWEN_MOE, "b/two")
    publish(hub, "b/two", QWEN_MOE, ["a/one", "b/two"])
    assert found(hub, "a/one").notes == (TOOLS_OFF,)


def test_the_quantised_model_counts_before_the_merged_one(hub: Hub) -> None:
    tags = ["base_model:merge:Qwen/Qwen3-32B", "base_model:quantized:Qwen/Qwen3-Coder-30B-A3B-Instruct"]
    config = json.dumps(QWEN_MOE).encode()
    hub.add_synthetic("someone/both", {"config.json": config, "model.safetensors": 16_000_000_000}, tags=tags)
    assert found(hub, "someone/both").tool_call_parser == "qwen3_coder"


def test_a_form_by_its_name_needs_the_same_architecture(hub: Hub) -> None:
    publish(hub, "someone/Qwen3-30B-A3B-GPTQ-Int4", QWEN_MOE)
    publish(hub, "other/Qwen3-30B-A3B-AWQ", LLAMA)
    note = "tools and reasoning as for `Qwen/Qwen3-30B-A3B`, another form of it by its name"
    assert found(hub, "someone/Qwen3-30B-A3B-GPTQ-Int4").notes == (note,)
    assert found(hub, "other/Qwen3-30B-A3B-AWQ").notes != (note,)


@pytest.mark.parametrize(
    ("model", "base", "note"),
    [
        (
            "Qwen/Qwen3-60B-A6B-Instruct-2507",
            (),
            "tools as for `Qwen/Qwen3-30B-A3B-Instruct-2507`, a model of the same family by its name",
        ),
        (
            "someone/q-awq",
            "Qwen/Qwen3-60B-A6B-Instruct-2507",
            "tools as for `Qwen/Qwen3-30B-A3B-Instruct-2507`, a model of the same family as its base model",
        ),
        ("Qwen/Qwen3-60B-A6B-Thinking-2507", (), TOOLS_OFF),
    ],
)
def test_another_size_of_the_same_family_counts_with_the_same_architecture(
    hub: Hub, model: str, base: object, note: str
) -> None:
    publish(hub, model, QWEN_MOE, base)
    assert found(hub, model).notes == (note,)
    publish(hub, model, LLAMA, base)
    assert note == TOOLS_OFF or found(hub, model).notes != (note,)


@pytest.mark.parametrize("base", [(), "Qwen/Qwen2.5-32B", "Qwen/Qwen2.5-72B-Instruct"])
def test_a_distilled_model_thinks_whatever_it_was_made_from(hub: Hub, base: object) -> None:
    publish(hub, "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", QWEN_2, base)
    profile = found(hub, "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B")
    assert (profile.tool_call_parser, profile.reasoning_parser) == (None, "deepseek_r1")
    assert profile.notes == ("reasoning parser `deepseek_r1`, by its name; tool calls are off",)


def test_a_form_of_a_distilled_model_thinks_too(hub: Hub) -> None:
    publish(hub, "someone/q", QWEN_2, "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "quantized")
    assert found(hub, "someone/q").reasoning_parser == "deepseek_r1"


def test_arguments_about_the_model_are_inherited_and_those_about_hardware_are_not(hub: Hub) -> None:
    deepseek = QWEN_MOE | {"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32"}
    publish(hub, "someone/v32", deepseek, "deepseek-ai/DeepSeek-V3.2", "quantized")
    profile = found(hub, "someone/v32")
    assert profile.arguments == ("--tokenizer-mode", "deepseek_v32")
    assert (profile.tool_call_parser, profile.reasoning_parser) == ("deepseek_v32", "deepseek_v3")


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        ({}, ()),
        ({"tekken.json": b"{}"}, ("--tokenizer-mode", "mistral")),
        (
            {"tekken.json": b"{}", "params.json": b"{}"},
            ("--tokenizer-mode", "mistral", "--config-format", "mistral"),
        ),
    ],
)
def test_mistrals_own_formats_are_inherited_with_their_files(
    hub: Hub, files: dict[str, bytes], arguments: tuple[str, ...]
) -> None:
    publish(hub, "someone/m", LLAMA, "mistralai/Ministral-3-14B-Reasoning-2512", "quantized", **files)
    assert sorted(found(hub, "someone/m").arguments) == sorted(arguments)


def test_code_of_a_repository_runs_only_for_owners_that_the_catalogue_knows(hub: Hub) -> None:
    base = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    for model in ("nvidia/Nano-INT4", "someone/Nano-INT4"):
        publish(hub, model, QWEN_MOE, base, "quantized")
    assert "--trust-remote-code" in found(hub, "nvidia/Nano-INT4").arguments
    profile = found(hub, "someone/Nano-INT4")
    assert "--trust-remote-code" not in profile.arguments
    assert profile.notes == (f"tools and reasoning as for `{base}`, its base model; {CODE_WITHHELD}",)


def test_tools_are_off_as_for_the_base_model(hub: Hub) -> None:
    publish(hub, "someone/phi", LLAMA, "microsoft/phi-4", "quantized")
    assert found(hub, "someone/phi").notes == ("tool calls are off, as for `microsoft/phi-4`, its base model",)


def test_without_a_base_model_all_models_of_the_architecture_must_agree(hub: Hub) -> None:
    publish(hub, "someone/qwen2", QWEN_2)
    note = "tools as for all models of the catalogue with the architecture `Qwen2ForCausalLM`"
    assert found(hub, "someone/qwen2").notes == (note,)
    publish(hub, "someone/moe", QWEN_MOE)
    assert found(hub, "someone/moe").notes == (TOOLS_OFF,)


def test_a_hub_that_does_not_answer_about_the_base_model_changes_only_the_parsers(hub: Hub) -> None:
    publish(hub, "someone/moe", QWEN_MOE, "no/such", "quantized")
    profile = found(hub, "someone/moe")
    assert (profile.notes, profile.shape.weights) == ((TOOLS_OFF,), 16e9)
