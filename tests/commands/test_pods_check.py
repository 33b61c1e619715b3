"""`pi pods --check`: pods as they are now, against what pi remembers; and nothing is changed."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo import gpus as cards
from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json

Embed = Callable[..., EmbeddedPod]


def edit(name: str, **changes: Any) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"][name] |= changes
    path.write_text(json.dumps(state))


def install_vllm(pod: EmbeddedPod, version: str = "0.32.0") -> None:
    """Leave what tells vLLM's version, and nothing else of it."""
    packages = pod.home / "venv" / "lib" / "python3.12" / "site-packages"
    for old in packages.glob("vllm-*"):
        old.rmdir()
    (packages / f"vllm-{version}.dist-info").mkdir(parents=True)


@pytest.fixture
def ready(pod: EmbeddedPod) -> EmbeddedPod:
    """The pod `dc1` with vLLM, remembered as it is."""
    install_vllm(pod)
    edit("dc1", vllm="0.32.0")
    return pod


def notes(result: Any) -> list[str]:
    return [line.removeprefix("note: dc1: ") for line in result.err.splitlines() if line.startswith("note: dc1")]


def test_a_pod_that_is_as_remembered_is_ok_and_is_asked_once(pi: Pi, ready: EmbeddedPod) -> None:
    """Fault 57: one round trip."""
    before = pods_json()
    result = pi("pods", "--check")
    assert result.code == 0, result.err
    header, line = result.out.splitlines()
    assert re.split(r"  +", header.strip()) == ["POD", "STATUS", "GPUS", "IN USE", "MODELS", "FREE", "STORAGE", "VLLM"]
    expected = [r"\*", "dc1", "ok", "2x H100 80GB", "2x 0/80 GiB", "-", r"[\d.]+ .B", "-", r"0\.32\.0"]
    assert re.fullmatch("  +".join(expected), line.strip()), line
    assert notes(result) == []
    assert pods_json() == before
    assert len(ready.commands) == 1


def test_json_has_the_same(pi: Pi, ready: EmbeddedPod) -> None:
    [told] = pi("pods", "list", "--check", "--json").json
    assert (told["name"], told["active"], told["ssh"]) == ("dc1", True, ready.ssh)
    check = told["check"]
    assert (check["status"], check["error"], check["differences"], check["models"]) == ("ok", None, [], [])
    assert check["gpus"][1] == {
        "id": 1, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB", "used_mib": 0, "total_mib": 81559,
    }  # fmt: skip
    assert (check["driver"], check["vllm"], check["storage"]) == ("580.95.05", "0.32.0", None)
    assert 0 < check["home"]["free"] < check["home"]["total"]


def test_a_model_that_runs_shows_with_the_memory_it_holds(pi: Pi, ready: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    result = pi("pods", "--check")
    line = result.out.splitlines()[1]
    assert re.search(r"  \d\d/80, 0/80 GiB  q  ", line), line
    assert notes(result) == []
    edit("dc1", models={})
    assert notes(pi("pods", "--check")) == ["`q` is running but not recorded; `pi list --pod dc1` adds it to the list"]
    assert ready.processes()


def test_a_model_that_is_gone_is_reported_and_kept(pi: Pi, ready: EmbeddedPod) -> None:
    """Fault 53."""
    edit("dc1", models={"q": {"model": "m", "port": 8001, "gpu": "0", "pid": 4000000}})
    result = pi("pods", "--check")
    assert result.out.splitlines()[1].split()[2] == "changed"
    assert notes(result) == ["`q` is recorded but not running; `pi list --pod dc1` removes it from the list"]
    assert "q" in pods_json()["pods"]["dc1"]["models"]
    assert ready.processes() == []


def break_cuda(pod: EmbeddedPod, **faults: Any) -> None:
    (pod.home / ".demo/cuda.json").write_text(json.dumps(faults))


def test_a_pod_on_which_cuda_does_not_work_is_reported_with_what_to_do(pi: Pi, ready: EmbeddedPod) -> None:
    break_cuda(ready, cuInit=803)
    result = pi("pods", "--check")
    assert result.out.splitlines()[1].split()[2] == "changed"
    [note] = notes(result)
    assert note == (
        "CUDA does not work: the NVIDIA driver's kernel module and its CUDA library are of different versions (CUDA "
        "error 803); after an update of the driver, reboot; in a container, choose an image without a CUDA library of "
        "its own (package cuda-compat)"
    )
    assert len(ready.commands) == 1
    [told] = pi("pods", "list", "--check", "--json").json
    assert (told["check"]["cuda"]["problem"], told["check"]["cuda"]["code"]) == ("error", 803)
    assert told["check"]["differences"][0]["text"].startswith("CUDA does not work: ")


def test_a_single_gpu_that_cuda_cannot_use_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    break_cuda(ready, cuMemAlloc_v2={"1": 214})
    [note] = notes(pi("pods", "--check"))
    assert note.startswith(
        "GPU 1 cannot be used: the GPU's memory has an error that ECC cannot correct (CUDA error 214); "
    )


def test_a_gpu_that_cuda_has_lost_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    break_cuda(ready, count=1)
    [note] = notes(pi("pods", "--check"))
    assert note.startswith(
        "CUDA does not work: nvidia-smi lists 2 GPUs, and CUDA finds 1; restart the container, which "
    )


def test_a_cpu_pod_is_not_asked_about_cuda(pi: Pi, ready: EmbeddedPod) -> None:
    cards.install(ready.home, [])
    break_cuda(ready, cuInit=100)
    edit("dc1", gpus=[], vllm="0.32.0+cpu")
    [told] = pi("pods", "list", "--check", "--json").json
    assert told["check"]["cuda"] is None


def test_a_pod_that_came_back_without_gpus_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    cards.install(ready.home, [])
    result = pi("pods", "--check")
    assert result.code == 0
    [note] = notes(result)
    assert note == (
        "the recorded GPUs are 2x NVIDIA H100 80GB HBM3, the pod has none (nvidia-smi failed: No devices were found); "
        "a stopped machine may lose its GPUs to other customers: rent another one with the same volume"
    )
    assert len(pods_json()["pods"]["dc1"]["gpus"]) == 2


@pytest.mark.parametrize(
    ("script", "text", "hint"),
    [
        (
            "exec sleep 300",
            "the driver does not answer: nvidia-smi gave no answer within 1 s",
            "restart the machine; if its driver still hangs, ask the provider",
        ),
        (
            "echo 'Failed to initialize NVML: Unknown Error'; exit 255",
            "Failed to initialize NVML: Unknown Error",
            "see why with `pi ssh dc1 nvidia-smi`; restarting the machine may help",
        ),
    ],
)
def test_a_driver_that_does_not_answer_is_not_a_reason_to_rent_another_machine(
    pi: Pi, ready: EmbeddedPod, script: str, text: str, hint: str
) -> None:
    ready.install("nvidia-smi", f"#!/bin/sh\n{script}\n")
    (ready.home / ".pi").mkdir(exist_ok=True)
    with (ready.home / ".pi/env").open("a") as env:
        env.write("PI_DRIVER_PATIENCE=1\n")
    result = pi("pods", "--check")
    assert result.code == 0
    known = f"whether the recorded GPUs are there (2x NVIDIA H100 80GB HBM3) is unknown ({text})"
    assert notes(result)[-1] == f"{known}; {hint}"
    assert len(pods_json()["pods"]["dc1"]["gpus"]) == 2


def test_changed_gpus_are_reported_with_the_command_that_records_them(pi: Pi, ready: EmbeddedPod) -> None:
    cards.install(ready.home, cards.parse("1x L4"))
    assert notes(pi("pods", "--check")) == [
        "the recorded GPUs are 2x NVIDIA H100 80GB HBM3, the pod has 1x NVIDIA L4; record them with `pi pods setup dc1`"
    ]


def test_gpus_written_by_hand_are_the_same_by_a_part_of_their_name(pi: Pi, ready: EmbeddedPod) -> None:
    edit("dc1", gpus=[{"id": id, "name": "H100", "memory": "80GB"} for id in (0, 1)])
    assert notes(pi("pods", "--check")) == []
    assert ready.commands


def test_another_vllm_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    install_vllm(ready, "0.33.0")
    assert notes(pi("pods", "--check")) == [
        "the recorded vLLM is 0.32.0, the pod has 0.33.0; record it with `pi pods setup dc1`"
    ]


def test_a_pod_without_vllm_is_reported(pi: Pi, pod: EmbeddedPod) -> None:
    assert notes(pi("pods", "--check")) == ["vLLM is not installed; install it with `pi pods setup dc1`"]
    assert pod.commands


def test_a_missing_volume_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    (ready.home / ".pi").mkdir(exist_ok=True)
    (ready.home / ".pi" / "env").write_text(f"export HF_HOME='{ready.home}/volume/huggingface'\n")
    edit("dc1", storage={"path": f"{ready.home}/volume", "size": "70.4TB"})
    again = "mount it again with `pi pods setup dc1 --mount COMMAND`, or name the folder with `--models-path`"
    result = pi("pods", "--check")
    assert notes(result) == [f"{ready.home}/volume cannot be used: No such file or directory; {again}"]
    (ready.home / "volume").mkdir()
    assert notes(pi("pods", "--check")) == [f"nothing is mounted on {ready.home}/volume any more; {again}"]
    (ready.home / ".pi" / "env").unlink()
    assert notes(pi("pods", "--check")) == [
        f"models were kept on {ready.home}/volume, and are now in the home folder; {again}"
    ]


def test_memory_that_other_processes_hold_is_reported(pi: Pi, ready: EmbeddedPod) -> None:
    """Fault 34."""
    cards.allocate(ready.home, os.getpid(), {1: 73403})
    assert notes(pi("pods", "--check")) == [
        "GPU 1: 72 of 80 GiB are used by processes that pi did not start; see which with `pi ssh dc1 nvidia-smi`"
    ]


def test_a_dead_pod_is_shown_and_kept_and_delays_no_other(pi: Pi, embed: Embed) -> None:
    """Faults 1 and 57."""
    for name in ("dc1", "dc2"):
        install_vllm(embed(name))
    dead = embed("gone")
    edit("gone", models={"r": {"model": "m", "port": 8001, "gpu": "0", "pid": 7}}, vllm="0.31.0")
    dead.close()
    before = pods_json()
    began = time.monotonic()
    result = pi("pods", "--check")
    assert time.monotonic() - began < 15
    assert result.code == 3
    rows = [line.replace("*", " ").split()[:2] for line in result.out.splitlines()[1:]]
    assert rows == [["dc1", "ok"], ["dc2", "ok"], ["gone", "unreachable"]]
    assert result.err.count("error: cannot reach pod `gone`") == 1
    assert "dc1: answered" in result.err
    assert pods_json() == before
    told = {each["name"]: each["check"] for each in pi("pods", "--check", "--json").json}
    assert told["gone"]["status"] == "unreachable"
    assert "refused the connection" in told["gone"]["error"]
    assert told["dc2"]["status"] == "ok"


def test_a_cpu_pod_is_ok_without_gpus(pi: Pi, embed: Embed) -> None:
    install_vllm(embed("dc1", "none"), "0.32.0+cpu")
    edit("dc1", gpus=[], vllm="0.32.0+cpu")
    result = pi("pods", "--check")
    assert result.out.splitlines()[1].split()[:4] == ["*", "dc1", "ok", "CPU"]
    assert notes(result) == []


def test_without_pods_nothing_is_asked(pi: Pi) -> None:
    result = pi("pods", "--check")
    assert (result.code, result.out) == (0, "")
    assert "there are no pods yet" in result.err
