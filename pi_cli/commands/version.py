"""`pi version`: the versions of pi and of what it uses."""

import platform
import sys
from importlib import metadata
from pathlib import Path

from pi_cli import __version__
from pi_cli.commands.options import AsJson

JSON_VERSION = 1  # of docs/json.md: rises when a field is removed, or changes its type or meaning


def version(as_json: AsJson = False) -> None:
    """Print the versions of pi, Python and SSH, and where pi is.

    \b
    Examples:
      pi version
      pi version --json
    """
    from pi_cli.view import terminal

    facts = versions()
    if as_json:
        terminal.show_json(facts)
        return
    terminal.say(f"pi {facts['pi']}")
    for name in ("python", "asyncssh", "ssh", "platform", "path"):
        place = f" ({facts['python_path']})" if name == "python" else ""
        terminal.say(f"  {name:<9} {facts[name] or 'not found'}{place}")


def versions() -> dict[str, str | int | None]:
    """Return the versions; None for what is not installed."""
    return {
        "pi": __version__,
        "json": JSON_VERSION,
        "python": platform.python_version(),
        "python_path": sys.executable,
        "asyncssh": _installed("asyncssh"),
        "ssh": _ssh(),
        "platform": platform.platform(),
        "path": str(Path(__file__).resolve().parents[1]),
    }


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ssh() -> str | None:
    import subprocess

    try:
        done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stderr or done.stdout).strip() or None
