"""Tell what this machine is and has: GPUs, disks, vLLM versions. It reads, and changes nothing.

Standard library only, Python 3.8 or newer.
"""

import os
from typing import Dict, List, Optional

import pod_disk
import pod_gpus
import pod_machine as machine
import pod_vllm
from pod_machine import HOME, PI, Json


def look(gpu_query: List[str], gpu_list: List[str]) -> Json:
    """Answer everything at once. The texts of `nvidia-smi` are read by pi, which brings the question along."""
    settings = machine.pod_environment()
    told = pod_gpus.ask(gpu_query, settings)
    storage = models_path(settings)
    return {
        "gpus": told["text"],
        "slices": pod_gpus.ask(gpu_list, settings)["text"] if "Enabled" in told["text"] else "",
        "trouble": told["trouble"],
        "home": pod_disk.disk(HOME),
        "storage": pod_disk.disk(storage) if storage else None,
        "vllm": pod_vllm.version(),
        "versions": pod_vllm.versions(),
        "provider": provider(),
        "boot": machine.boot_id(),
    }


def models_path(settings: Dict[str, str]) -> Optional[str]:
    """Return the folder for models: setup puts the cache of Hugging Face into it."""
    cache = settings.get("HF_HOME", "").rstrip("/")
    if not cache.startswith("/") or cache == os.path.join(HOME, ".cache", "huggingface"):
        return None
    return os.path.dirname(cache)


def provider() -> Optional[str]:
    """Return the word by which setup recognised who rents out this machine."""
    try:
        words = machine.read_bytes(os.path.join(PI, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
