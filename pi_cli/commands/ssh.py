"""`pi ssh`: open a shell on a pod, with the user's own ssh, or run a command on it."""

import os
import shlex
import shutil
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pi_cli import hints
from pi_cli.errors import BadUsage, PiError, PodUnreachable
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from pi_cli.commands.quick_options import OnPod, Tty, Words
    from pi_cli.store.records import Pod
    from pi_cli.store.state import State

# Commands of pods that this machine may not have, and what only a shell knows.
USUAL = {
    "alias", "apt", "bg", "cd", "dmesg", "docker", "export", "exit", "fg", "gpustat", "hf", "history", "htop", "jobs",
    "journalctl", "lscpu", "lsof", "ncdu", "nvcc", "nvidia-smi", "nvitop", "nvtop", "pip", "python", "python3", "ray",
    "reboot", "screen", "set", "source", "ss", "sudo", "systemctl", "tmux", "type", "ulimit", "unset", "uv", "vllm",
}  # fmt: skip


def ssh(
    words: "Words" = None,
    pod: "OnPod" = None,
    tty: "Tty" = False,
) -> None:
    """Open a shell on a pod, or run a command on it.

    A shell, and a command with `-t`, is your own ssh with the route and the pinned host key that pi uses. A command
    on a pod that pi knows goes over pi's own login, in a third of the time. The exit code is that of the command, or
    255. Options go before the pod: everything after it belongs to the command.

    \b
    Examples:
      pi ssh
      pi ssh nvidia-smi -L
      pi ssh dc2 df -h
      pi ssh dc2 'tail -n 3 ~/.vllm_logs/*.log'
      pi ssh -t dc2 htop
    """
    from pi_cli.ssh import host_keys, users_ssh
    from pi_cli.view import waiting

    current = state.load()
    command = list(words or [])
    if pod is None and command and command[0] in current.pods:
        pod = command.pop(0)
    if command[:1] == ["--"]:
        command.pop(0)
    if command and command[0].startswith("-"):
        raise BadUsage(
            f"`{command[0]}` is not a command: the options of `pi ssh` go before the pod", hint="see `pi ssh --help`"
        )
    if pod is None and command:
        _refuse_misspelt_pod(current, command)
    [(name, entry)] = current.select([pod] if pod else []).items()
    if host_keys.read(name) is None:
        _warn(name, entry.ssh)
    # ssh joins its arguments with spaces for the remote shell: a single one is a command line, several are quoted.
    remote = command if len(command) <= 1 else [shlex.join(command)]
    if remote and remote[0] and not tty:
        _run_at_once(name, entry, remote[0])
    waiting.announce("connecting to", name)
    _exec([*users_ssh.argv(name, entry, tty=tty), *remote], name)


def _run_at_once(name: str, entry: "Pod", command: str) -> None:
    """Run a command and exit with its code, if the pod is one that may be asked for everything at once."""
    from pi_cli.ssh import early_facts, host_keys

    known = early_facts.read(name)
    if known is None or not known.may_be_asked or host_keys.has_jump_hosts(name):
        return
    from pi_cli.ssh import head_start

    head_start.begin(name)
    from pi_cli import interrupts
    from pi_cli.ssh import remote_command
    from pi_cli.ssh.one_login import NotEarly

    try:
        code = interrupts.run(remote_command.run(name, entry, command))
    except NotEarly:
        return
    except PodUnreachable as error:
        error.exit_code = remote_command.NO_CODE  # ssh's own: every other code may be the command's
        raise
    raise SystemExit(code)


def _refuse_misspelt_pod(current: "State", words: Sequence[str]) -> None:
    """Raise `BadUsage` if the first word is almost the name of a pod, and neither a command here nor a usual one."""
    first = words[0]
    if not is_name(first) or first in USUAL or shutil.which(first) or not (near := hints.nearest(first, current.pods)):
        return
    [pod] = current.select()
    otherwise = fill("To run it on `{pod}`: `pi ssh --pod {pod} {words}`", pod=pod, words=words)
    raise BadUsage(f"there is no pod `{first}`", hint=f"{hints.did_you_mean(near)} {otherwise}")


def _warn(name: str, ssh: str) -> None:
    from pi_cli.view import terminal

    text = (
        "pi does not know the host key of `{name}`, so ssh accepts only one that your own known_hosts has; "
        "learn it with `pi pods setup {name} {ssh}`"
    )
    terminal.note(fill(text, name=name, ssh=ssh))


def _exec(argv: list[str], pod: str) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE, and ssh would inherit that
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        raise PiError(f"cannot run ssh for pod `{pod}`: {error.strerror}", hint="install the OpenSSH client") from error
