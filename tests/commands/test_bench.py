"""`pi bench`: vLLM's own benchmark on the pod, here the simulated one, which sends real requests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.conftest import KEY, Pi
from tests.docs.json_page import problems
from tests.until import until

pytestmark = pytest.mark.xdist_group("test_bench")
FAST = ("--private", "--vllm", "--simulate", "rate=1000")
SMALL = ("--streams", "1,4", "--input", "32", "--output", "8")


def stored() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(Path(os.environ["PI_CONFIG_DIR"], "benchmarks.json").read_text())
    return rows


def benchmarks_of(pod: EmbeddedPod) -> list[int]:
    """Return the PIDs of benchmarks that run on a pod."""
    return [process.pid for process in pod.processes() if "bench" in process.command]


def test_each_level_is_a_line_and_the_second_run_is_compared_with_the_first(pi: Pi, served: Served) -> None:
    served.started(pi, "q", *FAST)
    first = pi("bench", "q", *SMALL)
    assert first.code == 0, first.err
    assert "24 requests load `q` on `dc1`: its other clients wait longer" in first.err
    head, one, four, _, *bars = first.out.splitlines()
    assert head.split()[:3] == ["STREAMS", "TOKENS/S", "CHANGE"]
    assert [line.split()[0] for line in (one, four)] == ["1", "4"]
    assert [line.split()[2] for line in (one, four)] == ["-", "-"]
    assert float(four.split()[1]) > float(one.split()[1])
    assert [bar.split()[0] for bar in bars] == ["1", "4"]
    assert KEY not in str(stored())

    second = pi("bench", "q", *SMALL)
    assert second.out.splitlines()[1].split()[2].endswith("%")
    assert "compared with `q` on `dc1`, " in second.err
    assert "with the same vLLM, GPUs and arguments" in second.err
    assert [row["gpus"] for row in stored()] == ["1x H100 80GB"] * 2


def test_json_has_the_percentiles_of_each_level(pi: Pi, served: Served) -> None:
    served.started(pi, "q", *FAST)
    result = pi("bench", "q", "--json", *SMALL)
    assert result.code == 0, result.err
    assert problems("pi bench --json", result.out) == []
    [one, four] = result.json["levels"]
    assert (one["streams"], one["completed"], one["failed"]) == (1, 8, 0)
    assert (four["streams"], four["completed"], four["requests"]) == (4, 16, 16)
    assert 0 < four["ttft_ms"]["p50"] <= four["ttft_ms"]["p99"]
    assert result.err == ""


def test_what_does_not_fit_and_what_has_no_text_is_refused_before_it_is_loaded(pi: Pi, served: Served) -> None:
    served.started(pi, "q", *FAST)
    long = pi("bench", "q", "--input", "40960", "--output", "8")
    assert long.code == 2
    assert "40960 tokens of input and 8 of output do not fit the context of `q`, 40960 tokens" in long.err
    served.started(pi, "e", "--private", model="BAAI/bge-m3")
    pooling = pi("bench", "e")
    assert (pooling.code, "`e` does not generate text" in pooling.err) == (1, True)
    served.started(pi, "slow", "--detach", "--vllm", "--simulate", "slow=60")
    loading = pi("bench", "slow")
    assert long.out == pooling.out == loading.out == ""
    assert (loading.code, "`slow` on `dc1` cannot be reached: it is still starting" in loading.err) == (1, True)
    assert not Path(os.environ["PI_CONFIG_DIR"], "benchmarks.json").exists()


def test_a_missing_package_and_other_failures_are_said(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--private").code == 0
    pod.install("vllm", "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'aiohttp'\" >&2\nexit 1\n")
    missing = pi("bench", "q", *SMALL)
    assert missing.code == 1
    assert "`vllm bench serve` on `dc1` needs the Python package `aiohttp`" in missing.err
    assert "uv pip install -p ~/venv aiohttp" in missing.err
    pod.install("vllm", '#!/bin/sh\necho "key $OPENAI_API_KEY" >&2\nexit 3\n')
    failed = pi("bench", "q", *SMALL)
    assert "`vllm bench serve` failed on `dc1`: key ***" in failed.err
    assert KEY not in failed.err


def test_ctrl_c_leaves_no_benchmark_and_no_file_and_the_model_runs_on(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--private").code == 0
    words = [sys.executable, "-m", "pi_cli", "bench", "q", "--streams", "1", "--output", "30000", "--input", "9"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: benchmarks_of(pod))
        assert all(KEY not in str(process.command) for process in pod.processes())
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    until(lambda: not benchmarks_of(pod))
    assert [row["status"] for row in pi("list", "--json").json] == ["ready"]
    assert not Path(os.environ["PI_CONFIG_DIR"], "benchmarks.json").exists()
