"""`pi start` refuses what vLLM cannot serve, by what the Hub says, before a pod is asked or a byte is downloaded."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.lab.hub import Hub

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
WEIGHTS: Mapping[str, int | bytes] = {"model.safetensors": 5_000_000_000}
BNB: dict[str, Any] = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def publish(
    hub: Hub, model: str, files: Mapping[str, int | bytes], config: dict[str, Any] | None, **about: Any
) -> None:
    content = {} if config is None else {"config.json": json.dumps(config).encode()}
    hub.add_synthetic(model, {**files, **content}, **about)


def refused(pi: Pi, pod: EmbeddedPod, hub: Hub, model: str, *own: str) -> str:
    result = pi("start", model, "--name", "q", "--dry-run", *own, HF_ENDPOINT=hub.url)
    assert (result.code, result.out) == (2, ""), result.err
    error = without_note(result.err)
    real = pi("start", model, "--name", "q", *own, HF_ENDPOINT=hub.url)
    assert (real.code, without_note(real.err)) == (2, error)
    assert pod.commands == []
    assert hub.asked("GET", "/resolve/main/model") == []
    assert hub.bytes_sent < 500_000, "headers, and no weights"
    return error


def without_note(err: str) -> str:
    """Return what was written to stderr without the note that the Hub is being asked: on a slow machine it is shown."""
    return re.sub(r"\Anote: asking the Hugging Face Hub about `.*`\n", "", err)


def planned(pi: Pi, hub: Hub, model: str, *own: str) -> dict[str, Any]:
    result = pi("start", model, "--name", "q", "--dry-run", "--json", *own, HF_ENDPOINT=hub.url)
    assert result.code == 0, result.err
    [plan] = result.json
    return dict(plan)


def quantised(hub: Hub, base: str, **downloads: int) -> None:
    """Publish forms of a model: `awq=900` is `someone/llama-awq` with 900 downloads."""
    for form, count in downloads.items():
        name = f"someone/llama-{form.replace('_', '-')}"
        card = {"base_model": base, "base_model_relation": "quantized"}
        hub.add_synthetic(name, {}, cardData=card, tags=[form.partition("_")[0]], downloads=count)


# Weights


def test_bitsandbytes_is_refused_with_the_form_that_vllm_can_serve(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    base = "meta-llama/Llama-3.3-70B-Instruct"
    card = {"base_model": base, "base_model_relation": "quantized"}
    model = "unsloth/Llama-3.3-70B-Instruct-bnb-4bit"
    publish(hub, model, WEIGHTS, LLAMA | {"quantization_config": BNB}, cardData=card, tags=["4-bit", "bitsandbytes"])
    quantised(hub, base, gguf=90_000, fp8=500, bitsandbytes=800, awq=400, gptq_int4=300)
    expected = (
        f"error: vLLM 0.32.0 cannot serve `{model}`: it cannot load weights quantised with bitsandbytes\n"
        "hint: start another form of it: `pi start someone/llama-awq --name q` or `someone/llama-gptq-int4`, "
        f"`someone/llama-fp8`; it was made from `{base}`\n"
    )
    assert refused(pi, pod, hub, model) == expected
    assert refused(pi, pod, hub, model, "--vllm", "--quantization", "bitsandbytes") == expected


def test_gguf_is_refused(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    files: dict[str, int | bytes] = {f"Qwen3-8B-{kind}.gguf": 5_000_000_000 for kind in ("Q4_K_M", "Q8_0", "BF16")}
    card = {"base_model": "Qwen/Qwen3-8B", "base_model_relation": "quantized"}
    publish(hub, "unsloth/Qwen3-8B-GGUF", files, LLAMA, cardData=card, library_name="gguf")
    assert refused(pi, pod, hub, "unsloth/Qwen3-8B-GGUF") == (
        "error: vLLM 0.32.0 cannot serve `unsloth/Qwen3-8B-GGUF`: it cannot load weights in the format GGUF\n"
        "hint: choose a form of it in AWQ, GPTQ, FP8 or NVFP4, or start what it was made from: "
        "`pi start Qwen/Qwen3-8B --name q`\n"
    )
    assert planned(pi, hub, "unsloth/Qwen3-8B-GGUF", "--vllm", "--load-format", "gguf")["gpus"] == [0]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"onnx/model.onnx": 5}, "it cannot load weights in the format ONNX"),
        ({"openvino_model.bin": 5, "openvino_model.xml": 5}, "it cannot load weights in the format OpenVINO"),
        ({"params_shard_0.bin": 5, "mlc-chat-config.json": 5}, "it cannot load weights in the format MLC"),
        ({"ggml-model.bin": 5}, "it cannot load weights in the format GGML"),
        ({"rank0.engine": 5}, "it cannot load weights in the format TensorRT-LLM"),
        ({"m.mlpackage/Data/model.mlmodel": 5}, "it cannot load weights in the format Core ML"),
        ({"model.tflite": 5}, "it cannot load weights in the format LiteRT (TensorFlow Lite)"),
        ({"consolidated.00.pth": 5, "tokenizer.model": 5}, "it cannot load weights in the format PyTorch's .pth"),
        (
            {"0_StaticEmbedding/model.safetensors": 5},
            "its weights are in the folder `0_StaticEmbedding`, and vLLM loads those at the top of a repository",
        ),
        ({"tokenizer.json": 5}, "its repository has no weights, only a tokenizer"),
        ({"README.md": 5}, "its repository has no weights"),
    ],
)
def test_weights_that_vllm_cannot_load_are_refused(
    pi: Pi, pod: EmbeddedPod, hub: Hub, files: dict[str, int | bytes], reason: str
) -> None:
    publish(hub, "someone/model", files, LLAMA)
    message, hint = refused(pi, pod, hub, "someone/model").splitlines()
    assert message == f"error: vLLM 0.32.0 cannot serve `someone/model`: {reason}"
    assert hint.startswith("hint: ")


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "consolidated.safetensors"])
def test_pytorchs_and_mistrals_formats_are_planned(pi: Pi, hub: Hub, file: str) -> None:
    publish(hub, "someone/model", {file: 5_000_000_000}, LLAMA)
    assert planned(pi, hub, "someone/model")["gpus"] == [0]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"quantization_config": {"quant_method": "aqlm"}}, "it cannot load weights quantised with aqlm"),
        ({"quantization_config": {"quant_method": "exl2"}}, "it cannot load weights quantised with exl2"),
        (
            {"text_config": {"quantization_config": {"quant_method": "hqq"}}},
            "it cannot load weights quantised with hqq",
        ),
        (
            {"quantization": {"bits": 4, "group_size": 64}, "quantization_config": {"bits": 4, "group_size": 64}},
            "its weights are quantised for MLX, the library for Apple's own processors",
        ),
    ],
)
def test_methods_of_quantisation_that_vllm_does_not_have_are_refused(
    pi: Pi, pod: EmbeddedPod, hub: Hub, config: dict[str, Any], reason: str
) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | config)
    assert refused(pi, pod, hub, "someone/model") == (
        f"error: vLLM 0.32.0 cannot serve `someone/model`: {reason}\n"
        "hint: choose a form of it in AWQ, GPTQ, FP8 or NVFP4, or the model that it was made from\n"
    )


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "auto-round", "bits": 4},
        {"quant_method": "compressed_tensors"},
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
    ],
)
def test_methods_that_vllm_has_are_planned(pi: Pi, hub: Hub, settings: dict[str, Any]) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"quantization_config": settings})
    assert planned(pi, hub, "someone/model")["gpus"] == [0]


def test_the_search_for_other_forms_is_not_needed_for_the_refusal(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    card = {"base_model": ["../../etc", "meta/llama"], "base_model_relation": "quantized"}
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"quantization_config": BNB}, cardData=card)
    hub.can_search = False
    assert refused(pi, pod, hub, "someone/model").endswith(
        "start what it was made from: `pi start meta/llama --name q`\n"
    )


# Adapters


def adapter(hub: Hub, settings: dict[str, Any], **about: Any) -> None:
    content = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "Qwen/Qwen3-8B", **settings}
    files: dict[str, int | bytes] = {
        "adapter_config.json": json.dumps(content).encode(),
        "adapter_model.safetensors": 40_000_000,
    }
    publish(hub, "someone/adapter", files, None, library_name="peft", **about)


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({}, ""),
        ({"r": 8, "rank_pattern": {"q_proj": 24}}, "--max-lora-rank 32 "),
        ({"r": 200}, "--max-lora-rank 256 "),
    ],
)
def test_an_adapter_is_refused_with_the_command_that_serves_it(
    pi: Pi, pod: EmbeddedPod, hub: Hub, settings: dict[str, Any], option: str
) -> None:
    adapter(hub, settings)
    assert refused(pi, pod, hub, "someone/adapter") == (
        "error: vLLM 0.32.0 cannot serve `someone/adapter`: it is a LoRA adapter for `Qwen/Qwen3-8B`, not a model\n"
        "hint: start its base model with it: `pi start Qwen/Qwen3-8B --name qwen3-8b --vllm --enable-lora "
        f"{option}--lora-modules q=someone/adapter`; requests for the model `q` then use it\n"
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"r": 1024}, "a LoRA adapter for `Qwen/Qwen3-8B` of rank 1024, and vLLM serves ranks up to 512"),
        ({"use_dora": True}, "a LoRA adapter for `Qwen/Qwen3-8B` with DoRA, which vLLM does not support"),
        ({"peft_type": "IA3"}, "an adapter for `Qwen/Qwen3-8B` of the kind IA3, and vLLM serves LoRA only"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_at_all_says_so(
    pi: Pi, pod: EmbeddedPod, hub: Hub, settings: dict[str, Any], reason: str
) -> None:
    adapter(hub, settings)
    assert refused(pi, pod, hub, "someone/adapter") == (
        f"error: vLLM 0.32.0 cannot serve `someone/adapter`: it is {reason}\n"
        "hint: choose a repository in which it is merged into its base model\n"
    )


def test_the_base_of_an_adapter_trained_from_a_folder_is_the_one_on_its_page(
    pi: Pi, pod: EmbeddedPod, hub: Hub
) -> None:
    card = {"base_model": "meta/llama", "base_model_relation": "adapter"}
    adapter(hub, {"base_model_name_or_path": "/workspace/llama"}, cardData=card)
    assert "`pi start meta/llama --name llama --vllm --enable-lora" in refused(pi, pod, hub, "someone/adapter")


def test_an_adapter_for_a_form_that_vllm_cannot_serve_is_started_with_what_that_was_made_from(
    pi: Pi, pod: EmbeddedPod, hub: Hub
) -> None:
    card = {"base_model": "Qwen/Qwen3-8B", "base_model_relation": "quantized"}
    publish(hub, "unsloth/Qwen3-8B-unsloth-bnb-4bit", WEIGHTS, LLAMA | {"quantization_config": BNB}, cardData=card)
    adapter(hub, {"base_model_name_or_path": "unsloth/Qwen3-8B-unsloth-bnb-4bit"})
    error = refused(pi, pod, hub, "someone/adapter")
    assert "hint: start its base model with it: `pi start Qwen/Qwen3-8B --name qwen3-8b --vllm --enable-lora " in error
    hub.renamed["unsloth/Qwen3-8B-unsloth-bnb-4bit"] = "no/such"
    assert "`pi start unsloth/Qwen3-8B-unsloth-bnb-4bit --name " in refused(pi, pod, hub, "someone/adapter")


# What is not a language model


def test_a_diffusion_pipeline_is_refused(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    files: dict[str, int | bytes] = {"model_index.json": b"{}", "transformer/diffusion.safetensors": 5_000_000_000}
    publish(hub, "someone/flux", files, None, pipeline_tag="text-to-image", library_name="diffusers")
    expected = (
        "error: vLLM 0.32.0 cannot serve `someone/flux`: it is a diffusion pipeline (text-to-image), "
        "and vLLM serves language models\n"
        "hint: `pi models` shows models that it can serve\n"
    )
    assert refused(pi, pod, hub, "someone/flux") == expected
    assert refused(pi, pod, hub, "someone/flux", "--vllm", "--enforce-eager") == expected


@pytest.mark.parametrize(
    ("config", "about", "reason"),
    [
        (
            {"architecture": "vit_base", "num_classes": 1000},
            {"library_name": "timm"},
            "it is a model of the library `timm`, and its config.json names no architecture",
        ),
        (None, {}, "its repository has no config.json, from which vLLM reads the architecture"),
        (
            {"architectures": ["VitsModel"], "model_type": "vits"},
            {"pipeline_tag": "text-to-speech"},
            "it is a model for text-to-speech, and vLLM has no server for that",
        ),
    ],
)
def test_other_models_than_vllm_serves_are_refused(
    pi: Pi, pod: EmbeddedPod, hub: Hub, config: dict[str, Any] | None, about: dict[str, Any], reason: str
) -> None:
    publish(hub, "someone/model", WEIGHTS, config, **about)
    assert refused(pi, pod, hub, "someone/model") == (
        f"error: vLLM 0.32.0 cannot serve `someone/model`: {reason}\nhint: `pi models` shows models that it can serve\n"
    )


# Architectures


def test_an_unknown_architecture_is_refused_with_the_newer_vllm(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"architectures": ["Llama9ForCausalLM"]})
    assert refused(pi, pod, hub, "someone/model") == (
        "error: vLLM 0.32.0 cannot serve `someone/model`: it does not know the architecture `Llama9ForCausalLM`\n"
        "hint: a newer vLLM may: `pi pods setup dc1 --vllm nightly`; "
        "to try anyway, give vLLM's arguments after `--vllm`\n"
    )
    assert planned(pi, hub, "someone/model", "--vllm", "--enforce-eager")["gpus"] == [0]


def test_a_removed_architecture_is_refused_with_the_last_version(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"architectures": ["InternLMForCausalLM"]})
    assert refused(pi, pod, hub, "someone/model") == (
        "error: vLLM 0.32.0 cannot serve `someone/model`: "
        "its architecture `InternLMForCausalLM` was removed after vLLM 0.23.0\n"
        "hint: that version can serve it: `pi pods setup dc1 --vllm 0.23.0` installs it in place of the pod's\n"
    )


def test_an_architecture_in_the_repository_needs_consent_to_run_its_code(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    own_code = {"architectures": ["OwnForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling.OwnForCausalLM"}}
    publish(hub, "someone/model", WEIGHTS, LLAMA | own_code)
    assert refused(pi, pod, hub, "someone/model") == (
        "error: vLLM 0.32.0 cannot serve `someone/model`: its architecture `OwnForCausalLM` is Python code in its own "
        "repository, which needs your consent\n"
        "hint: to run that code on the pod, `pi start someone/model --name q --vllm --trust-remote-code`\n"
    )
    assert planned(pi, hub, "someone/model", "--vllm", "--trust-remote-code")["gpus"] == [0]


def test_a_draft_model_is_refused_with_the_option_that_uses_it(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    config = LLAMA | {"architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1}
    publish(hub, "someone/llama-eagle3", WEIGHTS, config, cardData={"base_model": "meta/llama"})
    assert refused(pi, pod, hub, "someone/llama-eagle3") == (
        "error: vLLM 0.32.0 cannot serve `someone/llama-eagle3`: "
        "it is a draft model for speculative decoding, not a model of its own\n"
        "hint: start the model that it drafts for with it: `pi start meta/llama --name q --vllm --speculative-config "
        '\'{"method": "eagle3", "model": "someone/llama-eagle3", "num_speculative_tokens": 3}\'`\n'
    )


def test_a_draft_model_that_names_its_verifier_is_left_to_vllm_with_own_arguments(
    pi: Pi, pod: EmbeddedPod, hub: Hub
) -> None:
    named = {"speculators_config": {"verifier": {"name_or_path": "Qwen/Qwen3-8B"}}}
    publish(hub, "someone/speculator", WEIGHTS, LLAMA | {"architectures": ["Eagle3Speculator"]} | named)
    error = refused(pi, pod, hub, "someone/speculator")
    assert "`pi start Qwen/Qwen3-8B --name q --vllm --speculative-config " in error
    assert planned(pi, hub, "someone/speculator", "--vllm", "--enforce-eager")["gpus"] == [0]


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("GraniteForCausalLM", ""),
        ("Qwen3ForSequenceClassification", ""),  # vLLM converts Qwen3ForCausalLM
        ("CohereForConditionalGeneration", ""),
        ("ErnieModel", "vLLM has no code of its own for `ErnieModel`"),
        ("BambaForCausalLM", "vLLM has no code of its own for `BambaForCausalLM`"),
        ("MPNetModel", "whether vLLM can serve the architecture `MPNetModel` is not known"),
    ],
)
def test_what_vllm_converts_or_takes_from_transformers_is_planned(
    pi: Pi, hub: Hub, architecture: str, said: str
) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"architectures": [architecture]})
    reasons = planned(pi, hub, "someone/model")["reasons"]
    assert any(said in reason for reason in reasons)
    assert bool(said) == any("vLLM has no code" in reason or "whether vLLM can" in reason for reason in reasons)


def test_a_pod_with_another_vllm_is_not_judged_by_the_release_that_pi_knows(pi: Pi, pod: EmbeddedPod, hub: Hub) -> None:
    publish(hub, "someone/model", WEIGHTS, LLAMA | {"architectures": ["Llama9ForCausalLM"]})
    file = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(file.read_text(encoding="utf-8"))
    state["pods"]["dc1"]["vllm"] = "0.99.0"
    file.write_text(json.dumps(state), encoding="utf-8")
    reasons = planned(pi, hub, "someone/model")["reasons"]
    assert "whether vLLM 0.99.0 can serve the architecture `Llama9ForCausalLM` is not known" in reasons
    assert pod.commands == []
