"""Public ports behind a firewall that drops packets: no answer waits for them, and no key follows what is known."""

import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.lab.wire import Wire
from tests.openssh.at_work import MODEL, QUICK, start

pytestmark = pytest.mark.usefixtures("wires")

ROUNDS = 3


@pytest.fixture
def way(pod: OpensshPod) -> Iterator[Wire]:
    with Wire(pod) as way:
        yield way


def seconds_to_list(pi: Pi) -> float:
    began = time.monotonic()
    assert pi("list").code == 0
    return time.monotonic() - began


def test_a_port_whose_packets_are_dropped_delays_no_list(pi: Pi, way: Wire) -> None:
    """Fault: 1.5 s of every `pi list`, and of the end of `pi start`."""
    start(pi)
    later = []
    for _ in range(ROUNDS):
        while_open = seconds_to_list(pi)
        with way.filtered(8001, 8008):
            later.append(seconds_to_list(pi) - while_open)
    assert statistics.median(later) < 0.75, "half of what a question to such a port takes"


def test_an_unknown_port_is_said_to_be_unknown(pi: Pi, way: Wire) -> None:
    with way.filtered(8001, 8008):
        started = pi("start", MODEL, "--name", "q", *QUICK)
        assert started.out.startswith("ready `q` on `dc1`: through SSH only\n")
        assert "port 8001 has not answered from here; open a local port" in started.err
        [model] = pi("list", "--json").json
        assert (model["status"], model["url"], model["answers_checked_seconds"]) == ("ready", None, None)
        assert model["answers_from_here"] is None
        assert "pi forward q" in pi("list").out


def test_what_is_remembered_is_shown_with_its_age_and_no_key_follows_it(pi: Pi, way: Wire) -> None:
    start(pi)
    url = f"http://{way.pod.address}:8001/v1"
    assert pi("list", "--json").json[0]["url"] == url
    file = Path(os.environ["PI_CONFIG_DIR"], "ports.json")
    [row] = json.loads(file.read_text())
    file.write_text(json.dumps([row | {"at": row["at"] - 7500}]))
    with way.filtered(8001, 8008):
        assert f"{url} (checked 2h ago)" in pi("list").out
        [model] = pi("list", "--json").json
        assert (model["url"], model["answers_from_here"]) == (url, True)
        assert model["answers_checked_seconds"] >= 7500
        refused = pi("env", "q")
        assert (refused.code, refused.out) == (1, "")
        assert "`q` on `dc1` does not answer from here" in refused.err
    assert pi("env", "q").code == 0
    assert pi("stop", "q").code == 0
    assert json.loads(file.read_text()) == []
