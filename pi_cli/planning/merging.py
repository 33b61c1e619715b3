"""Merge a fetched recipe into an entry of our catalogue, by the rules that our catalogue was written with.

What is about the model comes from the recipe: the arguments, the variables, the parsers, the least version of vLLM.
What we computed stays: weights and architecture, and for each of our GPUs the parallelism, the context and the batches.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pi_cli.planning.recipes import Recipe
from pi_cli.vllm import versions, vllm_arguments

if TYPE_CHECKING:
    from pi_cli.planning.catalogue import Configuration, Entry

TRUST = "--trust-remote-code"
ABOUT_HARDWARE = frozenset(itertools.chain(*vllm_arguments.ABOUT_HARDWARE))


def merged(entry: "Entry", recipe: Recipe) -> "Entry":
    """Return our entry with a newer recipe. It runs code of the repository only where our entry did before."""
    is_trusted = any(TRUST in configuration.args for configuration in entry.hardware)
    trust = (TRUST,) if is_trusted and TRUST in recipe.left_out else ()
    row = replace(
        entry.hardware[0],
        gpus=(recipe.gpu,),
        count=recipe.count,
        args=(*trust, *recipe.args),
        env=dict(recipe.env),
        notes=recipe.notes if not trust else "",
        source=recipe.source,
        is_fetched=True,
    )
    general = replace(row, gpus=("any",), args=(*trust, *recipe.general), env=dict(recipe.general_env))
    ours = [_with_general(configuration, general, recipe) for configuration in entry.hardware]
    return replace(
        entry,
        hardware=(row, *ours),
        general=general,
        min_vllm=_latest([entry.min_vllm, recipe.min_vllm]),
        tool_call_parser=recipe.parser("--tool-call-parser") or entry.tool_call_parser,
        reasoning_parser=recipe.parser("--reasoning-parser") or entry.reasoning_parser,
        origin=f"arguments: {recipe.source}; weights and architecture: pi's catalogue",
    )


def _with_general(configuration: "Configuration", general: "Configuration", recipe: Recipe) -> "Configuration":
    """Return one of our configurations with the recipe's arguments about the model."""
    for_hardware = [
        group
        for group in vllm_arguments.groups(configuration.args)
        if vllm_arguments.name_of(group[0]) in ABOUT_HARDWARE
    ]
    args = (*(argument for group in for_hardware for argument in group), *general.args)
    source = f"{recipe.source}; GPUs, context and batch sizes: {configuration.source}"
    return replace(configuration, args=args, env=configuration.env | general.env, source=source)


def _latest(minimums: Sequence[str | None]) -> str | None:
    known = [version for version in minimums if version]
    return max(known, key=versions.release, default=None)
