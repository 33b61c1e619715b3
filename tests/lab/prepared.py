"""What makes an openssh pod one that was set up: GPUs, vLLM and hf, all three simulated by `pi demo`'s stubs."""

import json
import shutil
from pathlib import Path

import pi_cli
from pi_cli.demo import gpus
from pi_cli.store import paths
from tests.lab.openssh import OpensshPod

PACKAGE = Path(pi_cli.__file__).parent
HERE = "/opt/pi"  # where the stubs lie on a pod
LAUNCHER = f"""#!/bin/sh
exec python3 -I -S {HERE}/pi_cli/demo/bin/NAME "$@"
"""


def furnish(pod: OpensshPod) -> None:
    """Give a pod that has Python two GPUs and the programs that pi looks for; downloads are quick."""
    # The simulated vLLM has its options from what vLLM can do, and divides the memory as the catalogue and the plan do.
    copy = pod.root / HERE.lstrip("/") / "pi_cli"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.asset("models.md"), copy.parent)
    for name in ("vllm", "hf", "nvidia-smi"):
        pod.install(name, LAUNCHER.replace("NAME", name))
    gpus.install(pod.home, gpus.parse("2x H100 80GB"))
    pace_downloads(pod, seconds=0.1)
    with (pod.root / "etc/environment").open("a") as variables:
        variables.write(f"PI_FREE_DISK={10**14}\n")  # simulated weights take no room


def pace_downloads(pod: OpensshPod, *, seconds: float) -> None:
    """Say how long a whole download takes."""
    (pod.home / ".demo/hf.json").write_text(json.dumps({"seconds": seconds}))


def simulate_installers(pod: OpensshPod) -> None:
    """Let `pod_setup.sh` run through in no time: what it would install with, and what that installs, is simulated."""
    for stub in (PACKAGE / "demo/bin").iterdir():
        if stub.is_file() and stub.read_text().startswith("#!/bin/sh"):
            pod.install(stub.name, stub.read_text())
    with (pod.root / "etc/environment").open("a") as variables:
        variables.write("PI_DEMO_POD=/usr/local\n")  # below it, uv's stub finds the others
    (pod.root / "usr/local/owner").write_text("1\n")  # the process without which there is no pod
