"""When the size of the KV cache that an earlier start has measured is used again."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from agent import kv_cache, machine
from agent.kv_cache import KvCache
from agent.vllm_versions import Vllm

from tests.agent.machine import start_request

GPUS = {"kind": "NVIDIA H100 80GB HBM3, 580.95.05", "total": [81559], "used": [4]}
LINE = (
    "(Worker_TP0 pid=1) INFO 11-30 12:00:00 [gpu_worker.py:1033] … Replace gpu_memory_utilization config with "
    "`--kv-cache-memory={}` (37.25 GiB) to fit into requested memory, or `--kv-cache-memory=50000000000` (46.57 GiB) "
    "to fully utilize gpu memory.\n"
)
LOG = LINE.format(40000000000) + LINE.format(39000000000)
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vllm:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/.pi-abilities.json").write_text(f'{{"options": [{{"names": ["{kv_cache.OPTION}"]}}]}}')
    monkeypatch.setattr(machine, "PLACE", str(tmp_path / "pi"))
    return Vllm(str(tmp_path / "vllm"), "0.32.0")


def of(vllm: Vllm, settings: dict[str, str] | None = None, record: Any = None, **changes: Any) -> KvCache:
    """Return the record of a start, by default always of the same one."""
    request = start_request("q") | {"wait": True, "gpu_state": GPUS} | changes
    plan: Any = {"model": "m/m", "commit": "c0ffee", "memory": 0.9, "variables": {}, "given": [], "arguments": ["--a"]}
    return KvCache(plan | (record or {}), request, settings or {}, vllm)


@pytest.fixture
def learned(vllm: Vllm, tmp_path: Path) -> Vllm:
    log = tmp_path / "q.log"
    log.write_text(LOG)
    of(vllm).learn(str(log))
    return vllm


def test_the_next_start_of_the_same_plan_gets_what_the_fullest_worker_measured(learned: Vllm) -> None:
    known = of(learned, environment={"VLLM_API_KEY": "another key"})
    assert known.arguments() == ["--kv-cache-memory-bytes", "39000000000"]
    assert known.known
    assert abs(known.known.at - time.time()) < 600


@pytest.mark.parametrize(
    "changes",
    [
        {"record": {"memory": 0.4, "arguments": ["--gpu-memory-utilization", "0.4"]}},
        {"record": {"memory": 0.4}},
        {"record": {"commit": "decade"}},
        {"record": {"commit": ""}},
        {"record": {"model": "m/n"}},
        {"record": {"arguments": ["--a", "--max-num-seqs", "8"]}},
        {"record": {"arguments": ["--a", "--kv-cache-memory-bytes=9"]}},
        {"record": {"variables": {"X": "1"}}, "environment": {"X": "1"}},
        {"settings": {"VLLM_USE_DEEP_GEMM": "0"}},
        {"gpu_state": GPUS | {"kind": "NVIDIA H100 80GB HBM3, 590.11"}},
        {"gpu_state": GPUS | {"total": [81920]}},
        {"gpu_state": GPUS | {"used": [600]}},
        {"gpu_state": None},
        {"beside": ["other"]},
        {"own": True},
        {"wait": False},
    ],
    ids=str,
)
def test_anything_else_is_measured_again(learned: Vllm, changes: dict[str, Any]) -> None:
    assert of(learned, **changes).arguments() == []


def test_a_vllm_without_the_option_or_of_another_build_measures(learned: Vllm) -> None:
    folder = Path(learned.path)
    (folder / "lib/python3.12/site-packages/torch-2.13.0.dist-info").mkdir(parents=True)
    assert of(learned).arguments() == []
    assert of(Vllm(learned.path, "0.33.0")).arguments() == []
    (folder / ".pi-abilities.json").write_text('{"options": []}')
    assert of(learned).arguments() == []


def test_a_file_that_someone_else_has_written_is_not_believed(learned: Vllm, tmp_path: Path) -> None:
    (path,) = (tmp_path / "pi/starts").iterdir()
    right = json.loads(path.read_text())
    wrong: Any
    for wrong in ({"size": 10**12}, {"size": "1"}, {"size": True}, {"used": []}, {"used": ["4"]}, {"at": -1}):
        path.write_text(json.dumps(right | wrong))
        assert of(learned).known is None, wrong
    path.write_text("[")
    assert of(learned).known is None
    path.write_text(json.dumps(right))
    assert of(learned).known


def test_a_start_that_runs_out_of_memory_with_it_forgets_it(learned: Vllm, tmp_path: Path) -> None:
    known, log = of(learned), tmp_path / "failed.log"
    log.write_text("ValueError: something else\n")
    assert not known.is_to_blame(str(log))
    log.write_text(OUT_OF_MEMORY)
    assert known.is_to_blame(str(log))
    known.drop()
    assert not known.is_to_blame(str(log))
    assert known.arguments() == of(learned).arguments() == []


def test_with_models_on_a_volume_it_is_beside_what_was_compiled() -> None:
    volume = {"PI_VLLM_CACHE": "/volume/L4", "VLLM_CACHE_ROOT": "/volume/L4/0.32.0"}
    assert kv_cache.folder(volume) == "/volume/L4/0.32.0/starts"
    assert kv_cache.folder(volume | {"VLLM_CACHE_ROOT": "/mine"}) == f"{machine.PLACE}/starts"
