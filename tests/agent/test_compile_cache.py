"""What earlier starts have compiled is deleted, and nothing that was downloaded."""

import os
from pathlib import Path
from typing import Any

import pytest
from agent import kernel_caches, mounts, place

from tests import executables
from tests.agent.machine import Machine, known
from tests.until import until

HASH, OTHER = "a1b2c3d4e5", "ffffffffff"
DOWNLOADED = (".cache/huggingface/hub/models--m--m/blobs/weights", ".cache/flashinfer/cubins/x.cubin")


def write(path: Path, text: str = "x" * 5000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def compiled(machine: Machine) -> Machine:
    """A machine on which two models have been compiled."""
    home = machine.home
    machine.environ["TMPDIR"] = str(home / "tmp")
    write(home / "venv/lib/python3.12/site-packages/flashinfer_python-0.6.14.dist-info/METADATA")
    for name in (HASH, OTHER, f"torch_aot_compile/{HASH}", f"torch_aot_compile/{OTHER}"):
        write(home / ".cache/vllm/torch_compile_cache" / name / "rank_0_0/graph")
    for name in ("0.6.14/90a/cached_ops/x.so", "0.6.13/90a/cached_ops/x.so"):
        write(home / ".cache/flashinfer" / name)
    write(home / ".cache/vllm/deep_gemm/cache/kernel.so")
    write(home / ".triton/cache/K/kernel.cubin")
    for name in DOWNLOADED:
        write(home / name)
    return machine


def clean(machine: Machine, **environment: str) -> dict[str, Any]:
    return machine.ask("clean", name="q", model="m/m", min_vllm=None, environment=environment)


def deleted(machine: Machine, answer: dict[str, Any]) -> set[str]:
    """Return what was deleted, below the home; each is really gone."""
    folders = [folder["path"] for folder in answer["result"]["folders"]]
    assert not any(os.path.lexists(folder) for folder in folders)
    assert all((machine.home / name).exists() for name in DOWNLOADED)
    assert not list(machine.home.rglob("*.pi-cleaned.*"))
    return {str(Path(folder).relative_to(machine.home)) for folder in folders}


SHARED = {".cache/vllm/deep_gemm", ".triton/cache", ".cache/flashinfer/0.6.14/90a/cached_ops"}


def test_what_the_last_log_names_is_deleted_and_other_models_keep_theirs(compiled: Machine) -> None:
    folder = compiled.home / ".cache/vllm/torch_compile_cache"
    write(
        compiled.home / ".vllm_logs/q.log", f"args: {{'model': 'm/m'}}\nUsing cache directory: {folder}/{HASH}/rank_0_0"
    )
    answer = clean(compiled)
    assert deleted(compiled, answer) == {f".cache/vllm/torch_compile_cache/{HASH}", *SHARED}
    assert all(each["bytes"] and each["files"] == 1 for each in answer["result"]["folders"])
    assert (folder / OTHER).exists()


def test_a_log_that_names_none_or_is_another_models_says_nothing(compiled: Machine) -> None:
    folder = compiled.home / ".cache/vllm/torch_compile_cache"
    write(compiled.home / ".vllm_logs/q.log", f"args: {{'model': 'o/o'}}\n{folder}/{HASH}/rank_0_0")
    assert deleted(compiled, clean(compiled)) == {".cache/vllm/torch_compile_cache", *SHARED}
    assert deleted(compiled, clean(compiled)) == set()


def test_where_variables_put_the_caches(compiled: Machine) -> None:
    home = compiled.home
    (home / ".pi").mkdir()
    write(home / ".pi/env", f"export VLLM_CACHE_ROOT={home}/volume\nexport TRITON_CACHE_DIR={home}/place/triton\n")
    (home / ".cache/vllm").rename(home / "volume")
    write(home / "place/triton/kernel")
    write(home / "data/precious")
    assert deleted(compiled, clean(compiled, TORCHINDUCTOR_CACHE_DIR=str(home / "data"))) == {
        *("place/triton", "volume/torch_compile_cache", "volume/deep_gemm"),
        ".cache/flashinfer/0.6.14/90a/cached_ops",
    }
    assert (home / "data/precious").exists(), "its name does not say that it is a cache"


def test_links_are_not_followed(compiled: Machine) -> None:
    home = compiled.home
    write(home / "precious/data")
    (home / ".cache/vllm/torch_compile_cache" / HASH / "link").symlink_to(home / "precious")
    (home / ".triton/cache").rename(home / "elsewhere")
    (home / ".triton/cache").symlink_to(home / "elsewhere")
    assert ".triton/cache" not in deleted(compiled, clean(compiled))
    assert (home / "elsewhere").exists()
    assert (home / "precious/data").exists()


def test_nothing_is_deleted_while_another_model_starts(compiled: Machine) -> None:
    """A model of the same machine that is launched and not ready may be reading them."""
    started = compiled.start("other")
    assert started["result"]["state"] == "launched"
    assert clean(compiled)["refusal"] == {"code": "cache-in-use", "names": ["other"]}
    assert (compiled.home / ".triton/cache").exists()


def test_what_a_broken_connection_has_left_is_deleted_with_the_next(compiled: Machine) -> None:
    (compiled.home / ".triton/cache").rename(compiled.home / ".triton/cache.pi-cleaned.1")
    write(compiled.home / ".triton/cache/K/kernel")
    assert ".triton/cache" in deleted(compiled, clean(compiled))


def test_with_models_on_a_volume_all_that_is_compiled_is_beside_them_by_version_and_is_deleted(
    compiled: Machine,
) -> None:
    volume = compiled.home / "volume/vllm-cache/L4"
    own = f"{volume}/own/tilelang"
    write(compiled.home / ".pi/env", f"export PI_VLLM_CACHE={volume}\nexport TILELANG_CACHE_DIR={own}\n")
    executables.put(compiled.home / ".pi/venvs/0.32.0/bin/vllm", "#!/bin/sh\nenv > ~/seen\nexec sleep 300\n")
    (compiled.home / "venv").rename(compiled.home / "venv.before")
    (compiled.home / "venv").symlink_to(compiled.home / ".pi/venvs/0.32.0")
    compiled.start("other", environment={"TVM_FFI_CACHE_DIR": f"{volume}/tvm"})
    seen = compiled.home / "seen"
    until(lambda: seen.exists() and "VLLM_CACHE_ROOT=" in seen.read_text())
    lines = [line.split("=", 1) for line in seen.read_text().splitlines() if "_CACHE" in line or "FLASHINFER" in line]
    assert {name: value.removeprefix(f"{volume}/") for name, value in lines if value.startswith(f"{volume}/")} == {
        "VLLM_CACHE_ROOT": "0.32.0",
        "FLASHINFER_WORKSPACE_BASE": "0.32.0/kernels/flashinfer",
        "TRITON_CACHE_DIR": "0.32.0/kernels/triton",
        "TORCHINDUCTOR_CACHE_DIR": "0.32.0/kernels/torchinductor",
        "CUTE_DSL_CACHE_DIR": "0.32.0/kernels/cute_dsl",
        "CUDA_CACHE_PATH": "0.32.0/kernels/nv",
        "TILELANG_CACHE_DIR": "own/tilelang",
        "TVM_FFI_CACHE_DIR": "tvm",
    }
    (record,) = compiled.records()
    compiled.ask("stop", models=[known("other", record["uid"])], exact=True)
    for name, value in lines:
        if name != "VLLM_CACHE_ROOT" and value.startswith(f"{volume}/"):
            write(Path(value) / (".cache/flashinfer/0.6/90a/cached_ops" if name.startswith("FLASH") else "") / "x.so")
    folders = {folder["path"].removeprefix(f"{volume}/") for folder in clean(compiled)["result"]["folders"]}
    kernels = {f"0.32.0/kernels/{name}" for name in ("triton", "torchinductor", "cute_dsl", "nv")}
    assert folders == {*kernels, "own/tilelang", "0.32.0/kernels/flashinfer/.cache/flashinfer/0.6/90a/cached_ops"}


@pytest.mark.parametrize(
    ("kind", "is_fit"), [("fuse", True), ("nfs4", True), ("fuse.s3fs", False), ("exfat", False), ("ext4", True)]
)
def test_compiled_code_is_not_put_where_it_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, is_fit: bool
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda _: ("/", "", kind))
    settings = {"PI_VLLM_CACHE": str(tmp_path), "VLLM_CACHE_ROOT": f"{tmp_path}/0.32.0"}
    assert (kernel_caches.added(settings) != settings) == is_fit


def test_what_setup_wrote_for_those_who_run_vllm_by_hand_is_not_a_choice_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "root", lambda: "/ephemeral/pi-vllm")
    settings = {"PI_VLLM_CACHE": str(tmp_path), "VLLM_CACHE_ROOT": f"{tmp_path}/0.32.0"}
    before = "/ephemeral/pi-vllm/cache"
    by_setup = {"TRITON_CACHE_DIR": f"{before}/triton", "FLASHINFER_WORKSPACE_BASE": before}
    found = kernel_caches.added({**settings, **by_setup, "CUDA_CACHE_PATH": "/mine"})
    assert found["TRITON_CACHE_DIR"] == f"{tmp_path}/0.32.0/kernels/triton"
    assert found["FLASHINFER_WORKSPACE_BASE"] == f"{tmp_path}/0.32.0/kernels/flashinfer"
    assert found["CUDA_CACHE_PATH"] == "/mine"
