"""Plans for models that embed, rank, classify or transcribe: with vLLM's runner for them, and no promise of chats."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue, gpu_space, gpu_types, lookup, plan, verdicts
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.abilities import Abilities, Vllm
from tests.hub.test_model_kind import POOLING, SHAPE
from tests.lab.hub import Hub

BERT = {"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 1024, "max_position_embeddings": 8194}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def planned(hub: Hub, model: str, config: dict[str, object], weights: int, files: dict[str, bytes]) -> Plan:
    contents: dict[str, bytes | int] = {"config.json": json.dumps(config).encode(), "model.safetensors": weights}
    hub.add_synthetic(model, contents | files)
    profile = asyncio.run(lookup.find(model, token=None, endpoint=hub.url))
    spaces = gpu_space.measure(gpu_types.parse("1x H100"), {}, {})
    return plan.make(profile, Constraints(), spaces, pod="dc1")


def test_an_embedding_model_gets_the_pooling_runner_and_a_length_of_texts(hub: Hub) -> None:
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", **SHAPE}
    made = planned(hub, "someone/gte-embedding-8b", config, 15 * 10**9, POOLING)
    assert vllm_arguments.value(made.arguments, ["--runner"]) == "pooling"
    assert "--tool-call-parser" not in made.arguments
    assert made.purpose == "embedding"
    assert made.reasons[0].endswith(": texts of up to 40,960 tokens")
    assert made.reasons[1] == "1x H100 (GPU 0): the fewest that it fits on"
    assert made.reasons[2] == "an embedding model, served at /v1/embeddings"
    assert "requests at once" not in str(made.reasons)


def test_an_encoder_has_no_kv_cache_that_could_be_unknown(hub: Hub) -> None:
    config = {"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "dtype": "float32", **BERT}
    made = planned(hub, "someone/encoder", config, 2 * 10**9, POOLING)
    assert vllm_arguments.value(made.arguments, ["--runner"]) == "pooling"
    assert "KV cache" not in str(made.reasons)


def test_a_reranker_that_writes_text_is_not_served_by_comparing_embeddings(hub: Hub) -> None:
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16", **SHAPE}
    made = planned(hub, "someone/Qwen3-Reranker-tuned", config, 15 * 10**9, {})
    assert "--runner" not in made.arguments
    assert [reason for reason in made.reasons if reason.startswith("a reranker that writes its scores as text, ")]


def test_a_model_for_speech_needs_a_vllm_with_libraries_for_sound() -> None:
    [entry] = [entry for entry in catalogue.entries() if entry.id == "openai/whisper-large-v3"]
    profile = lookup.from_catalogue(entry, [])
    spaces = gpu_space.measure(gpu_types.parse("1x L4"), {}, {})
    for audio in (None, True):
        vllm = Vllm(abilities=Abilities(version="0.32.0", audio=audio), is_own=True)
        assert plan.make(profile.on(vllm), Constraints(), spaces, pod="dc1").purpose == "speech"
    vllm = Vllm(abilities=Abilities(version="0.32.0", audio=False), is_own=True)
    with pytest.raises(BadUsage, match="the vLLM of `dc1` has no libraries for sound") as refused:
        plan.make(profile.on(vllm), Constraints(), spaces, pod="dc1")
    assert refused.value.hint == "install them with `pi pods setup dc1 --vllm 'vllm[audio]'`"
    verdict = verdicts.judge(profile.on(vllm), spaces, pod="dc1")
    assert (verdict.status, verdict.brief) == ("no", "needs vllm[audio]")
