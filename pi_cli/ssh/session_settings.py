"""What the user's ssh configuration says of a session on a pod: variables to send, and what ssh alone does."""

import fnmatch
import os
from collections.abc import Mapping

from pi_cli.ssh.ssh_config import Destination

# By the option of `ssh -G`: the value that asks for nothing; with any other, the session is one for ssh itself.
NOTHING = {
    "localforward": "",
    "remoteforward": "",
    "dynamicforward": "",
    "permitlocalcommand": "no",
    "forkafterauthentication": "no",
    "stdinnull": "no",
    "sessiontype": "default",
    "tunnel": "false",
}


def asks_for_more(destination: Destination) -> str:
    """Return the first option that asks for more than a command with its three streams; empty if none does."""
    for keyword, nothing in NOTHING.items():
        value = destination.option(keyword) or ""
        if value.lower() not in (nothing, "", "no"):
            return keyword
    return ""


def sent_environment(destination: Destination) -> Mapping[str, str]:
    """Return the variables that ssh would send: `SendEnv`, whose patterns are those of shells, and `SetEnv`."""
    patterns = [pattern for line in destination.settings.get("sendenv", ()) for pattern in line.split()]
    sent = {
        name: value for name, value in os.environ.items() if any(fnmatch.fnmatchcase(name, each) for each in patterns)
    }
    for line in destination.settings.get("setenv", ()):
        name, is_set, value = line.partition("=")
        if is_set:
            sent[name] = value
    return sent
