"""Inspect this machine: GPUs, disks, vLLM versions. Read-only."""

import base64
import contextlib
import hashlib
import os
import zlib
from typing import TYPE_CHECKING, List, Optional

from agent import cuda, disks, gpus, home, machine, place, survey, variables, vllm_versions
from agent.home import HOME
from agent.vllm_versions import ABILITIES, MAX_ABILITIES

if TYPE_CHECKING:
    from agent import protocol


def inspect(request: "protocol.InspectRequest") -> "protocol.Inspection":
    """Return everything at once. pi sends the `nvidia-smi` commands and parses their output."""
    settings = variables.pod_environment()
    output, slices = gpus.ask([request["gpu_query"], request["gpu_list"]], settings, only_with="Enabled")
    storage, elsewhere = variables.models_path(settings), place.chosen()
    known = request["known"]
    models = None if known is None else survey.survey(known, forget=False)["models"]
    question = None if output.driver == "hangs" else request["cuda"]
    return {
        "gpus": output.text,
        "slices": slices.text if "Enabled" in output.text else "",
        "trouble": output.trouble,
        "driver": output.driver,
        "home": disks.disk(HOME),
        "place": disks.disk(elsewhere) if elsewhere else None,
        "storage": disks.disk(storage) if storage else None,
        "vllm": vllm_versions.version(),
        "versions": vllm_versions.versions(),
        "abilities": abilities(request["abilities"]),
        "provider": provider(),
        "boot": home.boot_id(),
        "models": models,
        "cuda": None if question is None else cuda.ask(question, settings, output.text, models),
    }


def abilities(known: List[str]) -> "List[protocol.Abilities]":
    """Return what the vLLMs said about themselves at setup; the content only if it is not among the known digests."""
    default = vllm_versions.default()
    others = [vllm for vllm in vllm_versions.kept() if vllm.path != default.path]
    found: "List[protocol.Abilities]" = []
    for vllm in [default, *others]:
        with contextlib.suppress(OSError):
            content = home.read_regular(os.path.join(vllm.path, ABILITIES), MAX_ABILITIES + 1)
            if len(content) > MAX_ABILITIES:
                continue
            digest = hashlib.sha256(content).hexdigest()
            is_wanted = vllm == default and digest not in known
            packed = base64.b64encode(zlib.compress(content, 9)).decode("ascii") if is_wanted else ""
            found.append(
                {
                    "version": vllm.version,
                    "is_default": vllm == default,
                    "size": len(content),
                    "digest": digest,
                    "packed": packed,
                }
            )
    return found


def provider() -> Optional[str]:
    """Return the provider of this machine as setup recognised it, in one word."""
    try:
        words = home.read_bytes(os.path.join(machine.PLACE, "provider")).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words else None
