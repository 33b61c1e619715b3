"""`benchmarks.json`: what `pi bench` has measured."""

import json
import os
from dataclasses import replace
from pathlib import Path

from pi_cli.store import benchmarks
from pi_cli.store.benchmarks import Benchmark, Level

ONE = Level(1, 8, 8, 0, 10.0, 102.4, 512.0, 0.8, (20.0, 21.0, 22.0), (9.0, 9.5, 9.9), (9.0, 9.5, None))
FIRST = Benchmark("Maker/M", "q", "dc1", "1x H100", "0.32.0", ("--max-model-len", "4096"), 512, 128, 1e9, (ONE,))


def path() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "benchmarks.json")


def test_the_last_result_of_a_model_is_found_for_requests_of_the_same_size_only() -> None:
    assert benchmarks.last("Maker/M", 512, 128) is None
    newer = replace(FIRST, at=2e9, vllm=None)
    other = replace(FIRST, at=3e9, input_tokens=4096)
    for each in (FIRST, newer, other):
        benchmarks.add(each)
    assert benchmarks.last("maker/m", 512, 128) == newer
    assert benchmarks.last("Maker/M", 4096, 128) == other
    assert benchmarks.last("Maker/M", 1, 1) is None
    assert [row["at"] for row in json.loads(path().read_text())] == [1e9, 2e9, 3e9]
    assert path().stat().st_mode & 0o777 == 0o600


def test_rows_that_make_no_sense_are_left_out_and_those_of_a_newer_pi_are_read() -> None:
    benchmarks.add(FIRST)
    [row] = json.loads(path().read_text())
    level = row["levels"][0]
    wrong = [
        {}, row | {"levels": 3}, row | {"at": "now"}, row | {"vllm": 1}, row | {"arguments": [1]},
        row | {"levels": [level | {"ttft": [1.0]}]}, row | {"levels": [level | {"output_rate": -1}]},
        row | {"levels": [level | {"streams": True}]},
    ]  # fmt: skip
    for each in wrong:
        path().write_text(json.dumps([each]))
        assert benchmarks.last("Maker/M", 512, 128) is None
    path().write_text(json.dumps([row | {"new": 1}, *wrong]))
    assert benchmarks.last("Maker/M", 512, 128) == FIRST
