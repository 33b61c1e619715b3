"""The paths of the files that pi writes, and of those that it ships."""

import os
from pathlib import Path

from pi_cli.errors import StateUnreadable


def config_dir() -> Path:
    """Return the folder of `pods.json`: `PI_CONFIG_DIR`, or `~/.pi`. Raises `StateUnreadable` if there is no home."""
    chosen = os.environ.get("PI_CONFIG_DIR")
    try:
        return Path(chosen).expanduser() if chosen else Path.home() / ".pi"
    except RuntimeError as error:  # an unknown `~user`, or a user id that is not in the password database
        what = f"`PI_CONFIG_DIR` is `{chosen}`" if chosen else "`PI_CONFIG_DIR` and `HOME` are not set"
        raise StateUnreadable(
            f"cannot find the folder of `pods.json`: {what}, and the password database has no such home",
            hint="set `PI_CONFIG_DIR` to the path of a folder; nothing was changed",
        ) from error


def pods_file() -> Path:
    return config_dir() / "pods.json"


def key_file() -> Path:
    """Return the file with the API key that `pi key` keeps."""
    return config_dir() / "key"


def known_hosts_file() -> Path:
    """Return pi's own `known_hosts`: one line per pod, under the pod's name instead of an address."""
    return config_dir() / "known_hosts"


def log_dir() -> Path:
    """Return the folder for the logs of setups: the platform's own folder for logs."""
    from platformdirs import user_log_path

    return user_log_path("pi", appauthor=False)


def asset(name: str) -> Path:
    """Return a file that pi ships (`models.md`, `remote/…`): inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "assets" / name
    return installed if installed.exists() else package.parent / name
