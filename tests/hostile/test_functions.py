"""Wrong answers to commands that look at one pod, or draw a screen until they are ended: by their functions, not whole.

The rest of the commands is tried whole, on many pods at once (`test_fuzz.py`).
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from agent import protocol

from pi_cli.errors import PiError
from pi_cli.models import bench, load, why
from pi_cli.pods import agent
from pi_cli.store.records import Model, Pod
from pi_cli.view import bench as bench_view
from pi_cli.view import load as load_view
from pi_cli.view import why as why_view
from tests.hostile import answers, driver
from tests.hostile.driver import CONTROLS, SOUND, HostileSession, Reply
from tests.hostile.test_fuzz import ALL, OPERATIONS

SIZES = [(80, 24), (40, 12)]
EACH = 1 if ALL else 61  # no divisor of the number of values


def explained(reply: bytes) -> Iterator[str]:
    model = Model("Qwen/Qwen3-8B", port=8001, gpu="0", pid=4711, uid=answers.UID)
    pod = Pod("ssh root@127.0.0.1", models={"q": model})
    found = asyncio.run(why.explain(HostileSession("dc1", {"logs": reply}), "q", pod))
    yield from driver._strings(json.loads(json.dumps(why_view.as_json(found))))


def attached(reply: bytes) -> Iterator[str]:
    end = asyncio.run(agent.attach(HostileSession("dc1", {"attach": reply}), "q", lambda _: None))
    yield repr(end)


def drawn(reply: bytes) -> Iterator[str]:
    """Yield the screens of `pi top` after a sound look and this one, and after one more sound one."""
    loads = load.Loads({"dc1": Pod("ssh root@127.0.0.1")})
    for each in (SOUND["survey"], reply, SOUND["survey"]):
        try:
            session = HostileSession("dc1", {"survey": each})
            loads.see("dc1", asyncio.run(agent.survey(session, [], forget=False, live=True)))
        except PiError as error:
            loads.lost("dc1", error)
        for width, height in SIZES:
            lines = load_view.screen(loads.pods, load_view.Look(), width=width, height=height)
            assert all(line.cell_len <= width for line in lines)
            yield from (line.plain for line in lines)


def benched(reply: bytes) -> Iterator[str]:
    model = Model("Qwen/Qwen3-8B", port=8001, gpu="0", pid=4711, uid=answers.UID)
    asked = bench.Load((1,), 512, 128)
    session = HostileSession("dc1", {**SOUND, "bench": reply})
    found = asyncio.run(bench.run(session, "q", model, Pod("ssh root@127.0.0.1"), asked, lambda _: None))
    yield from driver._strings(json.loads(json.dumps(bench_view.as_json(found, found))))
    yield from (bench_view.line(level, found) for level in found.levels)
    yield from bench_view.plot(found.levels, is_ascii=True)


def networked(reply: bytes) -> Iterator[str]:
    request: protocol.NetworkRequest = {"action": "addresses", "addresses": [], "ports": [], "nonce": "", "seconds": 1}
    found = asyncio.run(agent.network(HostileSession("dc1", {"network": reply}), request))
    yield from (text for each in found.addresses for text in (each.address, each.interface, each.variable))
    yield from (text for each in found.links for text in (each.address, each.reason))


def balanced(reply: bytes) -> Iterator[str]:
    engines: list[protocol.GatewayEngine] = [
        {"id": id, "hosts": ["10.0.0.2"], "port": 8001, "proof_keys": []} for id in ("a", "b")
    ]
    request: protocol.GatewayRequest = {
        "uid": answers.UID, "name": "g", "package": "smg", "version": "1", "requirements": "", "launcher": "",
        "options": [], "key": "", "control_key": "", "engines": engines, "port": None, "public": False,
        "install": False, "action": "start", "seconds": 0.0,
    }  # fmt: skip
    end = asyncio.run(agent.gateway(HostileSession("dc1", {"gateway": reply}), request))
    yield from (str(value) for value in (end.state, *end.workers.values(), *end.refused.values()))


LIVE = {**answers.SURVEY, "models": [answers.MODEL], "dead": [answers.DEAD], "unreadable": []}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        (explained, lambda: [*driver._frames()]),
        (attached, lambda: [*driver._answered(answers.STARTED, "attach"), *driver._events()]),
        (benched, lambda: driver._answered(answers.BENCHED, "bench")),
        (networked, lambda: driver._answered(answers.NETWORK, "network")),
        (balanced, lambda: driver._answered(answers.GATEWAY, "gateway")),
        (drawn, lambda: driver._answered(LIVE, "survey")),
    ],
    ids=["why", "attach", "bench", "network", "gateway", "top"],
)
def test_a_wrong_answer_is_an_error_or_shown_without_control_characters(
    what: Callable[[bytes], Iterator[str]], wrong: Callable[[], list[tuple[str, Reply]]]
) -> None:
    for name, reply in wrong()[::EACH]:
        try:
            shown = [*what(reply())]
        except PiError as error:
            shown = [str(error), str(error.hint)]
        assert not [text for text in shown if CONTROLS.search(text)], name


def test_every_operation_of_the_protocol_is_tried() -> None:
    experiments = {each.operation for name in OPERATIONS for each in driver.experiments(name)}
    assert experiments | {"attach", "bench", "network", "gateway"} == set(get_args(protocol.Operation))
