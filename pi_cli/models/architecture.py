"""What a model is made of, as far as memory and parallelism are concerned."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["full", "sliding", "mla", "linear"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one kind of attention, and what each of them keeps of a request.

    `full` and `sliding` keep a key of `head_dim` and a value of `head_dim_v` elements (the same if 0) for each of
    `kv_heads` heads and every token, `sliding` for the last `window` tokens only. `mla` keeps one latent vector of
    `head_dim` elements (kv_lora_rank + qk_rope_head_dim) for every token, whole on every GPU. `linear` (Mamba, gated
    delta nets and the like) keeps `state_bytes` for every request, however long, on one GPU without parallelism.
    """

    kind: Kind
    count: int
    kv_heads: int = 0
    head_dim: int = 0
    head_dim_v: int = 0
    window: int = 0
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's shape: `name` is the class that vLLM knows it by, `heads` the number of query heads.

    `max_context` is in tokens. `expert_size` is the intermediate size of one expert (0: the model has none), and
    `block_size` the edge of the blocks in which its weights are quantised (0: they are not): both bound how far
    tensor parallelism can cut them.
    """

    name: str
    heads: int
    layers: tuple[Layers, ...]
    max_context: int
    expert_size: int = 0
    block_size: int = 0
