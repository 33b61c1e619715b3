"""`pi bench` with a real vLLM: its own benchmark measures the model that it serves."""

from collections.abc import Iterator

import pytest

from tests.conftest import KEY
from tests.docs.json_page import problems
from tests.engine.conftest import Engine
from tests.engine.test_main_job import START, vllm_processes
from tests.until import until


@pytest.fixture
def clean(engine: Engine) -> Iterator[Engine]:
    """The pod, and afterwards the proof that the test has left nothing on it."""
    assert engine.setup.code == 0, engine.setup.err
    yield engine
    engine.pi("stop", "--all")
    until(lambda: not vllm_processes(engine) and engine.pod.listening() == {22})


def test_a_real_vllm_is_measured_by_its_own_benchmark_with_one_stream_and_with_four(clean: Engine) -> None:
    started = clean.pi(*START, timeout=900)
    assert started.code == 0, started.err
    words = ("bench", "tiny", "--streams", "1,4", "--input", "32", "--output", "16")

    first = clean.pi(*words, "--json", timeout=900)
    assert first.code == 0, first.err
    assert problems("pi bench --json", first.out) == []
    one, four = first.json["levels"]
    assert (one["streams"], one["completed"], one["failed"]) == (1, 8, 0)
    assert (four["streams"], four["completed"], four["failed"]) == (4, 16, 0)
    assert one["output_tokens_per_second"] * one["seconds"] == pytest.approx(8 * 16, rel=0.02)
    for level in (one, four):
        for figure in ("ttft_ms", "tpot_ms", "itl_ms"):
            assert 0 < level[figure]["p50"] <= level[figure]["p90"] <= level[figure]["p99"]
    assert first.json["vllm"].startswith("0.32.0")

    second = clean.pi(*words, timeout=900)
    assert second.code == 0, second.err
    assert second.out.splitlines()[1].split()[2].endswith("%")
    assert "with the same vLLM, GPUs and arguments" in second.err
    assert [row["status"] for row in clean.pi("list", "--json").json] == ["ready"]
    assert clean.pod.check("ls -d /tmp/pi-bench-* 2> /dev/null | wc -l").strip() == "0"
    assert not [process for process in clean.pod.processes() if KEY in str(process.args)]
