"""Whose configuration ssh reads: it goes by the account, pi by $HOME."""

import os
import pwd
from pathlib import Path


def option(config_file: str | None) -> list[str]:
    """Return the option with which ssh reads the configuration below $HOME: by itself it reads that of the account.

    None is needed where the two are the same, or the ssh command names a `config_file`.
    """
    if config_file or not is_elsewhere():
        return []
    users = Path.home() / ".ssh/config"
    return ["-F", str(users) if users.exists() else "none"]


def is_elsewhere() -> bool:
    """Tell whether $HOME is not the home that the password database has for the account."""
    return str(Path.home()) != pwd.getpwuid(os.getuid()).pw_dir
