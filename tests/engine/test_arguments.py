"""`pi start` with a real vLLM, whose parser judges the arguments while the model is downloaded."""

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.diagnosis.argument_rows import ROWS
from tests.engine.conftest import Engine
from tests.engine.parser import ask
from tests.until import until

MODEL = "tiny/qwen3-chat"
# For a tiny model on two CPU cores.
SMALL = "--dtype float32 --max-model-len 4096 --max-num-seqs 4 --enforce-eager --kv-cache-memory-bytes 128M"


def without_addresses(said: str | None) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", said or "")


@pytest.fixture
def slow_hub(engine: Engine) -> Iterator[Engine]:
    """The pod, without the model, and a Hub from which the download takes much longer than a test."""
    engine.pod.check("rm -rf ~/.cache/huggingface/hub ~/.pi/checked")
    engine.hub.rate = 1000
    yield engine
    engine.hub.rate = None


def asking(engine: Engine) -> list[list[str]]:
    """Return the commands of the processes of a start: of hf, of vLLM, and of the question to its parser."""
    return [process.args for process in engine.pod.processes() if "PI_MODEL_UID" in process.environ]


def test_the_known_errors_are_those_of_the_real_parser(engine: Engine) -> None:
    said = ask(engine, [["m/m", *shlex.split(row.typed)] for row in ROWS])["said"]
    assert [without_addresses(each) for each in said] == [without_addresses(row.said) for row in ROWS]


def test_what_vllm_accepts_is_not_refused(engine: Engine) -> None:
    lists = [
        ["--max-model-len", "auto", "--gpu-memory-utilization", "0.5", "-tp", "2", "--max-num-seqs", "8"],
        ["--max-model-len=-1", "--enable-auto-tool-choice", "--tool-call-parser=hermes", "--reasoning-parser", "qwen3"],
        ["--max_model_len", "32K", "--compilation-config.cudagraph_mode", "NONE", "-O3"],
        ["--quantization", "fp8", "--kv-cache-dtype", "fp8", "--data-parallel-size", "2", "--enable-expert-parallel"],
        ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}', "--chat-template", "{{ x }}"],
        ["--quantization", "fp8_per_block", "--served-model-name", "a", "b"],
    ]
    assert ask(engine, [["m/m", *words] for words in lists])["said"] == [None] * len(lists)


@pytest.mark.parametrize(
    "own",
    ["--max-modle-len 512", "--max 512", """--hf-overrides '{"a": 1,}'""", "--dtype float17", "--bogus 1"],
)
def test_wrong_arguments_end_a_start_before_its_download_does(slow_hub: Engine, own: str) -> None:
    result = slow_hub.pi("start", MODEL, "--name", "q", "--vllm", *shlex.split(own))
    assert result.code == 2, result.err
    assert len([line for line in result.err.splitlines() if line.startswith(("error: ", "hint: "))]) == 2
    assert "starting vLLM" not in result.err
    assert slow_hub.pi("list", "--json").out.strip() == "[]"
    until(lambda: asking(slow_hub) == [])
    assert slow_hub.pod.check("find ~/.cache/huggingface/hub -name '*.incomplete' | wc -l").strip() == "0"


def test_accepted_arguments_are_asked_about_once(engine: Engine) -> None:
    engine.pod.check("rm -rf ~/.pi/checked")
    for _ in range(2):
        started = engine.pi("start", MODEL, "--name", "q", "--detach", "--vllm", *SMALL.split())
        assert started.code == 0, started.err
        assert engine.pi("stop", "q").code == 0
        assert len(engine.pod.check("ls ~/.pi/checked").split()) == 1
    assert "checking the arguments" not in started.err
