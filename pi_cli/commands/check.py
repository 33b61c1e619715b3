"""`pi check`: is an endpoint fit for an agent?"""

from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPod
from pi_cli.hints import fill
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.models.agent_check import Check, OnCheck
    from pi_cli.store.records import Model, Pod


def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    pod: OnPod = None,
    as_json: AsJson = False,
) -> None:
    """Find out whether a model is fit for an agent.

    Asks it what agents ask: an answer in one piece and streamed, a tool call, several at once, what it makes of a
    tool's result, JSON that follows a schema; looks whether reasoning is kept apart from the answer, and whether
    anybody gets in without the key. Goes through SSH, and takes as long as the model needs for six answers.

    Ends with 1 if something has failed (✗). What only some models can do (–) is no failure.

    \b
    Examples:
      pi check qwen72b
      pi check dc2/glm --json
    """
    import asyncio

    on, chosen, called, model = options.find_model(state.load(), name, pod)
    key = options.api_key(model)
    from pi_cli.models import agent_check
    from pi_cli.view import agent_check as view
    from pi_cli.view import terminal

    checks = asyncio.run(_examined(on, chosen, called, model, key, (lambda _: None) if as_json else view.show))
    is_fit = agent_check.is_fit(checks)
    if as_json:
        told = {"fit": is_fit, "checks": [view.as_json(each) for each in checks]}
        terminal.show_json(options.as_json(on, called, model) | told)
    elif arguments := [word for hint in dict.fromkeys(check.hint for check in checks) for word in hint.split()]:
        restart = "restart it with these arguments: `pi start {model} --name {name} --pod {pod} --vllm … {arguments}`"
        terminal.note(fill(restart, model=model.model, name=called, pod=on, arguments=arguments))
    if not is_fit:
        raise typer.Exit(1)


async def _examined(on: str, pod: "Pod", name: str, model: "Model", key: str, on_check: "OnCheck") -> "list[Check]":
    from pi_cli.models import agent_check, forwards, listing
    from pi_cli.ssh import login

    async with login.connect(on, pod.ssh, connect_timeout=pod.connect_timeout) as session:
        found = (await listing.alive(session)).get(name)
        if reason := forwards.why_not(found):
            raise forwards.out_of_reach(on, name, reason)
        assert found
        async with session.forward(found.port) as socket:
            return await agent_check.examine(socket, name=name, model=model.model, key=key, on_check=on_check)
