"""Make ssh read the configuration under $HOME: by itself it uses the home in the password database."""

import os
import pwd
from pathlib import Path


def config_option(config_file: str | None) -> list[str]:
    """Return the option that makes ssh read the configuration under $HOME.

    Empty if that is the account's home, or if the ssh command names a `config_file`.
    """
    if config_file or not is_elsewhere():
        return []
    users_file = Path.home() / ".ssh/config"
    return ["-F", str(users_file) if users_file.exists() else "none"]


def is_elsewhere() -> bool:
    """Return whether $HOME differs from the account's home in the password database."""
    return str(Path.home()) != pwd.getpwuid(os.getuid()).pw_dir
