"""One model over several pods: `pi start --across`, and what list, stop, logs and prompt say of it.

The private network is SIMULATED: each embedded pod has an address of its own on this machine's loopback. The engine is
the simulated one too; `tests/engine/test_across.py` has a real vLLM.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.demo.processes import Process
from tests.commands.staying import staying
from tests.conftest import KEY, Pi, pods_json
from tests.until import until

START = ("start", "Qwen/Qwen3-8B", "--name", "q", "--across", "dc1,dc2")
MARKER = "PI_MODEL_UID"
OOM = "#!/bin/sh\necho 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.'\nexit 1\n"

pytestmark = pytest.mark.timeout(120)


def engines(pod: EmbeddedPod) -> list[Process]:
    return [process for process in pod.processes() if MARKER in process.environ]


def server(pod: EmbeddedPod) -> Process:
    return next(process for process in engines(pod) if "serve" in process.command)


def kill(pod: EmbeddedPod) -> None:
    """Kill all processes of the models of a pod."""
    for process in engines(pod):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    until(lambda: not engines(pod))


def records(pod: EmbeddedPod) -> list[Path]:
    return list((pod.home / ".pi" / "models").glob("*.json"))


def left(*pods: EmbeddedPod) -> list[object]:
    """Return the processes and records of models on pods."""
    return [each for pod in pods for each in (*engines(pod), *records(pod))]


def listed() -> dict[str, list[str]]:
    return {name: list(pod["models"]) for name, pod in pods_json()["pods"].items()}


@pytest.fixture
def two(embed: Callable[..., EmbeddedPod]) -> tuple[EmbeddedPod, EmbeddedPod]:
    """Two pods with two GPUs each, `dc1` and `dc2`, in one simulated private network."""
    return embed("dc1"), embed("dc2")


def test_a_model_runs_over_two_pods_and_is_used_listed_and_stopped_as_one(
    pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod]
) -> None:
    dc1, dc2 = two
    started = pi(*START)
    assert started.code == 0, started.err
    assert "ready `q` on `dc1+dc2`: http://127.0.0.1:" in started.out
    assert f"dc1: `dc2` reaches it at {dc1.private_address} (simulated) with " in started.err

    head, node = server(dc1), server(dc2)
    meeting = ["--nnodes", "2", "--node-rank", "0", "--master-addr", dc1.private_address, "--master-port"]
    assert all(word in head.command for word in meeting)
    assert ("--headless" in head.command, "--headless" in node.command) == (False, True)
    assert ("--port" in head.command, "--port" in node.command) == (True, False)
    sizes = ("--tensor-parallel-size", "--pipeline-parallel-size")
    for process in (head, node):
        assert [process.command[process.command.index(size) + 1] for size in sizes] == ["2", "2"]
        assert process.command[process.command.index("--distributed-executor-backend") + 1] == "mp"
        assert process.environ["GLOO_SOCKET_IFNAME"] == process.environ["NCCL_SOCKET_IFNAME"] == "lo"
    assert (head.environ["VLLM_HOST_IP"], node.environ["VLLM_HOST_IP"]) == (dc1.private_address, dc2.private_address)
    assert head.environ[MARKER] == node.environ[MARKER]
    assert head.environ["VLLM_API_KEY"] == KEY
    assert all(KEY not in process.environ.values() for process in engines(dc2))  # a node has no server

    [row] = pi("list", "--json").json  # of dc1 alone, which is active
    assert (row["pod"], row["status"], row["answers_from_here"]) == ("dc1", "ready", True)
    assert [(part["pod"], part["role"], part["gpus"]) for part in row["parts"]] == [
        ("dc1", "head", [0, 1]),
        ("dc2", "node", [0, 1]),
    ]
    [_, shown] = pi("list", "--pod", "dc2").out.splitlines()
    assert shown.split()[:3] == ["dc1+dc2", "q", "ready"]
    assert pi("prompt", "q", "hello").code == pi("prompt", "dc2/q", "hello").code == 0
    assert "Application startup complete" in pi("logs", "q", "--no-follow", "-n", "all").out
    assert "Application startup complete" not in pi("logs", "q", "--pod", "dc2", "--no-follow", "-n", "all").out

    stopped = pi("stop", "q", "--json")
    assert {(each["pod"], each["outcome"]) for each in stopped.json} == {("dc1", "stopped"), ("dc2", "stopped")}
    assert not left(dc1, dc2)
    assert listed() == {"dc1": [], "dc2": []}


def test_what_one_of_its_pods_has_lost_is_said_and_stop_ends_the_rest(
    pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod]
) -> None:
    dc1, dc2 = two
    assert pi(*START).code == 0
    kill(dc2)
    seen = pi("list")
    assert "degraded (dc2 is gone)" in seen.out
    assert "note: `q` on `dc1+dc2` is degraded: dc2 is gone; end the rest of it with `pi stop q --pod dc1`" in seen.err
    [row] = pi("list", "--json").json
    assert (row["status"], row["cause"], row["url"] is not None) == ("degraded", "dc2 is gone", True)
    assert pi("stop", "q").code == 0
    assert engines(dc1) == []

    assert pi(*START).code == 0
    kill(dc1)
    assert "degraded (its head on dc1 is gone)" in pi("list").out.replace("\n", " ")
    refused = pi("prompt", "q", "hello")
    assert (refused.code, "whose head is not on pi's list" in refused.err) == (2, True)
    assert pi("stop", "q").code == 0
    assert not left(dc2)


def test_another_client_lists_and_stops_all_parts(
    pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dc1, dc2 = two
    assert pi(*START, "--detach").code == 0
    mine, other = Path(os.environ["PI_CONFIG_DIR"]), tmp_path / "other"
    shutil.copytree(mine, other)
    state = pods_json()
    for pod in state["pods"].values():
        pod["models"] = {}

    def know_nothing() -> None:
        (other / "pods.json").write_text(json.dumps(state))

    know_nothing()
    monkeypatch.setenv("PI_CONFIG_DIR", str(other))
    until(lambda: "ready" in pi("list").out)
    know_nothing()
    assert "dc1+dc2  q " in pi("list").out
    know_nothing()
    assert pi("stop", "q").code == 0
    assert not left(dc1, dc2)


def test_the_first_part_that_dies_fails_the_start_with_its_cause(pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod]) -> None:
    dc1, dc2 = two
    dc2.install("vllm", OOM)
    result = pi(*START)
    assert result.code == 4
    assert "error: `Qwen/Qwen3-8B` did not start on `dc2`: " in result.err
    assert "CUDA out of memory" in result.err
    assert not left(dc1, dc2)
    assert listed() == {"dc1": [], "dc2": []}


def test_ctrl_c_leaves_nothing_on_any_pod(two: tuple[EmbeddedPod, EmbeddedPod]) -> None:
    dc1, dc2 = two
    (dc1.home / ".demo" / "vllm.json").write_text('{"seconds": 60}')
    with staying(*START) as start:
        start.says("dc1: starting vLLM")
        assert start.end(signal.SIGINT, timeout=30) == 130
    assert not left(dc1, dc2)
    assert listed() == {"dc1": [], "dc2": []}


def test_a_pod_that_is_lost_during_the_start_leaves_nothing_on_the_others(two: tuple[EmbeddedPod, EmbeddedPod]) -> None:
    dc1, dc2 = two
    (dc1.home / ".demo" / "vllm.json").write_text('{"seconds": 60}')
    with staying(*START) as start:
        start.says("dc1: starting vLLM")
        dc2.close()
        assert start.process.wait(60) == 3
        start.says("cannot reach pod `dc2`")
    assert not left(dc1)
    assert listed() == {"dc1": [], "dc2": []}


def test_a_removed_pod_is_named_with_the_models_that_need_it(pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod]) -> None:
    dc1, dc2 = two
    assert pi(*START).code == 0
    kept = pi("pods", "remove", "dc2")
    assert kept.code == 1
    assert "`q` runs over `dc1`, `dc2`, and cannot answer without all of them: `pi stop q --pod dc1`" in kept.err
    assert pi("pods", "remove", "dc2", "--stop").code == 0
    assert engines(dc1) == engines(dc2) == []


def test_a_dry_run_shows_the_commands_of_both_pods(pi: Pi, two: tuple[EmbeddedPod, EmbeddedPod]) -> None:
    rows = pi(*START, "--dry-run", "--json").json
    assert [(row["pod"], row["role"]) for row in rows] == [("dc1", "head"), ("dc2", "node")]
    head, node = (row["command"] for row in rows)
    assert "--node-rank 0 --master-addr ADDRESS_OF_dc1 --master-port 29501 --distributed-executor-backend mp" in head
    assert "VLLM_HOST_IP=ADDRESS_OF_dc2" in node
    assert ("--headless" in head, "--headless" in node) == (False, True)
    assert "2 pods: tensor parallel inside each pod, pipeline parallel across them" in rows[0]["reasons"]
    assert not any(pod.commands for pod in two)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--across", "dc1"), "does not name several pods"),
        (("--across", "dc1,dc1"), "does not name several pods"),
        (("--across", "dc1,nope"), "there is no pod `nope`"),
        (("--across", "dc1,dc2", "--pod", "dc1"), "`--across` and `--pod` exclude each other"),
        (("--anyway",), "is for a model over several pods"),
        (("--across", "dc1,dc2", "--vllm", "--nnodes", "2"), "started with `--across POD,POD`, not with `--nnodes`"),
        (("--across", "dc1,dc2", "--vllm", "-dp", "2"), "cannot be combined with `--across`"),
        (("--across", "dc1,dc2", "--vllm", "-tp", "1"), "cannot be divided among 2 pods"),
        (("--across", "dc1,small"), "equally many GPUs: `dc1` has 2, `small` has 1"),
    ],
    ids=["one", "twice", "unknown", "pod", "alone", "ranks", "replicas", "odd", "gpus"],
)
def test_what_cannot_be_combined_is_refused_before_a_pod_is_asked(
    words: tuple[str, ...], reason: str, pi: Pi, embed: Callable[..., EmbeddedPod]
) -> None:
    pods = [embed("dc1"), embed("dc2"), embed("small", "1x H100 80GB")]
    refused = pi("start", "Qwen/Qwen3-8B", "--name", "q", *words)
    assert (refused.code, reason in refused.err) == (2, True), refused.err
    assert not any(pod.commands for pod in pods)


def test_pods_without_a_private_network_or_with_other_vllms_are_refused(
    pi: Pi, embed: Callable[..., EmbeddedPod]
) -> None:
    dc1, dc2 = embed("dc1"), embed("dc2", has_private_network=False)
    refused = pi(*START)
    assert refused.code == 2
    assert "`dc2` has no address in a private network" in refused.err
    assert "port 29501 is open on all interfaces" in refused.err
    assert "--insecure-network" in refused.err
    assert not left(dc1, dc2)
