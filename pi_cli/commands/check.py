"""`pi check`: send a model the requests that agents send."""

from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from pi_cli import interrupts
from pi_cli.commands import options, resolve
from pi_cli.commands.options import AsJson, NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.models.check_findings import Check, OnCheck
    from pi_cli.store.keys import ApiKey


def check(
    name: NameOfModel = None,
    pod: OnPod = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a model is fit for agents.

    Sends what agents send: a request answered in one piece, a streamed one, one tool call, several at once, a tool's
    result, JSON that follows a schema. Also checks that reasoning is separate from the answer, and that requests
    without the key are rejected. The requests go through SSH, and take as long as the model needs for six answers.

    A model that embeds, ranks, classifies or transcribes gets requests of that kind instead.

    Exits with 1 if a check has failed (✗). What only some models can do (–) is not a failure.

    \b
    Examples:
      pi check qwen72b
      pi check dc2/glm --json
    """

    target = resolve.model(state.load(), name, pod)
    key = options.api_key_of(target.name, target.model)
    from pi_cli.models.check_findings import is_fit
    from pi_cli.view import agent_check as view
    from pi_cli.view import terminal

    checks = interrupts.run(_examine(target, key, (lambda _: None) if as_json else view.show))
    fits = is_fit(checks)
    if as_json:
        results = {"fit": fits, "checks": [view.as_json(check) for check in checks]}
        terminal.show_json(options.as_json(target.pod_name, target.name, target.model) | results)
    elif missing := [word for arguments in dict.fromkeys(check.hint for check in checks) for word in arguments.split()]:
        restart = "restart it with these arguments: `pi start {model} --name {name} --pod {pod} --vllm … {missing}`"
        model, pod_name = target.model.model, target.pod_name
        terminal.note(fill(restart, model=model, name=target.name, pod=pod_name, missing=missing))
    if not fits:
        raise typer.Exit(1)


async def _examine(target: ModelOnPod, key: "ApiKey", on_check: "OnCheck") -> "list[Check]":
    from pi_cli.hold import connecting
    from pi_cli.models import agent_check, listing
    from pi_cli.models.door import Door

    connection = connecting.connect(target.pod_name, target.pod.ssh, connect_timeout=target.pod.connect_timeout)
    async with connection as session, Door(session, target.name, key=key).socket() as socket:

        async def is_stalled() -> bool:
            with suppress(PiError):
                model = (await listing.alive(session)).get(target.name)
                return model is not None and model.status == "stalled"
            return False

        return await agent_check.examine(
            socket,
            name=target.name,
            model=target.model.model,
            key=key.value,
            on_check=on_check,
            is_stalled=is_stalled,
        )
