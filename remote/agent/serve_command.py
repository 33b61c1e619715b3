"""The `vllm serve` command, for the launch on the pod and for `pi start --dry-run`. Pure.

Both are the same command: no other module adds words or variables to it, except the secrets and the marker.
"""

import os
from typing import Dict, List, Mapping, Sequence

LIB = os.path.join("~", ".pi", "lib")  # folder of the middleware
# Added by the pod under a condition:
READ_AHEAD = ("--safetensors-load-strategy", "prefetch")  # for weights on a network file system that vLLM does not know
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # for a model that is complete in the pod's cache


def argv(
    model: str, name: str, arguments: Sequence[str], *, port: int, private: bool, program: str = "vllm"
) -> List[str]:
    """Return the words of the command."""
    host = "127.0.0.1" if private else "0.0.0.0"
    words = [program, "serve", model, "--served-model-name", name, "--host", host, "--port", str(port)]
    return [*words, "--middleware", "require_key.RequireKey", *arguments]


def settings(gpu: str, devices: Mapping[str, str], *, lib: str = LIB, python_path: str = "") -> Dict[str, str]:
    """Return the environment variables that it needs; `gpu` is a comma-separated list of ids, `devices` maps some ids
    to CUDA's names."""
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of nvidia-smi; CUDA's default puts the fastest GPU first
        "CUDA_VISIBLE_DEVICES": ",".join(devices.get(gpu_id, gpu_id) for gpu_id in gpu.split(",")),
        "PYTHONPATH": os.pathsep.join(filter(None, [lib, python_path])),
        # vLLM renames its engine and workers with setproctitle, which overwrites the process's environment with the
        # title: the marker would vanish from /proc (measured on 0.32). This setting makes it keep the environment.
        "SPT_NOENV": "1",
    }
