"""`pi stop`: end models and free their GPUs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import units
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import OnPods, point_to_other_pod
from pi_cli.errors import BadUsage, PiError, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.stopping import Stopped
    from pi_cli.ssh.session import PodSession

IF_GONE = (
    "nothing was forgotten; if the machine is gone: `pi stop {names} --pod {pod} --forget`, or `pi pods remove {pod}`"
)


def stop(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Names of models.", autocompletion=complete_model)
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All models of the pods acted on.")] = False,
    pod: OnPods = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Stop nothing, only take them off pi's list: for a pod that is gone.")
    ] = False,
) -> None:
    """Stop models and free their GPUs.

    All their processes are ended, and seen to be gone. What was gone already is taken off the list.

    \b
    Examples:
      pi stop qwen72b
      pi stop --all --pod dc2
      pi stop qwen72b --forget
    """
    if bool(names) == every:
        raise BadUsage("name the models to stop, or give `--all`", hint="see them with `pi list`")
    current = state.load()
    where = current.select(pod or [])
    for name in (names or []) if not pod else []:
        point_to_other_pod(current, where, name)
    if forget:
        _forget(where, names)
    else:
        _stop(where, names)


def _stop(where: Mapping[str, Pod], names: Sequence[str] | None) -> None:
    import asyncio

    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import terminal

    ended: dict[str, Stopped] = {}

    async def end(session: "PodSession") -> None:
        ended[session.pod] = await (stopping.stop(session, names) if names else stopping.stop_all(session))
        stopping.require_gone(session.pod, ended[session.pod])

    failures = asyncio.run(fleet.on_each(where, end))
    for on in sorted(ended):
        unknown = _show(on, where[on], ended[on])
        if unknown:
            failures.setdefault(
                on, PiError(f"there is no model `{unknown[0]}` on `{on}`", hint="see them with `pi list`")
            )
    for on, error in failures.items():
        if isinstance(error, PodUnreachable) and error.may_be_gone and where[on].models:
            error.with_hint(fill(IF_GONE, pod=on, names=names or ["--all"]))
    if not names and not any(each.outcome for each in ended.values()) and not failures:
        terminal.note(f"nothing runs on {', '.join(where)}")
    raise_any(failures)


def _show(on: str, pod: Pod, stopped: "Stopped") -> list[str]:
    """Say what became of the models of a pod; return those that nobody knows."""
    from pi_cli.view import terminal

    unknown = []
    for name, how in sorted(stopped.outcome.items()):
        match how:
            case "stopped":
                terminal.say(f"stopped `{name}` on `{on}`")
            case "killed":
                terminal.say(f"stopped `{name}` on `{on}`: it ignored SIGTERM and was killed")
            case "gone" if name in pod.models:
                terminal.say(f"`{name}` on `{on}` was already gone")
            case "gone":
                unknown.append(name)
    if stopped.freed:
        terminal.note(f"{units.size(stopped.freed * 1024**2)} of GPU memory are free again on `{on}`")
    return unknown


def _forget(where: Mapping[str, Pod], names: Sequence[str] | None) -> None:
    """Take models off the list without asking their pods; one that runs after all is found by the next `pi list`."""
    from pi_cli.view import terminal

    with state.edit() as current:
        dropped = [(on, name) for on in where for name in current.pod(on).models if not names or name in names]
        for on, name in dropped:
            del current.pod(on).models[name]
    for on, name in dropped:
        terminal.say(f"forgot `{name}` on `{on}`; if it runs, it goes on")
    missing = [name for name in names or [] if name not in {name for _, name in dropped}]
    if missing:
        raise PiError(f"pi remembers no model `{missing[0]}` on {', '.join(where)}", hint="see them with `pi list`")
