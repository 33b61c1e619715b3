"""`pi gateway status`: what the gateways of this machine do."""

from contextlib import suppress

from pi_cli import interrupts
from pi_cli.commands.options import AsJson, Wide
from pi_cli.errors import PiError
from pi_cli.store import gateways, keys
from pi_cli.store.gateways import Gateway
from pi_cli.store.keys import ApiKey

TO_START = "start one in another terminal with `pi gateway --all`"


def status(as_json: AsJson = False, wide: Wide = False) -> None:
    """Show what a gateway does: its models and their replicas.

    For each replica: whether requests go to it, how many it has had since the gateway's start and how many are in
    progress, the tokens that it generates per second now, and how often the balancer has ejected it after failures.

    \b
    Examples:
      pi gateway status
      pi gateway status --json
    """
    from pi_cli.gateway import status as statuses
    from pi_cli.view import gateways as view

    running = gateways.running()
    if not running and not as_json:
        raise none_running()

    import asyncio

    async def look() -> list[tuple[Gateway, list[statuses.ReplicaStatus]]]:
        looks = [statuses.look(each, key_of(each)) for each in running]
        return list(zip(running, await asyncio.gather(*looks), strict=True))

    found = interrupts.run(look())
    if as_json:
        view.show_status_as_json(found)
    else:
        view.show_status(found, is_wide=wide)


def key_of(gateway: Gateway) -> ApiKey | None:
    """Return the key of a gateway, None if this machine does not have it where it was."""
    with suppress(PiError):
        return keys.find(gateway.key_variable)
    return None


def none_running() -> PiError:
    return PiError("no gateway is running on this machine", hint=TO_START)
