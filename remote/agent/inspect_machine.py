"""Inspect this machine: GPUs, disks, vLLM versions. Read-only."""

import os
from typing import TYPE_CHECKING, Optional

from agent import disks, gpus, home, machine, survey, variables, vllm_versions
from agent.home import HOME

if TYPE_CHECKING:
    from agent import protocol


def inspect(request: "protocol.InspectRequest") -> "protocol.Inspection":
    """Return everything at once. pi sends the `nvidia-smi` commands and parses their output."""
    settings = variables.pod_environment()
    output = gpus.ask(request["gpu_query"], settings)
    storage = variables.models_path(settings)
    known = request["known"]
    return {
        "gpus": output.text,
        "slices": gpus.ask(request["gpu_list"], settings).text if "Enabled" in output.text else "",
        "trouble": output.trouble,
        "home": disks.disk(HOME),
        "storage": disks.disk(storage) if storage else None,
        "vllm": vllm_versions.version(),
        "versions": vllm_versions.versions(),
        "provider": provider(),
        "boot": home.boot_id(),
        "models": None if known is None else survey.survey(known, forget=False)["models"],
    }


def provider() -> Optional[str]:
    """Return the provider of this machine as setup recognised it, in one word."""
    try:
        words = home.read_bytes(os.path.join(machine.PLACE, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
