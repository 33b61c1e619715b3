"""Tell what this machine is and has: GPUs, disks, vLLM versions. It reads, and changes nothing."""

import os
from typing import Dict, List, Optional

from agent import disks, gpus, home, survey, vllm_versions
from agent.home import HOME, PI
from agent.wire import Json


def inspect(gpu_query: List[str], gpu_list: List[str], known: Optional[List[Json]]) -> Json:
    """Tell what this machine is and has; with `known` also what runs on it, as `survey` does."""
    found = look(gpu_query, gpu_list)
    return found if known is None else dict(found, models=survey.survey(known, forget=False)["models"])


def look(gpu_query: List[str], gpu_list: List[str]) -> Json:
    """Answer everything at once. The texts of `nvidia-smi` are read by pi, which brings the question along."""
    settings = home.pod_environment()
    told = gpus.ask(gpu_query, settings)
    storage = models_path(settings)
    return {
        "gpus": told["text"],
        "slices": gpus.ask(gpu_list, settings)["text"] if "Enabled" in told["text"] else "",
        "trouble": told["trouble"],
        "home": disks.disk(HOME),
        "storage": disks.disk(storage) if storage else None,
        "vllm": vllm_versions.version(),
        "versions": vllm_versions.versions(),
        "provider": provider(),
        "boot": home.boot_id(),
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
        words = home.read_bytes(os.path.join(PI, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
