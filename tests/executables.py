"""Programs that tests put where something may be running them."""

from pathlib import Path


def put(path: Path, script: str) -> None:
    """Put an executable in place of what is there, in one step: a program that just begins cannot be written to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(script, encoding="utf-8")
    fresh.chmod(0o755)
    fresh.replace(path)
