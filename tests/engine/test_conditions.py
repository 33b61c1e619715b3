"""vLLM itself on the numbers that pi checks before a download: both refuse the same arguments for the same models."""

import json
import shlex
from typing import Any

import pytest

from pi_cli.planning import conditions
from pi_cli.planning.architecture import from_config
from tests.engine.conftest import Engine

DENSE: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 9728,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 48,
    "vocab_size": 1000,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
EXPERTS: dict[str, Any] = {
    **DENSE,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 1536,
    "norm_topk_prob": True,
}
MODELS = {"dense": DENSE, "experts": EXPERTS}

NGRAM = "-sc.method ngram -sc.prompt_lookup_max 2 -sc.num_speculative_tokens"
CASES = [
    *[("dense", f"-tp {tensor}") for tensor in (1, 2, 3, 6, 16)],
    *[(model, "-tp 2 --enable-expert-parallel") for model in MODELS],
    *[("dense", f"-tp {tensor} -dcp {context}") for tensor, context in ((4, 3), (4, 2), (8, 2), (16, 2), (16, 4))],
    *[("dense", f"--max-num-seqs {requests} --max-num-batched-tokens 512") for requests in (512, 900)],
    ("dense", "--max-num-batched-tokens 64"),
    *[("dense", f"--max-num-seqs 8 --max-num-active-seqs {active}") for active in (8, 9)],
    ("dense", "--no-enable-chunked-prefill"),
    ("dense", "--no-enable-chunked-prefill --max-num-batched-tokens 8192"),
    ("dense", "--no-enable-chunked-prefill --max-num-batched-tokens 8192 --max-model-len auto"),
    ("dense", "--no-enable-chunked-prefill --max-num-batched-tokens 8192 --max-model-len 8192"),
    *[("dense", f"--max-model-len 1000 --long-prefill-token-threshold {tokens}") for tokens in (1000, 1001)],
    *[("dense", f"--max-model-len {context}") for context in ("131072", "131073", "auto", "128K", "132k")],
    ("dense", '--max-model-len 200000 --hf-overrides {"max_position_embeddings":262144}'),
    *[("dense", f"--enable-lora --max-lora-rank {rank}") for rank in (8, 24, 320, 1024)],
    ("dense", "--max-lora-rank 24"),
    *[("dense", f"{lora}--max-loras 4 --max-cpu-loras 2") for lora in ("", "--enable-lora ")],
    *[("dense", f"{NGRAM} {tokens}") for tokens in (0, 2)],
    *[("dense", f"{NGRAM} 4 --enable-lora --max-num-batched-tokens {tokens} --max-num-seqs 10") for tokens in (49, 50)],
    ("dense", "--enable-lora --max-cpu-loras 0"),
]

QUESTION = """
import json, pathlib, sys, tempfile
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())

def is_refused(config, arguments):
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "config.json").write_text(json.dumps(config))
    try:
        read = parser.parse_args(["--model", str(folder), "--skip-tokenizer-init", *arguments.split()])
        AsyncEngineArgs.from_cli_args(read).create_engine_config(UsageContext.OPENAI_API_SERVER)
    except (Exception, SystemExit):
        return True
    return False

asked = json.load(sys.stdin)
print("ANSWER", json.dumps([is_refused(asked["models"][model], line) for model, line in asked["cases"]]))
"""


@pytest.fixture(scope="module")
def refused(engine: Engine) -> list[bool]:
    assert engine.setup.code == 0, engine.setup.err
    command = f"VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -c {shlex.quote(QUESTION)}"
    done = engine.pod.run(command, input=json.dumps({"models": MODELS, "cases": CASES}), timeout=500)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stderr
    found: list[bool] = json.loads(lines[-1].removeprefix("ANSWER "))
    return found


def test_vllm_and_pi_refuse_the_same_arguments(refused: list[bool]) -> None:
    by_pi = [bool(conditions.certain(from_config(MODELS[model]), line.split())) for model, line in CASES]
    assert [case for case, *sides in zip(CASES, refused, by_pi, strict=True) if sides[0] != sides[1]] == []
    assert 0.3 < sum(refused) / len(refused) < 0.7
