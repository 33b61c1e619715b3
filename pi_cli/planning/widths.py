"""How much a model computes for each token, read from its config.json: what the memory of a forward pass depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi_cli.planning import shards

EXPERTS_PER_TOKEN_KEYS = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
    *("moe_topk", "moe_top_k", "moe_k"),
)
LARGEST_WIDTH = 10_000_000  # far above all models: a larger number is an error


@dataclass(frozen=True, slots=True)
class Widths:
    """How much a model computes for each token, which decides the memory of a forward pass; 0: not known.

    `hidden` is its hidden size, `intermediate` that of its layers without experts, `vocabulary` the tokens that it
    knows, `experts` how many of them a token goes to, `latent` what the experts get instead of the hidden state.
    """

    hidden: int = 0
    intermediate: int = 0
    vocabulary: int = 0
    experts: int = 0
    latent: int = 0


UNKNOWN_WIDTHS = Widths()


def read(text: Mapping[str, Any], config: Mapping[str, Any]) -> Widths:
    """Read what a forward pass depends on; what is not there, or is not one number, counts as not known."""
    experts = _width(text, *EXPERTS_PER_TOKEN_KEYS) if shards.expert_size(text) else 0
    # Where experts have no size of their own, `intermediate_size` is theirs, and no layer is without experts.
    has_dense_layers = not experts or "moe_intermediate_size" in text
    return Widths(
        hidden=_width(text, "hidden_size", "n_embd", "d_model"),
        intermediate=_width(text, "intermediate_size", "ffn_hidden_size") if has_dense_layers else 0,
        vocabulary=_width(text, "vocab_size") or _width(config, "vocab_size"),
        experts=experts,
        latent=_width(text, "moe_latent_size") if experts else 0,
    )


def _width(text: Mapping[str, Any], *names: str) -> int:
    """Return the first of these numbers that is set; a list of equal numbers counts as one."""
    value = next((text[name] for name in names if text.get(name) is not None), 0)
    if isinstance(value, list) and value and len(set(map(str, value))) == 1:
        value = value[0]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST_WIDTH else 0
