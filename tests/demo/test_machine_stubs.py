"""`nvidia-smi`, `hf` and the programs that `pod_setup.sh` calls, on the embedded pod."""

import json
import shutil
import time
from pathlib import Path

import pytest

from pi_cli.demo import gpus
from pi_cli.demo.pod import EmbeddedPod
from pi_cli.demo.stubs import hf
from tests.demo.conftest import Shell, ssh
from tests.until import until

REMOTE = Path(__file__).parents[2] / "remote"
QUERY = "nvidia-smi --query-gpu=index,name,memory.total,memory.used,compute_cap --format=csv,noheader"


def test_nvidia_smi_reports_the_requested_gpus() -> None:
    with EmbeddedPod("1x H100 80GB, 2x L4") as pod:
        assert ssh(pod, QUERY).text.splitlines() == [
            "0, NVIDIA H100 80GB HBM3, 81559 MiB, 0 MiB, 9.0",
            "1, NVIDIA L4, 23034 MiB, 0 MiB, 8.9",
            "2, NVIDIA L4, 23034 MiB, 0 MiB, 8.9",
        ]
        assert ssh(pod, "nvidia-smi -L -i 1").text.startswith("GPU 1: NVIDIA L4 (UUID: GPU-")
        assert "SIMULATED" in ssh(pod, "nvidia-smi").text


@pytest.mark.parametrize(
    ("query", "printed"),
    [
        ("--query-gpu=index,memory.total --format=csv,noheader,nounits", "0, 81559\n1, 81559\n"),
        ("--query-gpu=index,memory.total --format=csv -i 1", "index, memory.total [MiB]\n1, 81559 MiB\n"),
        ("--query-compute-apps=pid,used_memory --format=csv,noheader", ""),
        ("--query-gpu=index,nonsense --format=csv", 'Field "nonsense" is not a valid field to query.\n\n'),
    ],
)
def test_nvidia_smi_answers_queries_like_the_real_one(shell: Shell, query: str, printed: str) -> None:
    assert shell(f"nvidia-smi {query}").text == printed


def test_without_a_gpu_or_a_driver_nvidia_smi_fails_like_the_real_one() -> None:
    with EmbeddedPod("none") as pod:
        outcome = ssh(pod, "nvidia-smi -L")
        assert (outcome.status, outcome.text) == (6, "No devices were found\n")
        gpus.install(pod.home, [], driver=None)
        outcome = ssh(pod, "nvidia-smi -L")
        assert (outcome.status, "couldn't communicate with the NVIDIA driver" in outcome.text) == (9, True)


def set_download_seconds(machine: EmbeddedPod, seconds: float) -> None:
    (machine.home / ".demo" / "hf.json").write_text(json.dumps({"seconds": seconds}))


def test_a_download_fills_the_cache_like_the_real_client(machine: EmbeddedPod, shell: Shell) -> None:
    set_download_seconds(machine, 0.1)
    outcome = shell("hf download Qwen/Qwen3-8B --quiet")
    snapshot = Path(outcome.text.strip())
    repository = machine.home / ".cache/huggingface/hub/models--Qwen--Qwen3-8B"
    assert snapshot.parent == repository / "snapshots"
    assert (repository / "refs" / "main").read_text() == snapshot.name
    for path in snapshot.iterdir():
        assert path.is_symlink()
        assert path.resolve().parent == repository / "blobs"
    assert sum(path.stat().st_size for path in snapshot.glob("*.safetensors")) == pytest.approx(16e9, rel=0.01)
    assert json.loads((snapshot / "config.json").read_text())["model_type"] == "qwen3"


def test_two_parallel_downloads_of_a_model_share_the_work(machine: EmbeddedPod, shell: Shell) -> None:
    set_download_seconds(machine, 0.5)
    outcome = shell("hf download m/m & hf download m/m && wait $!")
    assert outcome.status == 0, outcome.text


def test_cached_files_are_not_downloaded_again(machine: EmbeddedPod, shell: Shell) -> None:
    set_download_seconds(machine, 0.1)
    planned = json.loads(shell("hf download Qwen/Qwen3-8B --dry-run --format json").text)
    assert {"file": "config.json", "size": "726.0"} in planned
    shell("hf download Qwen/Qwen3-8B")
    set_download_seconds(machine, 60)
    start = time.monotonic()
    assert json.loads(shell("hf download Qwen/Qwen3-8B --format json").text).keys() == {"path"}
    assert time.monotonic() - start < 5
    cached = json.loads(shell("hf download Qwen/Qwen3-8B --dry-run --format json").text)
    assert {file["size"] for file in cached} == {"-"}


def test_sigterm_ends_a_download_and_leaves_incomplete_files(machine: EmbeddedPod, shell: Shell) -> None:
    set_download_seconds(machine, 60)
    blobs = machine.home / ".cache/huggingface/hub/models--stall--x/blobs"
    shell("setsid --fork hf download stall/x < /dev/null > /dev/null 2>&1")
    until(lambda: blobs.exists() and list(blobs.glob("*.incomplete")))
    shell("kill $(ps -eo pid=,args= | awk '/[h]f download stall/ { print $1 }')")
    until(lambda: not machine.processes())
    assert list(blobs.glob("*.incomplete"))


@pytest.mark.parametrize(
    ("repository", "error"),
    [
        ("gated/x", "Error: Access denied. Model 'gated/x' requires approval."),
        ("missing/x", "Error: Model 'missing/x' not found."),
        ("no-space/x", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_failed_download_prints_the_real_error(
    machine: EmbeddedPod, shell: Shell, repository: str, error: str
) -> None:
    set_download_seconds(machine, 0.1)
    outcome = shell(f"hf download {repository}")
    assert outcome.status == 1
    assert error in outcome.err.decode()


@pytest.mark.parametrize(
    ("repository", "gigabytes"),
    [
        ("Qwen/Qwen2.5-72B-Instruct", 144),
        ("zai-org/GLM-4.5-Air-FP8", 106),
        ("openai/gpt-oss-20b", 12),
        ("x/y", 1.5),
    ],
)
def test_the_name_of_a_model_determines_the_size_of_its_weights(repository: str, gigabytes: float) -> None:
    assert hf.weight_bytes(repository) == pytest.approx(gigabytes * 1e9)


def test_the_real_setup_script_prepares_the_pod_and_can_run_again(machine: EmbeddedPod, shell: Shell) -> None:
    volume = machine.home / "volume"
    shutil.copytree(REMOTE, machine.home / "remote")
    sent = f'PI_MOUNT="sudo mount -t nfs host:/models {volume}" PI_MOUNT_TARGET={volume} PI_MOUNT_KIND=nfs'
    run = f"{sent} PI_MOUNT_SOURCE=host:/models bash ~/remote/pod_setup.sh"
    first = shell(run)
    assert first.status == 0, first.err.decode()
    assert shell("~/venv/bin/vllm --version").text == "0.32.0\n"
    assert shell("~/venv/bin/hf download x/y --dry-run --quiet").status == 0
    again = shell(run)
    assert again.status == 0, again.err.decode()
    assert "vLLM 0.32.0 is already installed" in again.text


def test_an_installed_program_also_replaces_the_venvs_command(machine: EmbeddedPod, shell: Shell) -> None:
    shell("uv venv ~/venv && uv pip install --python ~/venv/bin/python vllm==0.11.0")
    assert shell("~/venv/bin/vllm --version").text == "0.11.0\n"
    machine.install("vllm", "#!/bin/sh\necho mine\n")
    assert shell("~/venv/bin/vllm --version").text == "mine\n"


@pytest.mark.parametrize("command", ["curl -sS https://example.org", "mount -t nfs host:/x /mnt"])
def test_stubs_reach_nothing_outside_the_pod(shell: Shell, command: str) -> None:
    outcome = shell(command)
    assert outcome.status != 0
    assert b"simulated pod" in outcome.err
