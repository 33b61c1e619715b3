"""What a purge deletes from a pod, and what it leaves there."""

from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.view import terminal

if TYPE_CHECKING:
    from pi_cli.pods.reports import Purge

KINDS = {
    "vllm": "vLLM",
    "uv": "uv and its caches",
    "models": "models, and what vLLM compiled",
    "logs": "logs",
    "records": "records of models",
    "state": "variables and state",
}
REASONS = {
    "not-made-by-setup": "setup did not make it",
    "other-machine": "other machines with this home folder use it",
    "maybe-yours": "the machine had a uv before setup",
    "own-lines": "it has lines that you added; those of setup go",
    "models": "the models; `--models` deletes them too",
}
MAX_PATHS = 3  # of one kind


def show(pod: str, purge: "Purge") -> None:
    """Print the kinds of files with their sizes, then what stays, on stderr."""
    total = units.size(sum(part.size for part in purge.parts))
    terminal.note(f"this is deleted from `{pod}`: {total}, files: {sum(part.files for part in purge.parts)}")
    for kind, label in KINDS.items():
        parts = [part for part in purge.parts if part.kind == kind and part.files]
        if parts:
            paths = [part.path for part in sorted(parts, key=lambda part: -part.size)]
            more = f" and {len(paths) - MAX_PATHS} more" if len(paths) > MAX_PATHS else ""
            size = units.size(sum(part.size for part in parts))
            _line(f"{label}: {size} ({', '.join(paths[:MAX_PATHS])}{more})")
    for place in purge.kept:
        _line(f"stays: {place.path} ({REASONS[place.reason]})")
    if purge.shared_models:
        terminal.note("the models are on a network volume: other pods that use it lose them too")


def _line(text: str) -> None:
    terminal.err().print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
