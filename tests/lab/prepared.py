"""What makes an openssh pod one that was set up: GPUs, vLLM and hf, all three simulated by `pi demo`'s stubs."""

import json
import shutil
from pathlib import Path

import pi_cli
from pi_cli.demo import gpus
from tests.lab.openssh import OpensshPod

PACKAGE = Path(pi_cli.__file__).parent
HERE = "/opt/pi"  # where the stubs lie on a pod
LAUNCHER = f"""#!/bin/sh
exec python3 -I -S {HERE}/pi_cli/demo/bin/NAME "$@"
"""


def furnish(pod: OpensshPod) -> None:
    """Give a pod that has Python two GPUs and the programs that pi looks for; downloads are quick."""
    copy = pod.root / HERE.lstrip("/") / "pi_cli"
    shutil.copytree(PACKAGE / "demo", copy / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "__init__.py", copy)
    for name in ("vllm", "hf", "nvidia-smi"):
        pod.install(name, LAUNCHER.replace("NAME", name))
    gpus.install(pod.home, gpus.parse("2x H100 80GB"))
    pace_downloads(pod, seconds=0.1)


def pace_downloads(pod: OpensshPod, *, seconds: float) -> None:
    """Say how long a whole download takes."""
    (pod.home / ".demo/hf.json").write_text(json.dumps({"seconds": seconds}))
