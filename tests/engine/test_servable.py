"""What pi says that vLLM cannot serve, against vLLM itself: it refuses the same configurations, and no others."""

import json
import shlex
from typing import Any

import pytest

from pi_cli.hub import adapters, model_kind, servable
from pi_cli.hub.repository import Repository
from pi_cli.hub.servable import Target
from tests.engine.conftest import Engine

# Reads {name: config.json} and prints what vLLM says about each before it would load weights, and its own tables.
QUESTION = """
import json, pathlib, re, sys, tempfile, typing
import vllm
from vllm.config import ModelConfig, model
from vllm.config.lora import MaxLoRARanks

def complaint(config):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        try:
            ModelConfig(model=folder, skip_tokenizer_init=True)
        except Exception as error:
            return str(error)
    return ""

models = pathlib.Path(vllm.__file__).parent / "model_executor" / "models"
only = re.compile(r"(?sm)class (\\w+)\\((?:(?!^class ).)*?supports_transcription_only[^=\\n]*= True")
print("ANSWER", json.dumps({
    "complaints": {name: complaint(config) for name, config in json.load(sys.stdin).items()},
    "ranks": typing.get_args(MaxLoRARanks),
    "suffixes": [[suffix, list(kinds)] for suffix, kinds in model._SUFFIX_TO_DEFAULTS],
    "transcribers": [name for path in models.glob("*.py") for name in only.findall(path.read_text())],
}))
"""
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}
GPTQ = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True}
METHODS = [
    *("aqlm", "auto-round", "awq", "bitnet", "bitsandbytes", "compressed_tensors", "eetq", "exl2", "fp8", "gptq"),
    *("higgs", "hqq", "intel/auto-round", "quanto", "spqr", "vptq"),
]
ARCHITECTURES = [
    *("ErnieModel", "InternLMForCausalLM", "LlamaForSequenceClassification", "LlamaModel", "Llama9ForCausalLM"),
    *("MptForCausalLM", "Qwen3ForSequenceClassification", "Vit9ForImageClassification"),
]
CONFIGS: dict[str, dict[str, Any]] = {
    **{method: SHAPE | {"quantization_config": {"quant_method": method, **GPTQ}} for method in METHODS},
    **{name: SHAPE | {"architectures": [name]} for name in ARCHITECTURES},
    "no architecture": {"vocab_size": 1000},
}


@pytest.fixture(scope="module")
def answer(engine: Engine) -> dict[str, Any]:
    assert engine.setup.code == 0, engine.setup.err
    command = f"VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -c {shlex.quote(QUESTION)}"
    done = engine.pod.run(command, input=json.dumps(CONFIGS), timeout=500)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stderr
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("ANSWER "))
    return found


def test_vllm_refuses_the_configurations_that_pi_refuses_and_no_others(answer: dict[str, Any]) -> None:
    files = frozenset({"config.json", "model.safetensors"})
    refused = {
        name: servable.refusal(Repository("a/b", config, 1, {}, 1, False, files), Target()) is not None
        for name, config in CONFIGS.items()
    }
    assert refused == {name: said != "" for name, said in answer["complaints"].items()}, answer["complaints"]


def test_the_tables_are_those_of_vllm(answer: dict[str, Any]) -> None:
    assert sorted(answer["ranks"]) == sorted(adapters.RANKS)
    assert set(answer["transcribers"]) == model_kind.TRANSCRIBERS
    runners = {"generate": {"generation"}, "pooling": set(model_kind.REGISTERED.values()) | {"reranker"}}
    kinds = dict(model_kind.SUFFIXES)
    for suffix, (runner, _) in answer["suffixes"]:
        assert suffix not in kinds or kinds[suffix] in runners[runner], suffix
