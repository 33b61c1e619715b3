"""Run the user's own ssh with the route and the pinned host keys that pi uses."""

import dataclasses
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.errors import PiError
from pi_cli.ssh import host_keys, ssh_command, ssh_home
from pi_cli.ssh.ssh_command import SshCommand
from pi_cli.store import paths
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.ssh_config import Destination

# These come first, so that neither the ssh command nor the user's configuration can override them.
NOTHING_FORWARDED = ("-a", "-k", "-x")  # no agent, no ticket, no display
OWN_CONNECTION = ("-o", "ControlPath=none")  # a shared connection may go to the machine that had the address before
NO_CONFIGURED_COMMAND = ("-o", "RemoteCommand=none")


def argv(name: str, pod: Pod, *, tty: bool = False) -> list[str]:
    """Return the command that opens a shell on a pod; a remote command may follow. `tty` gives that a terminal."""
    command = ssh_command.parse(pod.ssh)
    route = _route(command) if host_keys.has_jump_hosts(name) else ()
    if command.connect_timeout is None:
        command = dataclasses.replace(command, connect_timeout=pod.connect_timeout)
    terminal = ("-t",) if tty else ("-o", "RequestTTY=auto")
    safe = [*NOTHING_FORWARDED, *_trust_options(name), *OWN_CONNECTION, *NO_CONFIGURED_COMMAND]
    config = ssh_home.config_option(command.config_file)
    jumps = _jump_option(name, route, command.config_file)
    return ["ssh", *config, *safe, *terminal, *jumps, *command.arguments()]


def _route(command: SshCommand) -> "Sequence[Destination]":
    """Ask ssh for the jump hosts. Settings that pi does not support are left to ssh, which reports errors itself."""

    from pi_cli.ssh import ssh_config

    with suppress(PiError):
        return interrupts.run(ssh_config.route(command))
    return ()


def _trust_options(name: str) -> list[str]:
    """Return the options with which ssh trusts only the key that pi has pinned under a name.

    Without a pinned key ssh uses the user's own files, and asks for no confirmation.
    """
    settings = ["StrictHostKeyChecking=yes", "UpdateHostKeys=no", "VerifyHostKeyDNS=no"]
    if host_keys.read(name):
        file = str(paths.known_hosts_file()).replace("%", "%%")
        settings += [f"HostKeyAlias={name}", f'UserKnownHostsFile="{file}"']
    return [word for setting in settings for word in ("-o", setting)]


def _jump_option(pod: str, route: "Sequence[Destination]", config_file: str | None) -> list[str]:
    """Return the option for the jump hosts if pi has pinned their keys: `ProxyJump` cannot name the keys.

    It is a `ProxyCommand` that contains the one of the hop before, and so on.
    """
    names = [host_keys.jump_host_name(pod, hop.known_name) for hop in route[:-1]]
    if not any(map(host_keys.read, names)):
        return []
    config = ["-F", config_file] if config_file else ssh_home.config_option(None)
    option: list[str] = []
    for hop, name, following in zip(route, names, route[1:], strict=False):
        login = ["-p", str(hop.port), "-l", hop.user, "-W", f"[{following.host}]:{following.port}", hop.given]
        proxy = ["ssh", *NOTHING_FORWARDED, *config, *_trust_options(name), *OWN_CONNECTION, *option, *login]
        option = ["-o", f"ProxyCommand={shlex.join(proxy).replace('%', '%%')}"]
    return option
