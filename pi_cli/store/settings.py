"""The user's settings of pi itself, in `config.toml` in pi's folder. Today: for how long links to pods are kept."""

import os
from pathlib import Path

from pi_cli.errors import StateUnreadable
from pi_cli.store import paths

SECONDS_HELD = 300.0  # after the last use; what SkyPilot takes (Ansible: 60)
MAX_SECONDS_HELD = 86400.0
MAX_SIZE = 1 << 16  # bytes of the file


def file() -> Path:
    return paths.config_dir() / "config.toml"


def seconds_held() -> float:
    """Return `seconds` of `[hold]`: for how long a link is kept after its last use; 0 turns held links off.

    Raises `StateUnreadable` if the file or the value is broken.
    """
    path = file()
    if not os.path.lexists(path):
        return SECONDS_HELD
    import tomllib  # takes as long to load as the list of pods

    try:
        with path.open("rb") as opened:
            content = tomllib.loads(opened.read(MAX_SIZE).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, str(error)) from error
    table = content.get("hold", {})
    value = table.get("seconds", SECONDS_HELD) if isinstance(table, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS_HELD:
        raise _broken(path, f"`seconds` of `[hold]` is not a number from 0 to {MAX_SECONDS_HELD:.0f}")
    return float(value)


def _broken(path: Path, reason: str) -> StateUnreadable:
    return StateUnreadable(
        f"cannot read `{path}`: {reason}", hint="correct or delete that file; until then, no links to pods are kept"
    )
