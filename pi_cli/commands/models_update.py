"""`pi models update`: take newer recipes for the catalogue's models, and for models that it does not have."""

import os
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands.options import AsJson
from pi_cli.errors import BadUsage

if TYPE_CHECKING:
    from pi_cli.planning.recipe_snapshot import Changes, Snapshot

From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FILE|URL", help="A file, a folder or a mirror instead of the recipes' site (PI_RECIPES_URL)."
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Show what an update would bring; change nothing.")]
Remove = Annotated[bool, typer.Option("--remove", help="Remove what was fetched: pi's own catalogue applies again.")]
MAX_NAMED = 3  # models that are named for each reason


def update(source: From = None, check: Check = False, remove: Remove = False, as_json: AsJson = False) -> None:
    """Take newer vLLM recipes into the catalogue.

    Fetches what has changed in the recipes that the vLLM project publishes, and uses their arguments for models that pi
    does not know, and for those of its catalogue whose recipe is newer. `pi models MODEL` shows what came from where.
    Weights and architecture stay those of the catalogue, or come from the Hugging Face Hub. Your own `models.md` comes
    before both. Recipes that would run code, read files or open ports on a pod are left out.

    \b
    Examples:
      pi models update
      pi models update --check
      pi models update --from https://mirror.example.com/recipes
      pi models update --from recipes.json
      pi models update --remove
    """
    if remove:
        if source is not None or check:
            raise BadUsage("`--remove` cannot be combined with `--from` or `--check`", hint="leave the others out")
        _remove(as_json=as_json)
        return
    from pi_cli.planning import recipe_site, recipe_snapshot

    previous = recipe_snapshot.stored()
    if source is None:
        source = os.environ.get("PI_RECIPES_URL") or recipe_site.SITE
    now = _snapshot(source, previous)
    changes = recipe_snapshot.compare(previous, now)
    if not check:
        recipe_snapshot.store(now)
    _show(changes, now, is_check=check, is_first=previous is None, as_json=as_json)


def _snapshot(source: str, previous: "Snapshot | None") -> "Snapshot":
    from pi_cli.planning import recipe_site, recipe_snapshot

    if "://" not in source:
        return recipe_snapshot.read(Path(os.path.expanduser(source)))  # noqa: PTH111 - Path's fails for unknown users
    return interrupts.run(recipe_site.fetch(source, previous))


def _remove(*, as_json: bool) -> None:
    from pi_cli.planning import recipe_snapshot
    from pi_cli.view import terminal

    updated = recipe_snapshot.remove()
    if as_json:
        terminal.show_json({"removed": updated is not None, "recipes_of": updated or None})
    elif updated is None:
        terminal.say("there are no fetched recipes")
    else:
        terminal.say(f"removed the recipes{f' of {updated}' if updated else ''}; pi's own catalogue applies again")


def _show(changes: "Changes", now: "Snapshot", *, is_check: bool, is_first: bool, as_json: bool) -> None:
    from pi_cli.view import terminal

    if as_json:
        now_known = {"left_out": now.refused, "recipes_of": now.updated or None, "source": now.source}
        terminal.show_json(asdict(changes) | now_known | {"stored": not is_check})
        return
    if not is_first and not (changes.new or changes.changed or changes.gone):
        terminal.say(f"up to date: recipes of {now.updated}, {len(changes.same)} models")
        return
    gone = f", {len(changes.gone)} gone" if changes.gone else ""
    new = f"{len(changes.new)} new model{'' if len(changes.new) == 1 else 's'}"
    counts = f"{new}, {len(changes.changed)} changed, {len(changes.same)} as before{gone}"
    terminal.say(f"{'available: ' if is_check else ''}{counts}; from recipes of {now.updated or 'no date'}")
    for reason, pages in _by_reason(now.refused).items():
        more = f" and {len(pages) - MAX_NAMED} more" if len(pages) > MAX_NAMED else ""
        terminal.note(f"left out: {', '.join(f'`{page}`' for page in pages[:MAX_NAMED])}{more}: {reason}")


def _by_reason(refused: dict[str, str]) -> dict[str, list[str]]:
    pages: dict[str, list[str]] = defaultdict(list)
    for page, reason in sorted(refused.items()):
        pages[reason].append(page)
    return pages
