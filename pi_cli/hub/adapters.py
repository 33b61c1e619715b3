"""Adapters (LoRA): repositories that change another model, which vLLM serves together with that model. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from pi_cli.hints import fill
from pi_cli.hub import weight_files
from pi_cli.hub.repository import REPOSITORY_ID, Repository
from pi_cli.vllm.abilities import Abilities

ADAPTER_CONFIG = "adapter_config.json"
RANK_OPTION = "--max-lora-rank"
DEFAULT_RANK = 16  # of `--max-lora-rank` in vLLM 0.32
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that it accepts (config/lora.py)
# What vLLM 0.32 refuses in an adapter_config.json (lora/peft_helper.py).
UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias (`lora_bias`)",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "use_bdlora": "BD-LoRA",
    "use_qalora": "QALoRA",
}


def is_adapter(found: Repository) -> bool:
    """Return whether a repository has an adapter and no weights of a model."""
    has_adapter = found.adapter is not None or any(fnmatch(name, weight_files.ADAPTER_WEIGHTS) for name in found.names)
    return has_adapter and not weight_files.choose(found.names)


def base(found: Repository) -> str:
    """Return the model that an adapter changes, as a name of the Hub; empty if it does not say."""
    named = (found.adapter or {}).get("base_model_name_or_path")
    if isinstance(named, str) and "/" in named and REPOSITORY_ID.fullmatch(named):
        return named
    return next((base.id for base in found.about.bases if base.relation in ("adapter", "")), "")


def with_base(found: Repository, base: str) -> Repository:
    """Return an adapter's repository as if it named this base model."""
    return replace(found, adapter={**(found.adapter or {}), "base_model_name_or_path": base})


def reason(found: Repository, vllm: Abilities) -> str:
    """Return why an adapter cannot be started, and cannot be served at all if vLLM does not support its kind."""
    settings = found.adapter or {}
    of = f" for `{base(found)}`" if base(found) else ""
    kind = str(settings.get("peft_type") or "LORA").upper()
    if kind != "LORA":
        kind = kind if kind.isprintable() else "unknown"
        return f"it is an adapter{of} of the kind {kind}, and vLLM serves LoRA only"
    if unsupported := next((words for key, words in UNSUPPORTED.items() if settings.get(key)), None):
        return f"it is a LoRA adapter{of} with {unsupported}, which vLLM does not support"
    if rank(settings) > max(_ranks(vllm)):
        return f"it is a LoRA adapter{of} of rank {rank(settings)}, and vLLM serves ranks up to {max(_ranks(vllm))}"
    return f"it is a LoRA adapter{of}, not a model"


def hint(found: Repository, vllm: Abilities, name: str) -> str:
    """Return the command that serves an adapter with its base model; clients then ask for the adapter by its name."""
    settings = found.adapter or {}
    merged = "choose a repository in which it is merged into its base model"
    is_lora = str(settings.get("peft_type") or "LORA").upper() == "LORA"
    highest = rank(settings)
    if not is_lora or any(settings.get(key) for key in UNSUPPORTED) or highest > max(_ranks(vllm)):
        return merged
    limit = min(allowed for allowed in _ranks(vllm) if allowed >= highest)
    option = f" {RANK_OPTION} {limit}" if limit > DEFAULT_RANK else ""
    command = "`pi start {base} --name {short} --vllm --enable-lora" + option + " --lora-modules {adapter}={id}`"
    return fill(
        f"start its base model with it: {command}; requests for the model `{{adapter}}` then use it",
        base=base(found) or "BASE",
        short=_short(base(found)) if base(found) else "NAME",
        adapter=name or _short(found.id),
        id=found.id,
    )


def rank(settings: Mapping[str, Any]) -> int:
    """Return the highest rank in an adapter_config.json, 0 if it names none.

    >>> rank({"r": 16, "rank_pattern": {"q_proj": 64}})
    64
    """
    pattern = settings.get("rank_pattern")
    ranks = [settings.get("r"), *(pattern.values() if isinstance(pattern, Mapping) else ())]
    return max((value for value in ranks if isinstance(value, int) and not isinstance(value, bool)), default=0)


def _ranks(vllm: Abilities) -> list[int]:
    option = next((option for option in vllm.options if RANK_OPTION in option.names), None)
    return [int(choice) for choice in option.choices if choice.isdecimal()] if option and option.choices else [*RANKS]


def _short(model: str) -> str:
    """Derive a name from an id: `Qwen/Qwen3-8B` → `qwen3-8b`."""
    return re.sub(r"[^a-z0-9.-]+", "-", model.rpartition("/")[2].lower()).strip("-.") or "model"
