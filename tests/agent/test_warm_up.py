"""Which ends of a warm-up would be those of the start too, and which models it is for."""

import json
from pathlib import Path

import pytest
from agent import warm_up

from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import simulated

ALWAYS = b"INFO [utils.py:233] non-default args: {'load_format': 'dummy', 'tokenizer': 'x'}, error handling\n"


@pytest.mark.parametrize("name", ["oom", "kv-cache", "no-kv"])
def test_what_the_plan_is_to_blame_for_would_end_the_start(name: str) -> None:
    log = of_the_engine(simulated(name))
    assert warm_up.would_end_the_start(ALWAYS + log.encode())


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 98] Address already in use",
        "OSError: [Errno 28] No space left on device",
        "OSError: m/m does not appear to have a file named pytorch_model.bin",
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
        "ValueError: Model loader extra config is not supported for load format dummy",
        "ValueError: Free memory on device cuda:0 (3.25/79.65 GiB) on startup is less than desired",
        "it ended without a word",
    ],
)
def test_what_is_different_in_the_start_would_not(line: str) -> None:
    assert not warm_up.would_end_the_start(ALWAYS + f"(APIServer pid=1) {line}\n".encode())


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({}, ""),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"text_config": {"quantization_config": {"quant_method": "awq\u001b[31m"}}}, "awq31m"),
        ({"quantization_config": {"bits": 4}}, "unknown"),
        ([], "unknown"),
        (None, "unknown"),
    ],
)
def test_the_method_of_quantisation_is_in_the_configuration(tmp_path: Path, config: object, method: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert warm_up.quantisation(str(tmp_path)) == method
