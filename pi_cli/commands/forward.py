"""`pi forward`: a port of this machine that leads to a model, for other programs."""

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
        typer.Option(
            min=1, max=65535, help="Port of this machine; else the model's own, or the next one that is free here."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a port of this machine open to a model, for other programs.

    Prints the URL once it leads to the model: encrypted, and for programs of this machine only. Several models get a
    port each, and their lines begin with their names. Stays until Ctrl+C: a link that is lost is made again, a model
    that is started again is found again, and meanwhile the port closes at once what connects. With `--json` a line for
    every time that a model comes within reach, or is lost.

    \b
    Examples:
      pi forward qwen72b
      pi forward qwen72b --port 8080
      pi forward qwen72b dc2/glm
    """
    import asyncio

    current = state.load()
    found = {(on, called): model for on, _, called, model in (find_model(current, each, pod) for each in names)}
    if port and len(found) > 1:
        raise BadUsage("`--port` is for one model", hint="leave it out, and each gets a port of its own")
    from pi_cli.models import forwards
    from pi_cli.models.forwards import Target
    from pi_cli.view import forwards as view

    targets = [
        Target(on, called, [port] if port else forwards.ports_from(model.port)) for (on, called), model in found.items()
    ]
    report = view.tell_as_json if as_json else view.Telling(is_alone=len(targets) == 1).tell
    raise_any(asyncio.run(forwards.keep_open(targets, current.pods, report)))
