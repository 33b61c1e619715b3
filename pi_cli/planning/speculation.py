"""What arguments of vLLM say about speculative decoding, and what it adds to a model's KV cache."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pi_cli.planning.architecture import Architecture
from pi_cli.vllm import vllm_arguments

CONFIG = ("--speculative-config", "-sc")
SHORTCUTS = {"--spec-method": "method", "--spec-model": "model", "--spec-tokens": "num_speculative_tokens"}
WITHOUT_WEIGHTS = frozenset({"ngram", "[ngram]", "ngram_gpu", "suffix"})


@dataclass(frozen=True, slots=True)
class Speculation:
    """How tokens are drafted: `method` and `model` as vLLM names them, `tokens` at once (None: the draft's own)."""

    method: str = ""
    model: str = ""
    tokens: int | None = None

    @property
    def is_mtp(self) -> bool:
        """Return whether the model's own layers for further tokens draft (every method of that name but Gemma's)."""
        return self.method.endswith("mtp") and not self.model

    @property
    def has_weights(self) -> bool:
        return self.method not in WITHOUT_WEIGHTS


def parse(arguments: Sequence[str]) -> Speculation | None:
    """Read `--speculative-config` as JSON or in dotted options, and its shortcuts; None without any of them.

    >>> parse(["-sc.method=mtp", "-sc.num_speculative_tokens", "2"])
    Speculation(method='mtp', model='', tokens=2)
    """
    if not any("-sc" in argument or "--spec" in argument for argument in arguments):
        return None
    settings = _from_json(vllm_arguments.value(arguments, CONFIG))
    for group in vllm_arguments.groups(arguments):
        name, equals, attached = group[0].partition("=")
        value = attached if equals else next(iter(group[1:]), "")
        option, _, key = name.replace("_", "-").partition(".")
        if key and option in CONFIG:
            settings[key.replace("-", "_")] = value
        elif shortcut := SHORTCUTS.get(option):
            settings[shortcut] = value
    if not settings:
        return None
    tokens = str(settings.get("num_speculative_tokens") or "")
    return Speculation(
        str(settings.get("method") or ""),
        str(settings.get("model") or ""),
        int(tokens) if tokens.removeprefix("-").isdecimal() else None,
    )


def with_drafts(architecture: Architecture, draft: Speculation) -> Architecture:
    """Return a model's architecture as it fills the KV cache with this speculation.

    Linear layers store a state for each drafted token (`MambaSpec.num_speculative_blocks`, v1/kv_cache_interface.py),
    and each layer for further tokens has a KV cache like the model's attention layers.
    """
    tokens = draft.tokens or 1
    layers = [
        replace(each, states=each.states + tokens) if each.kind == "linear" else each for each in architecture.layers
    ]
    attention = [index for index, each in enumerate(layers) if each.kind in ("full", "mla")]
    if draft.is_mtp and attention:
        last = attention[-1]
        layers[last] = replace(layers[last], count=layers[last].count + (architecture.shards.mtp_layers or 1))
    return replace(architecture, layers=tuple(layers))


def _from_json(text: str | None) -> dict[str, Any]:
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        return {}
    return dict(settings) if isinstance(settings, Mapping) else {}
