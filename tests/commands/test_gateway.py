"""`pi gateway`: smg as a real process in front of embedded pods, and what happens when one of them ends or hangs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.gateway import engine
from tests.commands.load import PLAIN, ask, load
from tests.commands.served import Served, write_entry
from tests.commands.staying import Staying, staying
from tests.conftest import KEY, Pi, pods_json
from tests.docs import json_page
from tests.lab.relay import Relay
from tests.sdk import counting
from tests.until import until

pytestmark = pytest.mark.xdist_group("gateway")
# Tests that mostly wait: another worker runs them, with pods of its own.
beside = pytest.mark.xdist_group("gateway-beside")

TOOLS = ("--vllm", "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
ROUND_ROBIN = ("--policy", "round_robin")


@pytest.fixture(scope="module")
def pods() -> Iterator[dict[str, Served]]:
    """Make three pods: `q` runs on dc1 and dc2, `r` on dc3."""
    with ExitStack() as stack:
        made = {name: stack.enter_context(EmbeddedPod("8x H100 80GB")) for name in ("dc1", "dc2", "dc3")}
        for pod in made.values():
            for program in ("hf", "vllm"):
                (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        yield {name: Served(pod) for name, pod in made.items()}


@pytest.fixture
def fleet(pi: Pi, pods: dict[str, Served], environment: Path) -> dict[str, Served]:
    assert environment.exists()
    for name, each in pods.items():
        each.register(name)
    for name, model in (("dc1", "q"), ("dc2", "q"), ("dc3", "r")):
        pods[name].started(pi, model, *TOOLS, on=name)
    return pods


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def gateway(*words: str) -> Iterator[tuple[Staying, str]]:
    """Run `pi gateway` on a free port while the block runs; give what it says, and its URL."""
    with staying("gateway", *words, "--port", str(free_port())) as running:
        [url] = running.prints()
        yield running, url


@contextmanager
def link_to(name: str, pod: EmbeddedPod) -> Iterator[Relay]:
    """Put a relay between pi and a pod."""
    with Relay(pod.address, pod.port) as relay:
        state = pods_json()
        state["pods"][name]["ssh"] = f"ssh -p {relay.port} -i {pod.key} root@127.0.0.1"
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
        yield relay


def both_are_up(running: Staying) -> None:
    running.says("`q` on `dc1` is up")
    running.says("`q` on `dc2` is up")


def balancers() -> dict[int, list[int]]:
    """Return the processes of smg that run, with the parent of each."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            text = status.read_text()
            if status.with_name("cmdline").read_bytes().startswith(b"smg::router"):
                found[int(status.parent.name)] = [int(word) for word in re.findall(r"PPid:\s+(\d+)", text)]
    return found


def balancer_of(running: Staying) -> int:
    [pid] = [pid for pid, parents in balancers().items() if parents == [running.process.pid]]
    return pid


def test_several_models_answer_at_one_url_and_no_command_line_has_the_key(pi: Pi, fleet: dict[str, Served]) -> None:
    with gateway("--all") as (running, url):
        both_are_up(running)
        running.says("`r` on `dc3` is up, context 40,960 tokens")
        for name in ("q", "r"):
            until(lambda: ask(url, {**PLAIN, "model": name}).status_code == 200)  # noqa: B023 - called at once
        assert ask(url, PLAIN, {}).status_code == 401
        assert ask(url, PLAIN, {"Authorization": "Bearer another-key"}).status_code == 401
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not [line for line in lines if KEY.encode() in line]
        assert KEY not in Path(f"/proc/{balancer_of(running)}/environ").read_text()
        status = pi("gateway", "status", "--json")
        assert json_page.problems("pi gateway status --json", status.out) == []
        listed = status.json[0]["replicas"]
        known = [(each["name"], each["pod"], each["state"], each["context_length"]) for each in listed]
        assert known == [("q", "dc1", "up", 40960), ("q", "dc2", "up", 40960), ("r", "dc3", "up", 40960)]
        assert sum(each["requests"] for each in listed) == 2
        assert json_page.problems("pi env --gateway --json", pi("env", "--gateway", "q", "--json").out) == []
        exports = pi("env", "--gateway", "q", "--shell", "bash").out
        assert f"export OPENAI_BASE_URL={url}\n" in exports
        assert "export PI_CONTEXT_LENGTH=40960\n" in exports
        shown = pi(
            "run", "--gateway", "r", "--", "sh", "-c", 'echo "$OPENAI_MODEL $OPENAI_BASE_URL $ANTHROPIC_AUTH_TOKEN"'
        )
        assert shown.out == f"r {url} {KEY}\n"
        several = pi("env", "--gateway")
        assert (several.code, "choose `q` or `r`" in several.err) == (2, True)
        elsewhere = pi("run", "--gateway", "other", "--", "true")
        assert "error: no running gateway serves `other`" in elsewhere.err
    assert fleet["dc1"].pod.processes()


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_every_api_passes_byte_for_byte(fleet: dict[str, Served], is_stream: bool) -> None:
    direct = f"http://127.0.0.1:{fleet['dc3'].entries['r']['port']}/v1"
    tool = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}
    question = {"model": "r", "stream": is_stream, "max_tokens": 50}
    messages = [{"role": "user", "content": "What is 2+2? Ünïcode ✓"}]
    bodies: dict[str, dict[str, Any]] = {
        "/chat/completions": question | {"messages": messages, "tools": [tool]},
        "/completions": question | {"prompt": "2+2 is"},
        "/responses": {"model": "r", "stream": is_stream, "input": "What is 2+2?"},
        "/messages": question | {"messages": messages},
    }
    with gateway("r") as (_, url):
        for route, body in bodies.items():
            [there, here] = [ask(each, body, route=route) for each in (direct, url)]
            assert here.status_code == there.status_code == 200, (route, here.text)
            assert without_ids(here.content) == without_ids(there.content), route
            assert here.headers["content-type"] == there.headers["content-type"]


def without_ids(content: bytes) -> bytes:
    """Return an answer without what differs between any two answers: ids and times."""
    return re.sub(rb"[0-9a-f]{16,}|\b1[78]\d{8}(\.\d+)?\b", b"-", content)


def test_stopping_and_starting_a_replica_loses_no_request(pi: Pi, fleet: dict[str, Served]) -> None:
    with gateway("q") as (running, url), load(url) as counted:
        both_are_up(running)
        assert pi("stop", "q", "--pod", "dc2").code == 0
        running.says("`q` on `dc2` is down: it is not running")
        del fleet["dc2"].entries["q"]
        fleet["dc2"].started(pi, "q", *TOOLS, on="dc2")
        running.says("`q` on `dc2` is up again")
    assert counted.failed == {}
    assert counted.slowest < 20


def test_answers_in_progress_on_a_replica_are_whole_before_it_is_stopped(pi: Pi, fleet: dict[str, Served]) -> None:
    with gateway("q", *ROUND_ROBIN) as (running, url):
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        with ExitStack() as streams:
            answers = [streams.enter_context(counting(url)) for _ in range(4)]
            with load(url, clients=1) as counted:
                stopped = pi("stop", "q", "--pod", "dc2")
            assert stopped.code == 0, stopped.err
            assert "waiting for the answers in progress at `q` on `dc2`, for up to 30 s" in stopped.err
            assert [last_of(each) for each in answers] == ["whole"] * 4
        assert counted.failed == {}
        running.says("`q` on `dc2` is down: it is not running")
    del fleet["dc2"].entries["q"]


def test_ctrl_c_while_answers_are_awaited_stops_nothing(pi: Pi, fleet: dict[str, Served]) -> None:
    pid = fleet["dc2"].entries["q"]["pid"]
    with gateway("q", *ROUND_ROBIN) as (running, url), ExitStack() as streams:
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        for _ in range(4):
            streams.enter_context(counting(url))
        os.killpg(pid, signal.SIGSTOP)  # so that its answers do not end
        try:
            with staying("stop", "q", "--pod", "dc2") as stop:
                stop.says("waiting for the answers in progress")
                until(lambda: '"is_leaving": true' in state_file().read_text())
                assert stop.end(signal.SIGINT) == 130
        finally:
            os.killpg(pid, signal.SIGCONT)
        until(lambda: '"is_leaving": true' not in state_file().read_text())
        before = requests_at(pi, "dc2")
        until(lambda: ask(url, PLAIN).status_code == 200 and requests_at(pi, "dc2") > before, "it is used again")
        assert not list(state_file().parent.glob("*.leaving"))
    [row] = pi("list", "--pod", "dc2", "--json").json
    assert (row["name"], row["status"]) == ("q", "ready")


@beside
@pytest.mark.timeout(180)
def test_a_restart_of_all_replicas_by_pi_up_loses_no_request(pi: Pi, fleet: dict[str, Served], tmp_path: Path) -> None:
    file = tmp_path / "pi.toml"
    tables = [f"[pods.{name}]\nssh = {json.dumps(fleet[name].pod.ssh)}\n" for name in ("dc1", "dc2")]
    words = 'model = "Qwen/Qwen3-8B"\npods = ["dc1", "dc2"]\ncontext = "16k"\n'
    file.write_text("\n".join([*tables, f"[models.q]\n{words}"]))
    with gateway("q", *ROUND_ROBIN) as (running, url):
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        with load(url, clients=2) as counted, ExitStack() as streams:
            answers = [streams.enter_context(counting(url)) for _ in range(4)]
            up = pi("up", "--restart", "--yes", "--file", str(file), timeout=120)
            assert up.code == 0, up.err
            ready = [line.split()[1] for line in up.out.splitlines() if line.startswith("ready")]
            assert ready == ["dc1/q", "dc2/q"], up.out
            assert [last_of(each) for each in answers] == ["whole"] * 4
            for name in ("dc1", "dc2"):
                running.says(f"`q` on `{name}` is up again, after")
        assert counted.failed == {}
    assert pi("stop", "dc1/q", "dc2/q").code == 0
    for name in ("dc1", "dc2"):
        del fleet[name].entries["q"]


@beside
def test_a_killed_engine_loses_no_request_that_has_not_begun_to_answer(pi: Pi, fleet: dict[str, Served]) -> None:
    with gateway("q") as (running, url), load(url) as counted:
        both_are_up(running)
        os.killpg(fleet["dc2"].entries["q"]["pid"], signal.SIGKILL)
        del fleet["dc2"].entries["q"]
        running.says("`q` on `dc2` is down")
        fleet["dc2"].started(pi, "q", *TOOLS, on="dc2")
        running.says("`q` on `dc2` is up again")
    assert counted.failed == {}


@beside
def test_a_cut_link_ends_the_streams_on_it_only(fleet: dict[str, Served]) -> None:
    with link_to("dc2", fleet["dc2"].pod) as way, gateway("q", *ROUND_ROBIN) as (running, url):
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        with ExitStack() as streams:
            answers = [streams.enter_context(counting(url)) for _ in range(4)]
            way.cut()
            ends = [last_of(each) for each in answers]
        assert ends.count("whole") == 2
        assert ends.count("cut") == 2
        running.says("`q` on `dc2` is up again")


def replicas_used(url: str) -> int:
    """Ask a few times; return how many replicas have answered so far."""
    for _ in range(2):
        assert ask(url, PLAIN).status_code == 200
    state = json.loads(state_file().read_text())
    text = httpx2.get(f"http://127.0.0.1:{state['metrics_port']}/metrics", trust_env=False).text
    return sum(worker.requests > 0 for worker in engine.read_metrics(text).workers.values())


def state_file() -> Path:
    """Return what the running gateway says about itself."""
    [path] = Path(os.environ["PI_CONFIG_DIR"], "gateway").glob("*.json")
    return path


def last_of(stream: Any) -> str:
    """Read a stream to its end; say whether the answer is whole."""
    import openai

    reason = None
    try:
        for chunk in stream:
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
    except (openai.APIError, httpx2.TransportError):
        return "cut"
    return "whole" if reason else "cut"


@beside
def test_a_pod_that_hangs_is_passed_over(fleet: dict[str, Served]) -> None:
    """Requests that wait for it are asked again elsewhere, once the link is given up after 8 seconds."""
    with link_to("dc2", fleet["dc2"].pod) as way, gateway("q", *ROUND_ROBIN) as (running, url):
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        with load(url) as counted:
            way.fall_silent()
            running.says("`q` on `dc2` is down")
            way.speak_again()
        assert counted.failed == {}
        assert counted.slowest < 20


@beside
def test_requests_that_wait_for_an_engine_that_hangs_are_asked_again_elsewhere(fleet: dict[str, Served]) -> None:
    pid = fleet["dc2"].entries["q"]["pid"]
    with gateway("q", *ROUND_ROBIN) as (running, url):
        both_are_up(running)
        until(lambda: replicas_used(url) == 2, "requests go to both")
        with load(url) as counted:
            os.killpg(pid, signal.SIGSTOP)
            try:
                running.says("`q` on `dc2` is down: it does not answer, though its pod does")
            finally:
                os.killpg(pid, signal.SIGCONT)
            running.says("`q` on `dc2` is up again")
        assert counted.failed == {}


@beside
def test_what_happens_is_a_line_of_json(pi: Pi, fleet: dict[str, Served]) -> None:
    with staying("gateway", "r", "--port", str(free_port()), "--json") as running:
        lines = running.prints(2)
        assert sorted(json.loads(line)["event"] for line in lines) == ["serving", "up"]
        assert pi("pods", "rename", "dc3", "big").code == 0
        [_, _, renamed, up] = lines = running.prints(4)
        assert json.loads(renamed) == {"event": "pod-changed", "pod": "big", "change": "renamed", "was": "dc3"}
        assert (json.loads(up)["event"], json.loads(up)["pod"]) == ("up", "big")
        assert [json_page.problems("pi gateway --json", line) for line in lines] == [[], [], [], []]
    assert fleet["dc3"].pod.processes()


@beside
def test_a_balancer_that_ends_is_started_again(fleet: dict[str, Served]) -> None:
    with gateway("r") as (running, url):
        os.kill(balancer_of(running), signal.SIGKILL)
        running.says("the balancer ended by SIGKILL; it is started again")
        running.says("the gateway answers again, after")
        assert ask(url, {**PLAIN, "model": "r"}).status_code == 200
    assert fleet["dc3"].pod.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"])
def test_the_balancer_ends_with_pi(fleet: dict[str, Served], number: int) -> None:
    with gateway("r") as (running, url):
        pid = balancer_of(running)
        running.end(number, timeout=20)
        until(lambda: pid not in balancers())
        assert "Traceback" not in "".join(running.err)
        # A process that is killed loses its command line before its sockets.
        until(lambda: not listens(httpx2.URL(url).port or 0))
    left = {path.suffix for path in Path(os.environ["PI_CONFIG_DIR"], "gateway").iterdir()}
    assert left == (set() if number != signal.SIGKILL else {".json", ".lock", ".workers"})
    assert fleet["dc3"].pod.processes()


def test_ctrl_c_lets_an_answer_end(fleet: dict[str, Served]) -> None:
    with gateway("r") as (running, url), counting(url, "r") as stream:
        running.process.send_signal(signal.SIGINT)
        assert last_of(stream) == "whole"
        assert running.process.wait(20) == 130
    assert fleet["dc3"].pod.processes()


@beside
def test_models_come_while_the_gateway_runs_and_those_with_another_key_are_left_out(
    pi: Pi, fleet: dict[str, Served]
) -> None:
    with gateway("--all") as (running, url):
        both_are_up(running)
        os.environ["TEAM_KEY"] = "another-key-0123456789"
        try:
            fleet["dc3"].started(pi, "other", "--api-key-env", "TEAM_KEY", "--gpus", "1", on="dc3")
        finally:
            del os.environ["TEAM_KEY"]
        fleet["dc3"].started(pi, "late", "--gpus", "1", on="dc3")
        assert "it does not accept the key in PI_API_KEY" in running.says("`other` on `dc3` is left out")
        running.says("`late` on `dc3` is up")
        assert not [line for line in running.err if "its guard" in line], "one that is starting cannot prove itself yet"
        until(lambda: ask(url, {**PLAIN, "model": "late"}).status_code == 200)
        listed = httpx2.get(f"{url}/models", trust_env=False).json()["data"]
        assert sorted(each["id"] for each in listed) == ["late", "q", "r"]
        assert "is left out: it does not accept" in pi("gateway", "status").err


@beside
def test_a_model_whose_replicas_are_all_gone_is_said_to_be_unavailable(pi: Pi, fleet: dict[str, Served]) -> None:
    fleet["dc1"].started(pi, "gone", "--gpus", "1", on="dc1")
    with gateway("gone", "r") as (running, url):
        running.says("`gone` on `dc1` is up")
        until(lambda: ask(url, {**PLAIN, "model": "gone"}).status_code == 200)
        assert pi("stop", "gone", "--pod", "dc1").code == 0
        del fleet["dc1"].entries["gone"]
        running.says("`gone` on `dc1` is down")
        until(lambda: ask(url, {**PLAIN, "model": "gone"}).status_code == 503)
        assert ask(url, {**PLAIN, "model": "never"}).status_code == 404


@beside
def test_pods_that_are_renamed_replaced_added_and_removed_are_followed_without_a_lost_request(
    pi: Pi, fleet: dict[str, Served]
) -> None:
    """`q` on dc1 is not touched; dc2 is called `far`, then another machine, and then it is removed."""
    with EmbeddedPod("8x H100 80GB") as new, gateway("q", *ROUND_ROBIN) as (running, url), load(url) as counted:
        for program in ("hf", "vllm"):
            (new.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        both_are_up(running)
        assert pi("pods", "rename", "dc2", "far").code == 0
        running.says("`dc2` is called `far` now")
        running.says("`q` on `far` is up")
        assert pi("pods", "setup", "far", new.ssh, "--accept-new-host-key", timeout=60).code == 0
        running.says("`far` is another machine now: the link to the former one is closed")
        running.says("`q` on `far` is down: it is not running")
        started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "far")
        assert started.code == 0, started.err
        running.says("`q` on `far` is up", times=2)
        until(lambda: requests_at(pi, "far"), "requests go to the new machine")
        assert pi("pods", "remove", "far", "--stop").code == 0
        running.says("`far` is not on pi's list any more")
        fleet["dc2"].register("dc2")
        write_entry("q", "dc2", fleet["dc2"].entries["q"])
        running.says("`dc2` is on pi's list now")
        running.says("`q` on `dc2` is up", times=2)
    assert counted.failed == {}
    assert not [line for line in running.err if "giving up" in line]


@beside
def test_the_only_replica_of_a_model_keeps_its_requests_when_its_pod_is_renamed(
    pi: Pi, fleet: dict[str, Served]
) -> None:
    with gateway("r") as (running, url), load(url, name="r") as counted:
        running.says("`r` on `dc3` is up")
        assert pi("pods", "rename", "dc3", "big").code == 0
        running.says("`dc3` is called `big` now")
        running.says("`r` on `big` is up")
        until(lambda: [each["pod"] for each in pi("gateway", "status", "--json").json[0]["replicas"]] == ["big"])
    assert counted.failed == {}
    assert fleet["dc3"].pod.processes()


def requests_at(pi: Pi, pod: str) -> int:
    """Return how many requests `q` on a pod got through the gateway."""
    [gateway] = pi("gateway", "status", "--json").json
    return sum(each["requests"] or 0 for each in gateway["replicas"] if (each["name"], each["pod"]) == ("q", pod))


@beside
def test_a_pod_whose_host_key_was_refused_is_tried_again_when_it_was_set_up_again(fleet: dict[str, Served]) -> None:
    known = Path(os.environ["PI_CONFIG_DIR"], "known_hosts")
    right = known.read_text()
    key = next(line.partition(" ")[2] for line in right.splitlines() if line.startswith("dc3 "))
    wrong = next(line.partition(" ")[2] for line in right.splitlines() if line.startswith("dc1 "))
    known.write_text(right.replace(f"dc3 {key}", f"dc3 {wrong}"))
    with gateway("--all") as (running, url):
        running.says("giving up")
        known.write_text(right)
        running.says("`dc3` was set up again: connecting to it")
        running.says("`r` on `dc3` is up")
        until(lambda: ask(url, {**PLAIN, "model": "r"}).status_code == 200)
    assert fleet["dc3"].pod.processes()


def test_a_gateway_on_a_pod_stays_until_it_is_stopped(pi: Pi, fleet: dict[str, Served]) -> None:
    """The engines of embedded pods listen on the loopback: those of other pods are out of reach."""
    pod = fleet["dc1"].pod
    without_terminal = pi("gateway", "--all", "--on", "dc1")
    assert (without_terminal.code, without_terminal.out) == (1, "")
    assert "is not installed, and stdin is not a terminal" in without_terminal.err
    install_balancer(pod)
    started = pi("gateway", "--all", "--on", "dc1", "--json")
    assert started.code == 0, started.err
    assert json_page.problems("pi gateway --on --json", started.out) == []
    assert list(started.json["workers"]) == ["dc1/q"]
    assert "cannot be reached" in started.json["refused"]["dc2/q"]
    assert [each for each in pod.processes() if "router" in each.command[0]]
    row = next(row for row in pi("list", "--pod", "dc1", "--json").json if row["name"] == "gateway")
    assert (row["status"], row["port"]) == ("ready", started.json["port"])
    assert not [each for each in pod.processes() if KEY in " ".join(each.command)]
    with staying("forward", "dc1/gateway") as forward:
        [url] = forward.prints()
        until(lambda: ask(url, PLAIN).status_code == 200)
        more = fleet["dc1"].started(pi, "more", "--gpus", "1", on="dc1")
        assert "`gateway` on `dc1` sends requests to `more` on `dc1` now" in more.err
        until(lambda: ask(url, {**PLAIN, "model": "more"}).status_code == 200)
        refreshed = pi("gateway", "--all", "--on", "dc1", "--refresh").out
        assert [line.split()[0] for line in refreshed.splitlines()] == ["dc1/more", "dc1/q"]
    again = pi("gateway", "--all", "--on", "dc1")
    assert (again.code, "`gateway` already runs here" in again.err) == (1, True)
    assert "error: `gateway` is a gateway, not a model" in pi("run", "dc1/gateway", "--", "true").err
    stopped = pi("stop", "dc1/gateway")
    assert (stopped.code, "stopped `gateway` on `dc1`" in stopped.out) == (0, True)
    assert not [each for each in pod.processes() if "router" in each.command[0]]


def install_balancer(pod: EmbeddedPod) -> None:
    """Put the balancer of this environment where the pod's uv would install it: that takes the internet."""
    folder = pod.home / ".pi" / "venvs" / f"smg-{engine.VERSION}"
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / ".complete").touch()


def test_a_port_in_use_and_words_that_exclude_each_other_are_refused(pi: Pi, fleet: dict[str, Served]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = pi("gateway", "r", "--port", str(port))
    assert (result.code, result.out) == (2, "")
    assert f"port {port} of this machine cannot be used: Address already in use" in result.err
    assert pi("gateway", "r", "--all").code == 2
    nothing = pi("gateway", "status")
    assert (nothing.code, "no gateway is running on this machine" in nothing.err) == (1, True)
    assert pi("gateway", "status", "--json").json == []
    assert fleet["dc3"].pod.processes()


def test_smg_still_has_every_option_in_use() -> None:
    command = [str(Path(sys.executable).with_name("smg")), "launch", "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(engine.option_names()) <= set(help_text.replace("[", " ").replace("]", " ").split())
    from importlib.metadata import version

    assert version("smg") == engine.VERSION
