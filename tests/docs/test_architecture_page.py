"""docs/architecture.md, docs/style.md and the decisions name only what exists."""

import importlib
import re
from pathlib import Path

from tests.every import every

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OTHERS = [ROOT / "docs" / "style.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
TEXT = PAGE + "".join(page.read_text(encoding="utf-8") for page in OTHERS)

REMOTE = ("agent.", "require_key.")

FILES = r"(?!\S*\.(?:json|md|sh|py|log)`)(?!sys\.|typer\.)"
NAMES = sorted(set(re.findall(rf"`{FILES}([a-z_]+(?:\.\w+)+)`", TEXT)))
PATHS = sorted(set(re.findall(r"`((?:pi_cli|remote|tests|docs)/[^`]*)`", TEXT)))


def resolve(name: str) -> object:
    """Return what a dotted name means, below `pi_cli` or in `remote`. Raises if there is no such thing."""
    parts = name.split(".") if name.startswith(REMOTE) else ["pi_cli", *name.split(".")]
    found: object = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:number]))
        found = getattr(found, part)
    return found


@every(NAMES)
def test_every_name_in_the_page_exists(name: str) -> None:
    assert resolve(name) is not None


@every(PATHS)
def test_every_path_in_the_page_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_walk_is_long_enough_to_be_one() -> None:
    assert len(NAMES) > 40
    assert "commands.main.main" in NAMES
    assert "agent.start.reserve" in NAMES


def test_no_room_is_left_out() -> None:
    rooms = {path.name for path in (ROOT / "pi_cli").iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if f"    {room}/ " not in PAGE} == set()
