"""What vLLM 0.32 logs about its KV cache."""

from pi_cli.diagnosis import memory_lines
from pi_cli.diagnosis.memory_lines import KvCache

LOG = """\
(EngineCore pid=7) INFO 11-23 13:31:46 [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(Worker_TP0 pid=8) INFO 11-23 13:31:46 [gpu_worker.py:760] Available KV cache memory: 41.20 GiB
(Worker_TP1 pid=9) INFO 11-23 13:31:46 [gpu_worker.py:760] Available KV cache memory: 40.90 GiB
(EngineCore pid=7) INFO 11-23 13:31:46 [kv_cache_utils.py:2327] GPU KV cache size: 337,392 tokens, Maximum concurrency \
for 131,072 tokens per request: 2.57x
"""


def test_the_least_of_all_workers_counts() -> None:
    assert memory_lines.find(LOG) == KvCache(40.9, 337_392, "0.32.0")


def test_the_last_start_in_a_log_counts() -> None:
    assert memory_lines.find(LOG + LOG.replace("40.90", "30.50").replace("337,392", "251,600")) == KvCache(
        30.5, 251_600, "0.32.0"
    )


def test_a_log_without_these_lines_has_no_figures() -> None:
    assert memory_lines.find(LOG.partition("Available")[0]) is None
