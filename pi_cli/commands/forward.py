"""`pi forward`: a local port forwarded to a model, for other programs."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import options, resolve
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.store.records import Model


def forward(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME…]",
            help="Names of models, or POD/NAME; may be left out if there is only one.",
            autocompletion=complete_model,
        ),
    ] = None,
    pod: OnPod = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1, max=65535, help="Local port; by default the model's own, or the next free one."
        ),
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Also print a key that is good at this port only, until the command ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forward a local port to a model, for other programs.

    Prints the URL once the model can be reached through it. The connection is encrypted, and only programs on this
    machine can use the port. Several models get a port each, and each line begins with the model's name: with
    POD/NAME if models of several pods have that name.

    Runs until Ctrl+C. pi reconnects after a lost connection and finds a model that was restarted; during an outage the
    port closes connections at once. With `--json`, prints a line each time a model becomes reachable or unreachable.

    The port accepts the model's key. If pi has that, it also accepts a key of its own, which is worth nothing anywhere
    else: `--token` prints it after the URL, and `pi env` sets it.

    \b
    Examples:
      pi forward qwen72b
      pi forward qwen72b --port 8080
      pi forward qwen72b dc2/glm
    """

    current = state.load()
    found = [resolve.model(current, name, pod) for name in names] if names else [resolve.model(current, None, pod)]
    models = {(each.pod_name, each.name): each.model for each in found}
    if port and len(models) > 1:
        raise BadUsage("`--port` is for one model", hint="leave it out: each model gets its own port")
    from pi_cli.models import forwards
    from pi_cli.models.forwards import Target
    from pi_cli.view import forwards as view

    targets = [
        Target(pod_name, name, [port] if port else forwards.ports_from(model.port), *_keys(name, model, needed=token))
        for (pod_name, name), model in models.items()
    ]
    listed = [name for _, name, _ in current.models()]
    names_shown = {(pod, name): name if listed.count(name) == 1 else f"{pod}/{name}" for pod, name in models}
    keys = {(each.pod, each.name): each.run_key for each in targets} if token else {}
    printer = view.ForwardPrinter(names_shown if len(targets) > 1 else {}, keys)
    on_link = partial(view.show_as_json, keys) if as_json else printer.show
    raise_any(interrupts.run(forwards.keep_open(targets, current.pods, on_link)))


def _keys(name: str, model: "Model", *, needed: bool) -> tuple[str, str]:
    """Return a key for the port, and the model's own; nothing if pi does not have that, unless it is needed."""
    from pi_cli.models import run_key

    try:
        return run_key.new(), options.api_key_of(name, model).value
    except PiError:
        if needed:
            raise
        return "", ""
