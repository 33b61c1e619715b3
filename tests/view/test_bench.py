"""How the results of `pi bench` look, and what is said about the last ones."""

from dataclasses import replace

from pi_cli.models import bench as work
from pi_cli.view import bench
from tests.store.test_benchmarks import FIRST, ONE

EIGHT = replace(ONE, streams=8, output_rate=409.6, ttft=(None, None, None))


def test_a_line_has_the_change_against_the_same_level_only() -> None:
    assert bench.line(ONE, None).split() == ["1", "102", "-", "20.0", "22.0", "9.0", "-", "0.8"]
    slower = replace(ONE, output_rate=92.16)
    assert bench.line(slower, FIRST).split()[2] == "-10%"
    assert bench.line(EIGHT, FIRST).split()[1:4] == ["410", "-", "-"]


def test_the_plot_has_a_bar_for_each_level_in_the_characters_of_the_terminal() -> None:
    one, eight = bench.plot([ONE, EIGHT], is_ascii=False)
    assert one == f"      1 {10 * '█'} 102 tokens/s"
    assert eight == f"      8 {40 * '█'} 410 tokens/s"
    assert bench.plot([ONE], is_ascii=True) == [f"      1 {40 * '#'} 102 tokens/s"]
    nothing = replace(ONE, output_rate=0.0)
    assert bench.plot([nothing], is_ascii=True) == ["      1  0.0 tokens/s"]
    assert bench.plot([], is_ascii=True) == []


def test_what_was_different_the_last_time_is_said() -> None:
    now = replace(FIRST, vllm="0.33.0", gpus="2x H100", arguments=("--max-model-len", "8192", "--enforce-eager"))
    assert work.differences(now, FIRST) == [
        "vLLM 0.32.0 instead of 0.33.0",
        "on 1x H100 instead of 2x H100",
        "without --max-model-len 8192 --enforce-eager",
        "with --max-model-len 4096",
    ]
    assert work.differences(FIRST, FIRST) == []
