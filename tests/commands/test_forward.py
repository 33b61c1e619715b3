"""`pi forward`: a local port forwarded to a model, over lost connections and restarts of the model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.commands.staying import staying
from tests.conftest import Pi, pods_json
from tests.lab.relay import Relay
from tests.sdk import answer, counting
from tests.until import until

pytestmark = pytest.mark.xdist_group("forward")

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")


def start(pi: Pi, name: str = "q", *own: str, pod: str = "dc1") -> int:
    """Start a model and return its port on the pod."""
    result = pi("start", "Qwen/Qwen3-8B", "--name", name, "--pod", pod, "--json", "--vllm", *TOOLS, *own)
    assert result.code == 0, result.err
    return int(result.json[0]["port"])


def port_of(url: str) -> int:
    return int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/v1", url)[1])  # type: ignore[index]


def is_closed_at_once(port: int) -> bool:
    """Return whether a connection is closed within a second, without an answer."""
    began = time.monotonic()
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: pod\r\n\r\n")
        assert connection.recv(100) == b""
    return time.monotonic() - began < 1


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` runs; the first test starts it."""
    module_pod.register("dc1")
    module_pod.started(pi, "q", "--vllm", *TOOLS, "--simulate", "rate=10")
    return module_pod.pod


@pytest.fixture
def relay(shared: EmbeddedPod) -> Iterator[Relay]:
    """A relay between pi and `dc1` that can be cut."""
    with Relay(shared.address, shared.port) as relay:
        state = pods_json()
        state["pods"]["dc1"]["ssh"] = f"ssh -p {relay.port} -i {shared.key} root@127.0.0.1"
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
        yield relay


def test_a_key_that_is_good_at_the_port_only_is_printed_if_it_is_asked_for(shared: EmbeddedPod) -> None:
    assert shared
    with staying("forward", "q", "--token") as forward:
        url, key = forward.prints()[0].split()
    with staying("forward", "q", "--token", "--json") as forward:
        up = json.loads(forward.prints()[0])
        statuses = [
            httpx2.get(f"{up['url']}/models", headers={"x-api-key": each}, trust_env=False).status_code
            for each in (up["token"], key)
        ]
    assert (port_of(url) > 0, statuses) == (True, [200, 401])


@pytest.mark.usefixtures("shared")
def test_a_forward_in_the_background_of_a_script_ends_with_sigterm() -> None:
    """A shell without job control has its background commands ignore Ctrl+C, and pi keeps to that."""
    command = [sys.executable, "-m", "pi_cli", "forward", "q"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout
        port = port_of(process.stdout.readline().strip())
        process.terminate()
        try:
            assert process.wait(20) == 143
        finally:
            process.kill()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_client_that_disconnects_stops_the_answer(pi: Pi, shared: EmbeddedPod) -> None:
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url):
            assert pi("list", "--json").json[0]["requests_running"] == 1
        until(lambda: pi("list", "--json").json[0]["requests_running"] == 0)
    assert shared.processes()


def test_the_official_client_gets_an_answer_through_it(shared: EmbeddedPod, module_pod: Served) -> None:
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        assert port_of(url) > module_pod.entries["q"]["port"]  # the embedded pod uses that one on this machine
        assert answer(url) == "\n\n4"
        assert forward.err == []
    assert shared.commands


def test_ctrl_c_stops_it_and_frees_the_port(shared: EmbeddedPod) -> None:
    with staying("forward", "q", "--port", str(free_port())) as forward:
        port = port_of(forward.prints()[0])
        assert forward.end(signal.SIGINT) == 130
        assert "Traceback" not in "".join(forward.err)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
    assert list(Path(os.environ["PI_CONFIG_DIR"], "forwards").iterdir()) == []
    assert shared.processes()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_only_programs_on_this_machine_can_connect(shared: EmbeddedPod) -> None:
    with staying("forward", "q") as forward:
        port = port_of(forward.prints()[0])
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port]
        assert listening == [f"0100007F:{port:04X}"]
        assert f":{port:04X} " not in Path("/proc/net/tcp6").read_text()
    assert shared.processes()


def test_each_of_several_models_gets_its_own_port(
    pi: Pi, shared: EmbeddedPod, embed: Callable[..., EmbeddedPod]
) -> None:
    embed("dc2")
    start(pi, "r", pod="dc2")
    with staying("forward", "q", "dc2/r") as forward:
        urls = dict(line.split() for line in forward.prints(2))
        assert set(urls) == {"q", "r"}
        assert [answer(urls[name], name) for name in ("q", "r")] == ["\n\n4", "\n\n4"]
    refused = pi("forward", "q", "dc2/r", "--port", "9001")
    assert (refused.code, "`--port` is for one model" in refused.err) == (2, True)
    start(pi, "q", pod="dc2")
    with staying("forward", "dc1/q", "dc2/q", "dc2/r") as forward:
        assert {line.split()[0] for line in forward.prints(3)} == {"dc1/q", "dc2/q", "r"}
    assert shared.processes()


def test_a_port_in_use_is_reported_before_any_connection(pi: Pi, shared: EmbeddedPod) -> None:
    asked = len(shared.commands)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = pi("forward", "q", "--port", str(taken.getsockname()[1]))
    assert result.code == 2
    assert re.search(r"port \d+ of this machine cannot be used: Address already in use", result.err)
    assert len(shared.commands) == asked


def test_pi_reconnects_after_a_lost_connection_and_the_port_stays(shared: EmbeddedPod, relay: Relay) -> None:
    """Faults 5 and 84: a waiting client is cut off; during the outage new connections are closed at once."""
    import openai  # it takes half a second

    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url) as stream:
            relay.block()
            with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
                list(stream)
        forward.says("`q` on `dc1` is down: cannot reach pod `dc1`: the connection was lost")
        assert is_closed_at_once(port_of(url))
        relay.unblock()
        assert re.search(rf"`q` on `dc1` is up again, after \d+s: {url}$", forward.says("is up again"))
        assert answer(url) == "\n\n4"
        assert forward.out == [url]
    assert shared.processes()


def test_each_loss_and_each_return_is_a_line_of_json(shared: EmbeddedPod, relay: Relay) -> None:
    with staying("forward", "q", "--json") as forward:
        first = json.loads(forward.prints()[0])
        relay.block()
        lost = json.loads(forward.prints(2)[1])
        relay.unblock()
        back = json.loads(forward.prints(3)[2])
        assert forward.err == []
    known = {"pod": "dc1", "name": "q", "url": first["url"]}
    assert first == known | {"event": "up", "down_seconds": None}
    assert lost == known | {"event": "down", "reason": "cannot reach pod `dc1`: the connection was lost"}
    assert back == known | {"event": "up", "down_seconds": back["down_seconds"]}
    assert back["down_seconds"] > 0
    assert shared.processes()


def test_a_restarted_model_is_found_again(pi: Pi, pod: EmbeddedPod) -> None:
    start(pi)
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        assert pi("stop", "q").code == 0
        until(lambda: is_closed_at_once(port_of(url)))
        forward.says("`q` on `dc1` is down: it is not running")
        start(pi, "r")  # takes the port that `q` had
        start(pi, "q")
        forward.says("is up again")
        assert answer(url) == "\n\n4"
    assert pod.processes()


def test_a_starting_model_is_waited_for(pi: Pi, pod: EmbeddedPod) -> None:
    own = ("--vllm", *TOOLS, "--simulate", "slow=4")
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--detach", *own).code == 0
    # Its own port is reserved but not listened on yet; on the pod's machine, which is this one, it would look free.
    with staying("forward", "q", "--port", str(free_port())) as forward:
        forward.says("`q` on `dc1` is down: it is still starting (")
        assert answer(forward.prints()[0]) == "\n\n4"
    assert pod.processes()


def test_a_model_that_is_not_running_is_reported(pi: Pi, pod: EmbeddedPod) -> None:
    state = pods_json()
    state["pods"]["dc1"]["models"]["q"] = {"model": "m", "port": 8001, "gpu": "0", "pid": 4711}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    result = pi("forward", "q")
    assert (result.code, result.out) == (1, "")
    assert "error: no model called `q` is running on `dc1`" in result.err
    assert pi("forward", "other").code == 2
    assert pod.commands


def test_a_pod_that_is_gone_does_not_affect_the_others(
    pi: Pi, shared: EmbeddedPod, embed: Callable[..., EmbeddedPod]
) -> None:
    gone = embed("dc2")
    start(pi, "r", pod="dc2")
    gone.close()
    with staying("forward", "q", "dc2/r") as forward:
        assert forward.prints()[0].startswith("q http://")
        assert "giving up" in forward.says("`r` on `dc2` is down: cannot reach pod `dc2`")
        assert answer(forward.out[0].split()[1]) == "\n\n4"
    alone = pi("forward", "dc2/r")
    assert alone.code == 3
    assert alone.err.count("cannot reach pod `dc2`") == 1
    assert shared.processes()
