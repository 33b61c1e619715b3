"""How long a first start takes when vLLM compiles during the download, against one after the other.

`make bench-first-start`: a real vLLM (its CPU build), a tiny model, and a Hub that takes a minute for its files. Before
each start nothing is downloaded and nothing compiled.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import run
from tests.bench.real_start import TINY_MODEL, VLLM
from tests.lab.hub import Hub
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod, why_not

PI = (sys.executable, "-m", "pi_cli")
ROUNDS = 3
GOAL = 0.75
MODEL = "tiny/slow-chat"
FILLER = 60 * 10**6  # bytes that nothing reads: they make the download long
DOWNLOAD = 60  # seconds
OWN = "--dtype float32 --max-model-len 2048 --max-num-seqs 4 --kv-cache-memory-bytes 128M"
LEFT_BEHIND = "~/.cache/huggingface/hub ~/.cache/vllm ~/.pi/starts /tmp/torchinductor_root"


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    files: dict[str, int | bytes] = {path.name: path.read_bytes() for path in Path(TINY_MODEL).iterdir()}
    with (
        OpensshLab() as lab,
        lab.pod("dc1") as pod,
        Hub({}, host=pod.host) as hub,
        tempfile.TemporaryDirectory() as home,
    ):
        hub.add_synthetic(MODEL, files | {"onnx/filler.onnx": FILLER})
        pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
        settings = {
            "HOME": home,
            "PATH": os.environ["PATH"],
            "PI_API_KEY": "a-key-for-a-benchmark",
            "HF_TOKEN": "hf_a_token_for_a_benchmark",
            "HF_ENDPOINT": hub.url,
        }
        run([*PI, "pods", "setup", "dc1", pod.ssh, "--vllm", VLLM], settings)
        hub.rate = FILLER // DOWNLOAD
        measure(pod, settings)


def measure(pod: OpensshPod, settings: dict[str, str]) -> None:
    ratios = []
    for number in range(1, ROUNDS + 1):
        beside, after = start(pod, settings), start(pod, settings, "--no-warm-up")
        ratios.append(beside / after)
        print(f"round {number}: beside {beside:.1f} s, after {after:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (goal: at most {GOAL})")
    sys.exit(ratio > GOAL)


def start(pod: OpensshPod, settings: dict[str, str], *options: str) -> float:
    """Return the seconds of a first start."""
    pod.check(f"rm -rf {LEFT_BEHIND}")
    cost = run([*PI, "start", MODEL, "--name", "q", *options, "--vllm", *OWN.split()], settings)
    run([*PI, "stop", "q"], settings)
    return cost.wall


if __name__ == "__main__":
    main()
