"""Ask the Hub as pi does, and return the answer or the error."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from pi_cli.errors import ModelNotStarted, PiError
from pi_cli.hub import hub_api
from pi_cli.hub.hub_api import HubUnreachable
from pi_cli.hub.repository import Repository
from tests.lab.hub import Hub

Ask = Callable[..., Any]
E = TypeVar("E", bound=PiError)


def describe(model: str, at: Hub | str, token: str | None = None, timeout: float = 20.0) -> Repository:
    return asyncio.run(
        hub_api.describe(model, token=token, endpoint=at if isinstance(at, str) else at.url, timeout=timeout)
    )


def check(model: str, at: Hub | str, token: str | None = None, timeout: float = 20.0) -> None:
    endpoint = at if isinstance(at, str) else at.url
    asyncio.run(hub_api.check_access(model, token=token, endpoint=endpoint, timeout=timeout))


def refusal(ask: Ask, model: str, at: Hub | str, token: str | None = None) -> ModelNotStarted:
    return raised(ModelNotStarted, ask, model, at, token)


def silence(ask: Ask, model: str, at: Hub | str, timeout: float = 20.0) -> HubUnreachable:
    return raised(HubUnreachable, ask, model, at, None, timeout)


def raised(kind: type[E], ask: Ask, *args: Any) -> E:
    with pytest.raises(kind) as caught:
        ask(*args)
    return caught.value


def asking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hub question"]
