"""The `vllm serve` command, for the launch on the pod and for `pi start --dry-run`. Pure.

Both are the same command: no other module adds words or variables to it, except the secrets and the marker.
"""

import os
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence

if TYPE_CHECKING:
    from agent import protocol

LIB = os.path.join("~", ".pi", "lib")  # folder of the middleware
# Added by the pod under a condition:
READ_AHEAD = ("--safetensors-load-strategy", "prefetch")  # for weights on a network file system that vLLM does not know
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # for a model that is complete in the pod's cache


def argv(
    model: str,
    name: str,
    arguments: Sequence[str],
    *,
    port: int,
    private: bool,
    program: str = "vllm",
    across: "Optional[protocol.Across]" = None,
) -> List[str]:
    """Return the words of the command; `across` is this pod's part in a model over several.

    A node has no HTTP server. All parts have the same arguments, since vLLM does not compare them: with different ones
    it hangs.
    """
    host = "127.0.0.1" if private else "0.0.0.0"
    server = ["--host", host, "--port", str(port), "--middleware", "require_key.RequireKey"]
    words = [program, "serve", model, "--served-model-name", name]
    words += ["--headless"] if across and across["role"] == "node" else server
    return [*words, *arguments, *(meeting(across) if across else [])]


def meeting(across: "protocol.Across") -> List[str]:
    """Return the arguments with which the parts of a model find each other.

    mp is written out: where ray is installed, vLLM would choose that.
    """
    ranks = ["--nnodes", str(len(across["peers"])), "--node-rank", str(across["rank"])]
    master = ["--master-addr", across["master"], "--master-port", str(across["master_port"])]
    return [*ranks, *master, "--distributed-executor-backend", "mp"]


def network(across: "protocol.Across") -> Dict[str, str]:
    """Return the variables that keep the traffic of a model over several pods on the private network.

    Without the first, gloo takes 127.0.0.1 where the name of the host does not resolve; without the others, NCCL and
    gloo choose an interface themselves, which at RunPod is the wrong one.
    """
    interface = across["interface"]
    return {"VLLM_HOST_IP": across["address"], "GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}


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
