"""Gateways, before a model is stopped and after it was started. Their code is loaded only where there are any."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from pi_cli import interrupts
from pi_cli.store import gateways, state

Places = Collection[tuple[str, str]]
"""Models, by pod and name."""


@asynccontextmanager
async def leaving(places: Places) -> AsyncIterator[None]:
    """Have gateways turn to other replicas of these models while the block runs, which stops them."""
    if not places or not (gateways.running() or _are_on_pods()):
        yield
        return
    from pi_cli.gateway import membership
    from pi_cli.view import terminal

    async with membership.leaving(places, terminal.note):
        yield


async def joined(places: Places) -> None:
    """Tell gateways on pods about models that are ready."""
    if places and _are_on_pods():
        from pi_cli.gateway import membership
        from pi_cli.view import terminal

        await membership.joined(places, terminal.note)


def tell(places: Places) -> None:
    """Do the same in a command whose other work is done."""
    if places and _are_on_pods():
        interrupts.run(joined(places))


def _are_on_pods() -> bool:
    return any(model.kind == "gateway" for _, _, model in state.load().models())
