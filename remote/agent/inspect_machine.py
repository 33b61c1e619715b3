"""What this machine is and has: GPUs, disks, vLLM versions. It reads, and changes nothing."""

import os
from typing import TYPE_CHECKING, Dict, Optional

from agent import disks, gpus, home, survey, vllm_versions
from agent.home import HOME, PI

if TYPE_CHECKING:
    from agent import protocol


def inspect(request: "protocol.InspectRequest") -> "protocol.Inspection":
    """Answer everything at once. The texts of `nvidia-smi` are read by pi, which brings the questions along."""
    settings = home.pod_environment()
    asked = gpus.ask(request["gpu_query"], settings)
    storage = models_path(settings)
    known = request["known"]
    return {
        "gpus": asked.text,
        "slices": gpus.ask(request["gpu_list"], settings).text if "Enabled" in asked.text else "",
        "trouble": asked.trouble,
        "home": disks.disk(HOME),
        "storage": disks.disk(storage) if storage else None,
        "vllm": vllm_versions.version(),
        "versions": vllm_versions.versions(),
        "provider": provider(),
        "boot": home.boot_id(),
        "models": None if known is None else survey.survey(known, forget=False)["models"],
    }


def models_path(settings: Dict[str, str]) -> Optional[str]:
    """Return the folder for models: setup puts the cache of Hugging Face into it."""
    cache = settings.get("HF_HOME", "").rstrip("/")
    if not cache.startswith("/") or cache == os.path.join(HOME, ".cache", "huggingface"):
        return None
    return os.path.dirname(cache)


def provider() -> Optional[str]:
    """Return the word by which setup recognised the provider of this machine."""
    try:
        words = home.read_bytes(os.path.join(PI, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
