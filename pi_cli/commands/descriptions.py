"""What completion says of a candidate, from what pi has recorded: no pod is asked."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from pi_cli.store.state import State

UNSAFE = re.compile(r"[^\w .,:/+@-]")  # Typer's script for zsh evaluates what it gets

Complete = Callable[[str], list[str]]
Candidate = tuple[str, str] | str


def described(descriptions: Callable[[], Mapping[str, str]]) -> Callable[[Complete], Callable[[str], list[Candidate]]]:
    """Give each candidate of a function its description, if it has one."""

    def decorate(complete: Complete) -> Callable[[str], list[Candidate]]:
        @functools.wraps(complete)
        def with_descriptions(incomplete: str) -> list[Candidate]:
            candidates = complete(incomplete)
            known = descriptions() if candidates else {}
            return [(each, UNSAFE.sub("?", known[each])) if each in known else each for each in candidates]

        return with_descriptions

    return decorate


def of_models() -> dict[str, str]:
    """Return for each name of a model, and for POD/NAME, what it is and where it was started."""
    found: dict[str, list[str]] = {}
    models: dict[str, str] = {}
    for pod, name, model in _recorded().models():
        if not is_name(pod):
            continue
        models[name] = model.model
        found.setdefault(name, []).append(pod)
        models[f"{pod}/{name}"] = models[name]
    return {name: f"{text} on {', '.join(found[name])}" if name in found else text for name, text in models.items()}


def of_pods() -> dict[str, str]:
    """Return for each pod its GPUs, how many models were started on it, and whether it is the active one."""
    from pi_cli import units

    state = _recorded()
    return {
        name: ", ".join(
            [
                units.gpus(pod.gpus) if pod.gpus else "no GPUs",
                f"models: {len(pod.models)}",
                *(["active"] if name == state.active else []),
            ]
        )
        for name, pod in state.pods.items()
    }


def of_catalogue() -> dict[str, str]:
    """Return the size of the weights for each spelling of a model of the catalogue."""
    from pi_cli.planning import listed

    return {
        spelling: f"{model.weights:.0f} GB of weights"
        for model in listed.models()
        if model.weights
        for spelling in model.all_spellings()
    }


def _recorded() -> "State":
    from pi_cli.commands import names  # which imports this module

    return names._recorded()
