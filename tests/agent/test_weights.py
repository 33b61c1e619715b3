"""When the agent makes vLLM read the weights ahead, and how it classifies file systems."""

import os
from pathlib import Path

import pytest
from agent import mounts, weights
from agent.vllm_versions import Vllm

GIB = 2**30


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
def test_weights_are_read_ahead_if_vllm_does_not_do_so_by_itself(kind: str, is_network: bool, vllm_knows: bool) -> None:
    assert mounts.is_network(kind) == is_network
    assert weights.helps(kind, 9 * GIB, available=10 * GIB) == (is_network and not vllm_knows)
    assert not weights.helps(kind, 9 * GIB + 1, available=10 * GIB)


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
    left = [weights.left_in(folder, *names) for folder in weights.upwards(str(tmp_path), "/a/b")]
    assert left == [30, 60, None]


def test_this_machine_has_available_memory() -> None:
    assert 0 < weights.available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
