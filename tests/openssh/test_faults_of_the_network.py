"""The way to a pod is long, narrow, lossy, cut or silent: pi is slower, or says so in time, and forgets nothing."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.conftest import KEY, Pi, Result, pods_json
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import (
    MODEL,
    QUICK,
    begin,
    ended,
    living,
    pods_file,
    records,
    start,
    way_to,
)
from tests.openssh.conftest import Prepare
from tests.until import until

SILENCE = re.compile("did not answer|no SSH banner|login was not complete|the connection was lost")
LOSE_EVERY_THIRD = "INPUT -i eth0 -p tcp -m statistic --mode nth --every 3 --packet 0 -j DROP"
WRITES_DOWN_WHAT_IT_IS_TOLD = """#!/usr/bin/python3
import http.server, json, os, sys

class Server(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        with open("/root/headers", "a") as file:
            file.write(self.path + "\\n" + str(self.headers))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.answer(200, {"data": [{"id": "q"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(400 if "chat" in self.path else 200, {"error": {"message": "no"}})

with open("/root/headers", "w") as file:
    file.write(repr(dict(os.environ)) + "\\n")
http.server.ThreadingHTTPServer(("", int(sys.argv[sys.argv.index("--port") + 1])), Server).serve_forever()
"""


def seconds(action: "subprocess.Popen[str]", *, timeout: float) -> tuple[Result, float]:
    begun = time.monotonic()
    return ended(action, timeout=timeout), time.monotonic() - begun


def test_setup_of_a_machine_that_refuses_registers_nothing(pi: Pi, prepare: Prepare) -> None:
    """Fault 1, at the first contact."""
    pod = prepare(registered=False)
    pod.stop_sshd()
    result = pi("pods", "setup", "dc1", pod.ssh, timeout=5)
    assert result.code == 3
    assert f"cannot reach pod `dc1`: `{pod.address}` refused the connection" in result.err
    assert not pods_file().exists()


def test_silence_is_noticed_wherever_it_begins(pi: Pi, prepare: Prepare) -> None:
    """Faults 2, 3 and 5: at the first contact, before the first byte, in the login, in a request, when all was well."""
    pod, unreachable, silent = prepare(), prepare("dc2", registered=False), prepare("dc3", registered=False)
    start(pi)
    bytes_carried = (1, 60, 1500, 3500, 8000)
    with ExitStack() as stack:
        for after in bytes_carried:
            stack.enter_context(way_to(pod, f"after-{after}", silent_after=after))
        followed = stack.enter_context(way_to(pod, "followed"))
        before = pods_file().read_bytes()
        watching = stack.enter_context(begin("logs", "q", "--pod", "followed", "-n", "1"))
        stack.callback(watching.kill)  # it would go on trying for ten minutes
        assert watching.stdout
        assert watching.stderr
        watching.stdout.readline()
        unreachable.check(f"ip route replace blackhole {unreachable.host}/32")
        silent.check("kill -STOP $(cat /run/sshd.pid)")
        followed.fall_silent()
        begun = time.monotonic()
        setups = [begin("pods", "setup", each.name, each.ssh) for each in (unreachable, silent)]
        listings = [begin("list", "--pod", f"after-{after}") for after in bytes_carried]
        for process in (*setups, *listings):
            result = ended(process, timeout=45)
            assert result.code == 3, result.err
            assert "cannot reach pod" in result.err
            assert SILENCE.search(result.err), result.err
            assert time.monotonic() - begun < (20 if process in setups else 36)
        assert "the connection to `followed` was lost" in watching.stderr.readline()
        assert time.monotonic() - begun < 36
        assert pods_file().read_bytes() == before
    assert [each["status"] for each in pi("list", "--json").json] == ["ready"]


def test_a_link_reset_after_any_number_of_bytes_loses_nothing(pi: Pi, pod: OpensshPod) -> None:
    """Fault 4: in the login, in the request, in the download, while loading."""
    with ExitStack() as stack:
        for after in (1, 3000, 9000, 16000):
            stack.enter_context(way_to(pod, f"list-{after}", reset_after=after))
        for after in (1, 3000, 9000, 17000, 20000, 23000, 26000):
            stack.enter_context(way_to(pod, f"start-{after}", reset_after=after))
        before = pods_json()
        ways = [name for name in before["pods"] if "-" in name]
        commands = [
            begin("list", "--pod", way)
            if way.startswith("list")
            else begin("start", MODEL, "--name", way, "--pod", way, *QUICK)
            for way in ways
        ]
        ends = {way: ended(process, timeout=45) for way, process in zip(ways, commands, strict=True)}
        assert {end.code for end in ends.values()} <= {0, 3}, ends
        for way, end in ends.items():
            if end.code == 3:
                assert f"cannot reach pod `{way}`" in end.err
                assert pods_json()["pods"][way]["ssh"] == before["pods"][way]["ssh"]
            else:
                assert int(way.partition("-")[2]) > 9000
        assert {ends["list-1"].code, ends["start-1"].code, ends["start-17000"].code} == {3}
    until(lambda: all(each["status"] == "ready" for each in pi("list", "--json").json))
    assert pi("stop", "--all").code == 0
    assert living(pod) == []
    assert records(pod) == []


def test_far_away_and_on_a_narrow_line_it_takes_seconds_only(pod: OpensshPod) -> None:
    """Fault 16: a round trip takes 400 ms and the line carries 128 kbit/s. What this machine itself takes is not
    counted, and the best of three rounds is taken, since it may be busy."""
    with way_to(pod, "near"), way_to(pod, "far", delay=0.2, rate=16_000):
        added: dict[str, list[float]] = {"start": [], "list": []}
        for _ in range(3):
            took = {}
            for way in ("near", "far"):
                for words in (["start", MODEL, "--name", way, "--pod", way, *QUICK], ["list", "--pod", way]):
                    result, took[way, words[0]] = seconds(begin(*words), timeout=60)
                    assert result.code == 0, result.err
                    assert words[0] != "list" or "ready" in result.out
                assert ended(begin("stop", way, "--pod", way)).code == 0
            for command, times in added.items():
                times.append(took["far", command] - took["near", command])
    assert min(added["list"]) < 5, added
    assert min(added["start"]) < 10, added


def test_a_list_waits_for_ten_answers_at_most_on_a_narrow_line(pod: OpensshPod) -> None:
    """Over a line of 256 kbit/s, connection included; counted by what half a second more for each costs.

    What pi and sshd say to each other is counted. A relay opens connections and acknowledges for the far end, so that
    what TCP waits for is not: `test_round_trips.py` counts it too, on a wire.
    """
    trip = 0.5
    narrow = {"rate": 32_000}
    with way_to(pod, "near", delay=0.005, **narrow), way_to(pod, "far", delay=0.005 + trip / 2, **narrow):
        assert ended(begin("start", MODEL, "--name", "q", "--pod", "far", *QUICK)).code == 0
        took: dict[str, list[float]] = {"near": [], "far": []}
        for way in ("near", "far") * 4:
            result, span = seconds(begin("list", "--pod", way), timeout=60)
            assert result.code == 0, result.err
            took[way].append(span)
    assert (min(took["far"]) - min(took["near"])) / trip <= 10, took


@contextmanager
def losing_every_third_packet(pod: OpensshPod) -> Iterator[None]:
    """Drop packets on their way into the pod."""
    enter = ["nsenter", f"--net={pod.root.parent}/ns/net", "iptables", "-w"]
    added = subprocess.run([*enter, "-A", *LOSE_EVERY_THIRD.split()], capture_output=True, text=True)
    if added.returncode:
        pytest.skip(f"this kernel cannot lose packets on purpose: {added.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([*enter, "-D", *LOSE_EVERY_THIRD.split()], check=True)


def test_a_third_of_all_packets_lost_makes_it_slower_and_not_wrong(pi: Pi, pod: OpensshPod) -> None:
    """Fault 17."""
    with losing_every_third_packet(pod):
        pid = start(pi)
        [listed] = pi("list", "--json").json
        assert (listed["status"], listed["pid"]) == ("ready", pid)
        assert (
            pi("logs", "q", "-n", "all", "--all-lines", "--no-follow").out
            == (pod.home / ".vllm_logs/q.log").read_text()
        )
        assert pi("stop", "q").out == "stopped `q` on `dc1`\n"
    assert living(pod) == []


def test_pods_are_reached_without_the_users_proxies_and_openai_account(pi: Pi, pod: OpensshPod) -> None:
    """Fault 18, security check 32."""
    pod.install("vllm", WRITES_DOWN_WHAT_IT_IS_TOLD)
    account = {"OPENAI_API_KEY": "sk-of-the-user", "OPENAI_ORG_ID": "org-of-the-user", "OPENAI_PROJECT_ID": "project-x"}
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), url)
        environment = {**account, **proxies, "OPENAI_BASE_URL": f"{url}/v1", "NO_PROXY": ""}
        for words in (["start", MODEL, "--name", "q"], ["list"], ["stop", "q"]):
            result = pi(*words, **environment)
            assert result.code == 0, result.err
            if words[0] == "list":
                asked = pi("prompt", "q", "Hello", **environment)
                assert asked.code == 1
        proxy.settimeout(0)
        with suppress(BlockingIOError):
            pytest.fail(f"the proxy was asked by {proxy.accept()}")
    headers = (pod.home / "headers").read_text()
    assert KEY in headers
    assert "/v1/chat/completions" in headers
    for secret in (*account.values(), url, "openai-organization", "openai-project"):
        assert secret.lower() not in headers.lower()
