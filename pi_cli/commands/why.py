"""`pi why`: why a model failed, from its log on the pod."""

from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.models.why import Explanation


def why(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    pod: OnPod = None,
    as_json: AsJson = False,
) -> None:
    """Say why a model failed.

    Reads the end of its log on the pod, also long after the failure, and after the model has been forgotten: the cause,
    the line that tells it with the lines around it, how far vLLM had come, the GPU memory then, and what to do next.

    \b
    Examples:
      pi why qwen72b
      pi why dc2/glm --json
    """
    import asyncio

    current = state.load()
    target = options.log_of(current, name, pod)
    from pi_cli.view import terminal
    from pi_cli.view import why as view

    explained = asyncio.run(_explain(target))
    if as_json:
        terminal.show_json(view.as_json(explained))
    else:
        view.show(explained)


async def _explain(target: options.LogOnPod) -> "Explanation":
    from pi_cli.models import why as models
    from pi_cli.ssh import login

    connecting = login.connect(target.pod_name, target.pod.ssh, connect_timeout=target.pod.connect_timeout)
    async with connecting as session:
        return await models.explain(session, target.name, target.model)
