"""What pi takes a model for: by its class, its files and its task on the Hub."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pi_cli.planning import catalogue, lookup
from pi_cli.planning.profile import KnownModel, ModelProfile
from tests.lab.hub import Hub

SHAPE = {
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 4096,
    "max_position_embeddings": 40960,
}
POOLING = {"modules.json": b"[]", "1_Pooling/config.json": b"{}"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def found(hub: Hub, model: str) -> ModelProfile:
    return asyncio.run(lookup.find(model, token=None, endpoint=hub.url))


@pytest.mark.parametrize(
    ("model", "architecture", "task", "kind"),
    [
        ("someone/Qwen3-8B-tuned", "Qwen3ForCausalLM", "text-generation", "generation"),
        ("someone/Qwen3-VL-tuned", "Qwen3VLForConditionalGeneration", "image-text-to-text", "generation"),
        ("Qwen/Qwen3-Embedding-8B", "Qwen3ForCausalLM", "feature-extraction", "embedding"),
        ("Alibaba-NLP/gte-Qwen2-7B-instruct", "Qwen2ForCausalLM", "sentence-similarity", "embedding"),
        ("BAAI/bge-m3", "XLMRobertaModel", "sentence-similarity", "embedding"),
        ("google/embeddinggemma-300m", "Gemma3TextModel", "sentence-similarity", "embedding"),
        ("Qwen/Qwen3-VL-Embedding-2B", "Qwen3VLForConditionalGeneration", "", "embedding"),
        ("Qwen/Qwen3-Reranker-8B", "Qwen3ForCausalLM", "text-ranking", "reranker"),
        ("BAAI/bge-reranker-v2-m3", "XLMRobertaForSequenceClassification", "text-classification", "reranker"),
        ("jinaai/jina-reranker-m0", "JinaVLForRanking", "text-ranking", "reranker"),
        ("someone/sentiment", "BertForSequenceClassification", "text-classification", "classification"),
        ("dslim/bert-base-NER", "BertForTokenClassification", "token-classification", "token-classification"),
        ("Qwen/Qwen2.5-Math-PRM-7B", "Qwen2ForProcessRewardModel", "text-classification", "reward"),
        ("Skywork/Skywork-Reward-V2", "Qwen3ForSequenceClassification", "text-classification", "reward"),
        ("vidore/colpali-v1.3-hf", "ColPaliForRetrieval", "visual-document-retrieval", "late-interaction"),
        ("openai/whisper-large-v3", "WhisperForConditionalGeneration", "automatic-speech-recognition", "speech"),
        ("Qwen/Qwen3-ASR-1.7B", "Qwen3ASRForConditionalGeneration", "automatic-speech-recognition", "speech"),
    ],
)
def test_a_model_is_known_by_its_class_its_task_and_its_name(
    hub: Hub, model: str, architecture: str, task: str, kind: str
) -> None:
    config = json.dumps(SHAPE | {"architectures": [architecture]}).encode()
    about: dict[str, Any] = {"pipeline_tag": task} if task else {}
    hub.add_synthetic(model, {"config.json": config, "model.safetensors": 16_000_000_000}, **about)
    profile = found(hub, model)
    assert profile.kind == kind
    if kind != "generation" and isinstance(profile, KnownModel):
        assert (profile.tool_call_parser, profile.reasoning_parser) == (None, None)


def test_the_files_of_sentence_transformers_make_an_embedding_model_as_in_vllm(hub: Hub) -> None:
    config = json.dumps(SHAPE | {"architectures": ["Qwen3ForCausalLM"]}).encode()
    hub.add_synthetic("someone/e8", {"config.json": config, "model.safetensors": 16_000_000_000, **POOLING})
    assert found(hub, "someone/e8").kind == "embedding"


def test_a_classifier_with_one_label_is_a_reranker(hub: Hub) -> None:
    config = json.dumps({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}).encode()
    hub.add_synthetic("someone/scores", {"config.json": config, "model.safetensors": 1_000_000_000})
    assert found(hub, "someone/scores").kind == "reranker"


def test_models_of_the_catalogue_have_a_kind() -> None:
    kinds = {entry.id: lookup.from_catalogue(entry, []).kind for entry in catalogue.entries()}
    assert kinds["Qwen/Qwen3-32B"] == "generation"
    assert kinds["Qwen/Qwen3-Embedding-8B"] == "embedding"
    assert kinds["Qwen/Qwen3-Reranker-8B"] == "reranker"
    assert kinds["openai/whisper-large-v3"] == "speech"
    assert sum(kind == "generation" for kind in kinds.values()) > 0.9 * len(kinds)
