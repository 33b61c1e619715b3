"""The user's own ssh, made to go the way that pi goes: to the same machine, and to no other."""

import dataclasses
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.ssh import host_keys, ssh_command, ssh_home
from pi_cli.ssh.ssh_command import SshCommand
from pi_cli.store import paths
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.ssh_config import Destination

# All of these stand first, so that neither the ssh command nor the user's configuration can say otherwise.
NOTHING_FORWARDED = ("-a", "-k", "-x")  # no agent, no ticket, no display
OWN_CONNECTION = ("-o", "ControlPath=none")  # one opened before leads to whatever machine had the address then
NO_COMMAND_OF_ITS_OWN = ("-o", "RemoteCommand=none")


def words(name: str, pod: Pod, *, tty: bool = False) -> list[str]:
    """Return the words that open a shell on a pod; a command may follow. With `tty` it gets a terminal."""
    command = ssh_command.parse(pod.ssh)
    route = _route(command) if host_keys.has_jump_hosts(name) else ()
    if command.connect_timeout is None:
        command = dataclasses.replace(command, connect_timeout=pod.connect_timeout)
    terminal = ("-t",) if tty else ("-o", "RequestTTY=auto")
    safely = [*NOTHING_FORWARDED, *_trusting(name), *OWN_CONNECTION, *NO_COMMAND_OF_ITS_OWN]
    config = ssh_home.option(command.config_file)
    return ["ssh", *config, *safely, *terminal, *_jumps(name, route, command.config_file), *command.words()]


def _route(command: SshCommand) -> "Sequence[Destination]":
    """Ask ssh for the jump hosts. What pi cannot make sense of in the configuration, ssh can, or says so."""
    import asyncio

    from pi_cli.ssh import ssh_config

    with suppress(PiError):
        return asyncio.run(ssh_config.route(command))
    return ()


def _trusting(name: str) -> list[str]:
    """Return the options with which ssh trusts the key that pi has under a name, and no other.

    Without one it goes by the user's own files, and by nothing that somebody would have to confirm now.
    """
    settings = ["StrictHostKeyChecking=yes", "UpdateHostKeys=no", "VerifyHostKeyDNS=no"]
    if host_keys.read(name):
        file = str(paths.known_hosts_file()).replace("%", "%%")
        settings += [f"HostKeyAlias={name}", f'UserKnownHostsFile="{file}"']
    return [word for setting in settings for word in ("-o", setting)]


def _jumps(pod: str, route: "Sequence[Destination]", config_file: str | None) -> list[str]:
    """Return the option that leads through the jump hosts, if pi has learned their keys: `ProxyJump` cannot name them.

    It is a `ProxyCommand` that holds that of the hop before, and so on.
    """
    names = [host_keys.of_jump_host(pod, hop.known_name) for hop in route[:-1]]
    if not any(map(host_keys.read, names)):
        return []
    config = ["-F", config_file] if config_file else ssh_home.option(None)
    option: list[str] = []
    for hop, name, following in zip(route, names, route[1:], strict=False):
        login = ["-p", str(hop.port), "-l", hop.user, "-W", f"[{following.host}]:{following.port}", hop.given]
        through = ["ssh", *NOTHING_FORWARDED, *config, *_trusting(name), *OWN_CONNECTION, *option, *login]
        option = ["-o", f"ProxyCommand={shlex.join(through).replace('%', '%%')}"]
    return option
