"""Make ssh read the configuration under $HOME: by itself it uses the home in the password database."""

import os
import pwd
from pathlib import Path

from pi_cli.errors import BadUsage


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
    return str(Path.home()) != account().pw_dir


def account() -> pwd.struct_passwd:
    """Return this user's entry in the password database.

    Raises `BadUsage` if there is none, as in a container that runs under a user id of its own: ssh needs one, too.
    """
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError as error:
        raise BadUsage(
            f"ssh needs an account, and user id {os.getuid()} is not in the password database",
            hint="add it to `/etc/passwd`, or run pi as a user that is there",
        ) from error


def expanded(path: str) -> Path:
    """Expand `~` and `~user`; like ssh, leave the name of a user who does not exist."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib raises an error for that
