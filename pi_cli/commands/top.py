"""`pi top`: the load of all pods and models on one screen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, raise_any
from pi_cli.store import state
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from pi_cli.models.load import ModelLoad, PodLoad
    from pi_cli.pods.reports import GpuLoad
    from pi_cli.ssh.session import PodSession

INTERVAL = 2.0  # seconds between two looks at a pod
FIRST_INTERVAL = 1.0  # without a terminal, between the only two
SHORTEST, LONGEST = 0.5, 3600.0


def top(
    pod: OnPods = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            "-i",
            metavar="SECONDS",
            help="Time between two looks at a pod.  [default: 2, or 1 without a terminal]",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the load of all pods and models on one screen.

    Shows use, memory, power and temperature of each GPU; requests, tokens per second, KV cache and time to the first
    token of each model, by vLLM's own metrics. One look is one request to each pod, over a connection that stays open.
    A pod that does not answer is shown with the reason, and asked again. Changes nothing, unless you stop a model.

    Without a terminal, or with `--json`: looks twice, prints the result and ends. With `--json` each pod is a line.

    \b
    Keys:
      up, down, j, k  select a model
      s               sort by the next column
      l               follow the log of the model; q goes back
      x               stop the model, after a question
      ?               what the columns mean
      q, Ctrl+C       leave, with exit code 0 or 130

    \b
    Examples:
      pi top
      pi top --pod dc1 --interval 5
      pi top --json | jq .models[].tokens_out_per_second
    """
    if interval is not None and not SHORTEST <= interval <= LONGEST:
        raise BadUsage(
            f"`{interval:g}` is not an interval that pi uses",
            hint=f"give {SHORTEST:g} to {LONGEST:g} seconds, e.g. `--interval 5`",
        )
    current = state.load()
    pods = current.select(pod or [], every=not pod)
    if not pods:
        raise BadUsage("there are no pods", hint='set one up with `pi pods setup NAME "ssh root@HOST"`')
    from pi_cli.view import full_screen

    if not as_json and full_screen.is_possible():
        from pi_cli.commands import top_keys

        interrupts.run(top_keys.show(pods, interval or INTERVAL))
        return
    _print(pods, interval or FIRST_INTERVAL, as_json=as_json)


def _print(pods: Mapping[str, Pod], interval: float, *, as_json: bool) -> None:
    """Look at the pods twice and print the result."""
    import asyncio

    from pi_cli.models.load import Loads
    from pi_cli.pods import fleet
    from pi_cli.view import full_screen, progress, terminal
    from pi_cli.view import load as view

    loads = Loads(pods)

    async def look_twice(session: "PodSession") -> None:
        loads.see(session.pod, await loads.look(session))
        await asyncio.sleep(interval)
        loads.see(session.pod, await loads.look(session))

    with progress.following(pods):
        failures = interrupts.run(fleet.on_each(pods, look_twice, at_once=True))
    for name, error in failures.items():
        loads.lost(name, error)
    if as_json:
        for load in loads.pods.values():
            terminal.show_json_line(_as_json(load))
    else:
        console = terminal.out()
        for line in view.plain(loads.pods, is_ascii=full_screen.is_ascii()):
            console.print(line, soft_wrap=True)
    raise_any(failures)


def _as_json(load: "PodLoad") -> dict[str, object]:
    return {
        "pod": load.pod,
        "error": str(load.error) if load.error else None,
        "gpus": [_gpu_as_json(gpu) for gpu in load.gpus],
        "models": [_model_as_json(model) for model in load.models],
    }


def _gpu_as_json(gpu: "GpuLoad") -> dict[str, object]:
    used, total = gpu.memory or (None, None)
    return {
        "id": gpu.id,
        "name": gpu.name,
        "mig": gpu.has_slices,
        "use_percent": gpu.utilization,
        "memory_used_mib": used,
        "memory_total_mib": total,
        "power_watts": gpu.power,
        "power_limit_watts": gpu.power_limit,
        "temperature_celsius": gpu.temperature,
    }


def _model_as_json(load: "ModelLoad") -> dict[str, object]:
    from pi_cli.models import lease_words

    fields = options.as_json(load.pod, load.name, Model(load.model, load.port, load.gpu, load.pid))
    return fields | {
        "status": load.status,
        "age_seconds": None if load.age is None else round(load.age),
        "requests_running": load.running,
        "requests_waiting": load.waiting,
        "tokens_in_per_second": _rounded(load.tokens_in),
        "tokens_out_per_second": _rounded(load.tokens_out),
        "kv_cache_percent": None if load.kv_cache is None else _rounded(load.kv_cache * 100),
        "first_token_seconds": _rounded(load.first_token),
        "lease": lease_words.as_json(load.lease),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
