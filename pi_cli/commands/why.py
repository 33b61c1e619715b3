"""`pi why`: why a model failed, from its log on the pod."""

from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import resolve
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.models.why import Explanation
    from pi_cli.store.state import State


def why(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    pod: OnPod = None,
    as_json: AsJson = False,
) -> None:
    """Say why a model failed, from its log.

    Reads the end of its log on the pod, also long after the failure, and after the model has been forgotten: the cause,
    the line that tells it with the lines around it, how far vLLM had come, the GPU memory then, and what to do next.

    \b
    Examples:
      pi why qwen72b
      pi why dc2/glm --json
    """

    current = state.load()
    [place, *_] = resolve.places(current, [name], [pod] if pod else [])
    from pi_cli.view import terminal
    from pi_cli.view import why as view

    explained = interrupts.run(_explain(current, place))
    if as_json:
        terminal.show_json(view.as_json(explained))
    else:
        view.show(explained)


async def _explain(current: "State", place: resolve.Place) -> "Explanation":
    from pi_cli.hold import connecting
    from pi_cli.models import why as models

    entry = current.pod(place.pod)
    async with connecting.connect(place.pod, entry.ssh, connect_timeout=entry.connect_timeout) as session:
        return await models.explain(session, place.name, entry)
