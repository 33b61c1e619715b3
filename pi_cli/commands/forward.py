"""`pi forward`: a local port forwarded to a model, for other programs."""

from typing import Annotated

import typer

from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod, find_model
from pi_cli.errors import BadUsage, raise_any
from pi_cli.store import state


def forward(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="Names of models, or POD/NAME.", autocompletion=complete_model),
    ],
    pod: OnPod = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Local port; by default the model's own, or the next free one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a local port open to a model, for other programs.

    Prints the URL once the model can be reached through it. The connection is encrypted, and only programs on this
    machine can use the port. Several models get a port each, and each line begins with the model's name.

    Runs until Ctrl+C. pi reconnects after a lost connection and finds a model that was restarted; during an outage the
    port closes connections at once. With `--json`, one line for every time that a model can be reached or is lost.

    \b
    Examples:
      pi forward qwen72b
      pi forward qwen72b --port 8080
      pi forward qwen72b dc2/glm
    """
    import asyncio

    current = state.load()
    models = {(on, name): model for on, _, name, model in (find_model(current, typed, pod) for typed in names)}
    if port and len(models) > 1:
        raise BadUsage("`--port` is for one model", hint="leave it out, and each gets a port of its own")
    from pi_cli.models import forwards
    from pi_cli.models.forwards import Target
    from pi_cli.view import forwards as view

    targets = [
        Target(on, name, [port] if port else forwards.ports_from(model.port)) for (on, name), model in models.items()
    ]
    on_link = view.show_as_json if as_json else view.ForwardPrinter(is_alone=len(targets) == 1).show
    raise_any(asyncio.run(forwards.keep_open(targets, current.pods, on_link)))
