"""The `vllm serve` command: for the launch on the pod, and for pi to show it (`pi start --dry-run`). Pure.

What is shown is what is run: nothing else adds a word or a variable to it, but for the secrets and the marker.
"""

import os
from typing import Dict, List, Mapping, Sequence

LIB = os.path.join("~", ".pi", "lib")  # where the middleware lies
# What the pod adds by itself, where it finds that it should:
READ_AHEAD = ("--safetensors-load-strategy", "prefetch")  # weights on a network file system that vLLM does not know
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # the model is complete in the pod's cache


def argv(
    model: str, name: str, arguments: Sequence[str], *, port: int, private: bool, program: str = "vllm"
) -> List[str]:
    """Return the command's words."""
    host = "127.0.0.1" if private else "0.0.0.0"
    words = [program, "serve", model, "--served-model-name", name, "--host", host, "--port", str(port)]
    return [*words, "--middleware", "require_key.RequireKey", *arguments]


def settings(gpu: str, devices: Mapping[str, str], *, lib: str = LIB, python_path: str = "") -> Dict[str, str]:
    """Return the variables that it needs; `gpu` is a comma-separated list of ids, `devices` CUDA's names for some."""
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts: CUDA by itself puts the fastest GPU first
        "CUDA_VISIBLE_DEVICES": ",".join(devices.get(gpu_id, gpu_id) for gpu_id in gpu.split(",")),
        "PYTHONPATH": os.pathsep.join(filter(None, [lib, python_path])),
        # vLLM renames its engine and workers with setproctitle, which writes the title over the process's environment:
        # the marker would be gone from /proc (measured on 0.32). So it is told to leave the environment alone.
        "SPT_NOENV": "1",
    }
