"""One model over two pods with a real vLLM on CPU: two OpenSSH pods in network namespaces of their own.

The second pod gets the first one's files instead of a setup of its own, which takes minutes. gloo stands for NCCL.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.conftest import Engine
from tests.engine.test_main_job import ARGUMENTS as QUICK
from tests.engine.test_main_job import MODEL
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod
from tests.until import until

# As on one pod, but without `--enforce-eager`: with a given KV cache it skips the warm-up that pipeline stages need.
ARGUMENTS = "-cc.mode=1 -cc.backend=eager --dtype float32 --max-model-len 32768 --max-num-seqs 4"
ARGUMENTS += (
    " --kv-cache-memory-bytes 128M --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
)
ACROSS = ("start", MODEL, "--name", "big", "--across", "dc1,dc2")
START = (*ACROSS, "--anyway", "--vllm", *ARGUMENTS.split(), "-pp", "2")
WIDE = ("--vllm", *QUICK.split(), "-tp", "2")
SLOW = "rate 400mbit burst 256kb latency 50ms"  # less than the least that pi takes without `--anyway`
COPIED = (
    "etc/alternatives",
    "etc/ssl",
    "etc/ld.so.cache",
    "usr",
    "var/lib",
    "root/.pi",
    "root/.local",
    "root/venv",
)
OF_ONE_MACHINE = ("root/.pi/machine", "root/.pi/models", "root/.pi/lock")


def copy(source: OpensshPod, target: OpensshPod) -> None:
    """Give a pod what setup has installed on another one."""
    there = [path for path in COPIED if (source.root / path).exists() or (source.root / path).is_symlink()]
    left_out = [f"--exclude={path}" for path in OF_ONE_MACHINE]
    reading = ["tar", "-C", str(source.root), "-cf", "-", *left_out, *there]
    with subprocess.Popen(reading, stdout=subprocess.PIPE) as tar:
        subprocess.run(["tar", "-C", str(target.root), "-xpf", "-"], stdin=tar.stdout, check=True)
    assert tar.returncode == 0


def engines(pod: OpensshPod) -> list[int]:
    return [process.pid for process in pod.processes() if "PI_MODEL_UID" in process.environ]


@contextmanager
def slowed(*pods: OpensshPod) -> Iterator[None]:
    """Limit what pods send while the block runs."""
    for pod in pods:
        pod.limit(SLOW)
    try:
        yield
    finally:
        for pod in pods:
            pod.limit(None)


@pytest.fixture(scope="module")
def second(engine: Engine, openssh_lab: OpensshLab) -> Iterator[OpensshPod]:
    """The pod `dc2`, as if it had been set up like `dc1`."""
    assert engine.setup.code == 0, engine.setup.err
    with openssh_lab.pod("dc2") as pod:
        copy(engine.pod, pod)
        pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
        folder = Path(engine.settings["PI_CONFIG_DIR"])
        state = json.loads((folder / "pods.json").read_text())
        state["pods"]["dc2"] = state["pods"]["dc1"] | {"ssh": pod.ssh, "models": {}}
        (folder / "pods.json").write_text(json.dumps(state))
        with (folder / "known_hosts").open("a") as file:
            file.write(f"dc2 {(pod.root / 'etc/ssh/ssh_host_ed25519_key.pub').read_text()}")
        yield pod
        engine.pi("stop", "--all")
        engine.pi("pods", "remove", "dc2", "--yes")


def test_a_model_over_two_pods_answers_and_a_killed_node_is_seen_and_all_is_stopped(
    engine: Engine, second: OpensshPod
) -> None:
    started = engine.pi(*START, timeout=500)
    assert started.code == 0, started.err
    assert "ready `big` on `dc1+dc2`" in started.out
    assert f"`dc2` reaches it at {engine.pod.address} (eth0) with " in started.err
    assert engine.pi("prompt", "big", "What is 2+2?").out.strip() == "4"
    [row] = engine.pi("list", "--json").json
    assert (row["status"], [part["role"] for part in row["parts"]]) == ("ready", ["head", "node"])
    assert row["port"] not in second.listening()  # a node has no server

    second.check(f"kill -KILL {' '.join(map(str, engines(second)))}")
    until(lambda: engine.pi("list", "--json").json[0]["status"] == "degraded", seconds=60)
    assert engine.pi("list", "--json").json[0]["cause"] == "dc2 is gone"
    stopped = engine.pi("stop", "big")
    assert stopped.code == 0, stopped.err
    assert engines(engine.pod) == engines(second) == []
    until(lambda: engine.pod.listening() == second.listening() == {22})


def test_tensor_parallelism_over_a_slow_network_is_refused_and_anyway_answers(
    engine: Engine, second: OpensshPod
) -> None:
    with slowed(engine.pod, second):
        refused = engine.pi(*ACROSS, *WIDE)
        assert (refused.code, refused.out) == (2, "")
        assert "too slow for one model over several pods" in refused.err
        assert "give `--anyway`" in refused.err
        assert engines(engine.pod) == engines(second) == []

        started = engine.pi(*ACROSS, "--anyway", *WIDE, timeout=500)
        assert started.code == 0, started.err
        assert engine.pi("prompt", "big", "What is 2+2?").out.strip() == "4"
        shards = [word for pod in (engine.pod, second) for each in pod.processes() for word in each.args[:1]]
        assert len([word for word in shards if word.startswith("VLLM::Worker_TP")]) == 2
    stopped = engine.pi("stop", "big")
    assert stopped.code == 0, stopped.err
    assert engines(engine.pod) == engines(second) == []
    until(lambda: engine.pod.listening() == second.listening() == {22})
