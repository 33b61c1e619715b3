"""The command and the environment of a benchmark, and what the agent reads in its result."""

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agent import bench

from tests.hostile import answers

if TYPE_CHECKING:
    from agent import protocol

REQUEST: "protocol.BenchRequest" = {
    "name": "q", "streams": 8, "prompts": 32, "input_tokens": 512, "output_tokens": 128, "seed": 7,
}  # fmt: skip
RESULT = {"completed": 7, "duration": 2, "output_throughput": 5.5, "total_token_throughput": 9, "request_throughput": 1}
COMMIT = "0f" * 20


def record(*arguments: str, **changes: Any) -> Any:
    return {**answers.RECORD, "model": "m/m", "arguments": list(arguments), "commit": COMMIT, **changes}


def test_the_environment_has_the_key_and_neither_a_proxy_nor_the_marker_of_the_model() -> None:
    machine = {"PATH": "/bin", "HTTP_PROXY": "http://proxy", "all_proxy": "socks://proxy", "PI_MODEL_UID": "u"}
    settings = bench.environment(machine, "secret")
    assert set(settings) & {"HTTP_PROXY", "all_proxy", "PI_MODEL_UID"} == set()
    assert (settings["OPENAI_API_KEY"], settings["HF_HUB_OFFLINE"], settings["PATH"]) == ("secret", "1", "/bin")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--tokenizer", "SNAPSHOT"]),
        (["--tokenizer", "t/t", "--tokenizer-mode=hf"], ["--tokenizer", "t/t", "--tokenizer-mode", "hf"]),
        (["--trust-remote-code"], ["--trust-remote-code", "--tokenizer", "SNAPSHOT"]),
        (["--tokenizer-revision", "x"], ["--tokenizer", "SNAPSHOT"]),
    ],
    ids=["cache", "own", "code", "other"],
)
def test_the_tokenizer_is_that_of_the_model(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    snapshot = tmp_path / "models--m--m" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    expected = [str(snapshot) if word == "SNAPSHOT" else word for word in words]
    assert bench.tokenizer(record(*arguments), {"HF_HUB_CACHE": str(tmp_path)}) == expected
    assert bench.tokenizer(record(), {"HF_HUB_CACHE": "/nowhere"}) == []


def test_a_result_without_a_number_of_failures_or_with_nan_is_read_and_any_other_is_none(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**RESULT, "p50_ttft_ms": 3, "p90_ttft_ms": float("nan")}))
    figures = bench.figures_of(str(path), 8)
    assert figures
    assert (figures["completed"], figures["failed"]) == (7, 1)
    assert figures["ttft"] == {"p50": 3.0, "p90": None, "p99": None}
    for text in ("", "[]", "{}", json.dumps({**RESULT, "completed": "x"})):
        path.write_text(text)
        assert bench.figures_of(str(path), 8) is None
    assert bench.figures_of(str(tmp_path / "none"), 8) is None


def test_the_command_has_no_secret_and_asks_as_told(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_text("")
    (tmp_path / "vllm").chmod(0o755)
    words = bench.command(record(), REQUEST, {"PATH": str(tmp_path)}, "/tmp/x/result.json")
    assert words[:3] == [str(tmp_path / "vllm"), "bench", "serve"]
    given = dict(pairwise(words))
    assert (given["--num-prompts"], given["--max-concurrency"], given["--seed"]) == ("32", "8", "7")
    assert (given["--random-input-len"], given["--random-output-len"]) == ("512", "128")
    assert (given["--result-dir"], given["--result-filename"]) == ("/tmp/x", "result.json")
