"""`pi pods rename`: give a pod another name, in everything that pi remembers under it."""

from contextlib import suppress
from typing import Annotated

import typer

from pi_cli.commands.options import AsJson, PodName
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import state

NewName = Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]


def rename(name: PodName, new: NewName, as_json: AsJson = False) -> None:
    """Give a pod another name. Its models keep running, and the machine is not contacted.

    The list, the pinned host keys and the log of the last setup move to the new name, and the ports that `pi forward`
    keeps open to its models are found under it. A running `pi forward`, `pi logs` or `pi list --watch` keeps its
    connection, but cannot connect again under the old name; a running `pi gateway` takes the new one. Do not rename a
    pod while `pi start` or `pi pods setup` is running for it.

    \b
    Examples:
      pi pods rename dc1 h100
    """
    from pi_cli.hold import client
    from pi_cli.ssh import host_keys
    from pi_cli.store import forwards, port_verdicts
    from pi_cli.view import terminal

    state.check_name("pod", new)
    with state.edit() as current:
        pod = current.pod(name)
        if new == name:
            raise BadUsage(f"`{name}` is already its name", hint="choose another name")
        if new in current.pods:
            hint = fill("choose another name, or remove that pod with `pi pods remove {new}`", new=new)
            raise BadUsage(f"there is already a pod `{new}`", hint=hint)
        host_keys.copy(name, new)  # first: a pod on the list has always its keys
        current.pods = {new if each == name else each: entry for each, entry in current.pods.items()}
        if current.active == name:
            current.active = new
        is_active = current.active == new
    host_keys.forget(name)
    client.unlink([name])
    port_verdicts.rename_pod(name, new)
    _move_logs(name, new)
    for forward in forwards.rename_pod(name, new):
        terminal.note(
            fill(
                "`pi forward` of `{model}` (process {pid}) keeps port {port} open; after a lost connection, start it "
                "again with `pi forward {model} --pod {new}`",
                model=forward.name, pid=forward.pid, port=forward.port, new=new,
            )
        )  # fmt: skip
    if as_json:
        terminal.show_json({"name": new, "was": name, "active": is_active, "models": list(pod.models)})
        return
    running = f"; its models keep running: {', '.join(f'`{model}`' for model in pod.models)}" if pod.models else ""
    terminal.say(f"`{name}` is now `{new}`{running}")


def _move_logs(name: str, new: str) -> None:
    """Move the output of the last setups. It is for people only, so that a full disk changes nothing."""
    from pi_cli.store import paths

    for ending in ("", ".1"):
        with suppress(OSError):
            (paths.log_dir() / f"setup-{name}.log{ending}").replace(paths.log_dir() / f"setup-{new}.log{ending}")
