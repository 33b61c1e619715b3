"""When the agent makes vLLM read the weights ahead, and how it classifies file systems."""

import os
from pathlib import Path

import pytest
from agent import memory, mounts, storage_speed, weights
from agent.serve_command import READ_AHEAD
from agent.vllm_versions import Vllm


@pytest.mark.parametrize(
    ("kind", "is_network", "vllm_knows"),
    [
        ("ext4", False, False),
        ("overlay", False, False),
        ("tmpfs", False, False),
        ("fuseblk", False, False),  # NTFS on a disk of this machine
        ("fuse.fuse-overlayfs", False, False),
        ("fuse.mfs", True, False),
        ("fuse", True, False),
        ("fuse.juicefs", True, False),
        ("ceph", True, False),
        ("virtiofs", True, False),
        ("nfs4", True, True),
        ("lustre", True, True),
    ],
)
def test_weights_are_read_ahead_if_vllm_does_not_do_so_by_itself(
    kind: str, is_network: bool, vllm_knows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mounts.is_network(kind) == is_network
    ahead = list(READ_AHEAD) if is_network and not vllm_knows else []
    assert weights.chosen(kind, {}, has_threads=True) == ahead
    (tmp_path / "model.safetensors").write_bytes(b"123456789")
    monkeypatch.setattr(mounts, "mount_of", lambda _: ("/", "", kind))
    for available, fits in ((10, True), (9, False)):
        monkeypatch.setattr(memory, "available_memory", lambda available=available: available)
        assert weights.reading_ahead(str(tmp_path), [], Vllm("", "0.32.0")) == (ahead if fits else [])


@pytest.mark.parametrize(
    ("kind", "rates", "arguments"),
    [
        ("ext4", {1: 1e9, 8: 1.1e9, 32: 1.2e9}, []),
        ("ext4", {1: 2e8, 8: 2e9, 32: 2.1e9}, [*READ_AHEAD]),
        ("ext4", {1: 2e8, 8: 2e9, 32: 5e9}, [*READ_AHEAD, "--safetensors-prefetch-num-threads", "32"]),
        ("ext4", {1: 8e9}, []),  # it is in memory
        ("fuse", {1: 2e8, 8: 1e8, 32: 0.9e8}, [*READ_AHEAD, "--safetensors-prefetch-num-threads", "1"]),
        ("fuse", {1: 2e8, 8: 2e9}, [*READ_AHEAD]),
        ("nfs4", {1: 2e8, 8: 2e9, 32: 5e9}, ["--safetensors-prefetch-num-threads", "32"]),
        ("nfs4", {1: 2e8, 8: 1e9, 32: 1.1e9}, []),
    ],
)
def test_how_many_files_are_read_at_a_time_goes_by_the_measured_speed(
    kind: str, rates: dict[int, float], arguments: list[str]
) -> None:
    assert weights.chosen(kind, rates, has_threads=True) == arguments
    without = [word for word in arguments if word in READ_AHEAD]
    assert weights.chosen(kind, rates, has_threads=False) == without


def test_the_number_of_threads_is_said_only_to_a_vllm_that_has_the_option(tmp_path: Path) -> None:
    assert not Vllm(str(tmp_path), "0.32.0").has_option(weights.THREADS)
    (tmp_path / ".pi-abilities.json").write_text('{"options": [{"names": ["--safetensors-prefetch-num-threads"]}]}')
    assert Vllm(str(tmp_path), "0.32.0").has_option(weights.THREADS)
    assert not Vllm(str(tmp_path), "0.32.0").has_option("--safetensors-prefetch")


def test_this_disk_is_measured_within_seconds_and_keeps_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "empty.safetensors")]
    for path in paths[:2]:
        path.write_bytes(bytes(storage_speed.BLOCK))
    paths[2].touch()
    before = set(tmp_path.iterdir())
    for rates in (storage_speed.reading([*map(str, paths)], (1, 2)), storage_speed.writing(str(tmp_path), (1, 2))):
        assert rates
        assert all(rate > 0 for rate in rates.values())
    assert set(tmp_path.iterdir()) == before
    assert storage_speed.reading([str(paths[2])], (1, 2)) == {}


@pytest.mark.parametrize(
    ("rates", "workers"),
    [
        ({1: 1e9, 8: 1e9, 16: 1e9}, 8),
        ({1: 1.5e8, 8: 0.8e8, 16: 0.5e8}, 2),  # a disk that turns
        ({1: 3e8, 8: 2e9, 16: 4e9}, 16),
        ({1: 5e9}, 8),
        ({}, 8),
    ],
)
def test_how_many_files_are_downloaded_at_a_time(rates: dict[int, float], workers: int) -> None:
    assert storage_speed.workers(rates, 8) == workers


def test_no_argument_is_added_on_a_local_disk(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1")
    assert weights.reading_ahead(str(tmp_path), [], Vllm("", "0.32.0")) == []


@pytest.mark.parametrize(
    ("arguments", "version", "answer"),
    [
        (["--max-model-len", "auto"], "0.32.0", True),
        (["--max-model-len", "auto"], "0.18.1", False),
        (["--max-model-len", "auto"], None, False),
        (["--safetensors-load-strategy", "lazy"], "0.32.0", False),
        (["--load-format=runai_streamer"], "0.32.0", False),
        (["--model-loader-extra-config", '{"enable_multithread_load": true}'], "0.32.0", False),
    ],
)
def test_arguments_that_choose_how_to_load_are_kept(arguments: list[str], version: str | None, answer: bool) -> None:
    assert weights.may_choose(arguments, Vllm("", version)) == answer


def test_available_memory_is_limited_by_each_control_group(tmp_path: Path) -> None:
    groups = tmp_path / "a" / "b"
    groups.mkdir(parents=True)
    for folder, limit, used, cache in ((tmp_path, "max", 70, 0), (groups.parent, "100", 60, 20), (groups, "80", 50, 0)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    names = ("max", "current", "inactive_file")
    left = [memory.left_in(folder, *names) for folder in memory.upwards(str(tmp_path), "/a/b")]
    assert left == [30, 60, None]


def test_this_machine_has_available_memory() -> None:
    assert (
        0
        < memory.available_memory()
        <= memory.whole_memory()
        <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


def test_all_memory_is_that_of_the_machine_or_the_least_limit_of_its_control_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {
        "/proc/meminfo": "MemTotal:       527958016 kB\nMemAvailable:   500000000 kB\n",
        "/proc/self/cgroup": "0::/pod/model\n",
        "/sys/fs/cgroup/pod/model/memory.max": "max\n",
        "/sys/fs/cgroup/pod/memory.max": "66571993088\n",
    }
    monkeypatch.setattr(memory, "read", lambda path: files.get(path, ""))
    assert memory.whole_memory() == 66571993088
    del files["/sys/fs/cgroup/pod/memory.max"]
    assert memory.whole_memory() == 527958016 * 1024
