"""Leases as users see them: on an embedded pod, whose processes are real."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.agent.lease_lab import POD_KEY, RUNPOD, provider_of
from tests.conftest import Pi, pods_json
from tests.until import until

MODEL = "Qwen/Qwen3-8B"
START = ("start", MODEL, "--name", "q")


def leases(pi: Pi) -> list[Any]:
    rows: list[Any] = pi("lease", "--json").json
    return [row["lease"] for row in rows if row["lease"]]


def watcher(pod: EmbeddedPod) -> int:
    """Return the PID of what watches the only model."""
    [path] = (pod.home / ".pi" / "leases").glob("*.state")
    return int(json.loads(path.read_text())["pid"])


def has_ended(pod: EmbeddedPod) -> bool:
    return (pod.home / ".pi" / "leases" / "ended.jsonl").exists() and not list(
        (pod.home / ".pi" / "leases").glob("*.json")
    )


def test_a_model_ends_by_itself_and_the_list_says_so_once(pi: Pi, pod: EmbeddedPod) -> None:
    started = pi(*START, "--lease", "3s")
    assert "ends after 3s without work; the pod stays on and is billed" in started.out
    until(lambda: has_ended(pod))
    assert not [process for process in pod.processes() if "vllm" in str(process)]
    listed = pi("list")
    assert "`q` ended after 3s idle, " in listed.err
    assert listed.err.rstrip().endswith("; the pod is still billed")
    assert listed.out.splitlines()[1].split()[:3] == ["dc1", "q", "ended"]
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert "ended" not in pi("list").out
    assert "`q` ended after 3s idle, " in pi("lease").err
    [row] = pi("lease", "--json").json
    assert (row["lease"], row["lease_end"]["why"], row["lease_end"]["pod"]) == (None, "idle", "billed")


def test_the_list_and_top_show_the_time_left_only_where_a_lease_is(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.home
    pi(*START)
    assert "LEASE" not in pi("list").out
    assert "LEASE" not in pi("top", "--interval", "0.5").out
    given = pi("lease", "q", "2h")
    assert given.out.startswith("`q` on `dc1` ends after 2h without work")
    until(lambda: leases(pi)[0]["phase"] == "idle")
    head, row = pi("list").out.splitlines()[:2]
    assert row[head.index("LEASE") :].startswith("1h59m")
    [model] = pi("list", "--json").json
    assert (model["lease"]["seconds"], model["lease"]["watcher"]) == (7200, "lives")
    assert "1h59m" in pi("top", "--interval", "0.5").out
    assert "2h" in pi("lease", "q").out
    assert pi("lease", "q", "off").out == "`q` on `dc1` has no lease: it runs until you stop it\n"
    assert "LEASE" not in pi("list").out


def test_prompts_and_programs_renew_a_lease_and_lists_do_not(pi: Pi, pod: EmbeddedPod) -> None:
    pi(*START, "--lease", "30s")
    [path] = (pod.home / ".pi" / "leases").glob("*.state")
    until(lambda: state(path)["phase"] == "idle")

    def looked() -> None:
        """Wait until the process on the pod has looked again, after all that has happened so far."""
        for _ in range(2):
            until(partial(is_replaced, path, path.stat().st_ino))

    program = (
        "import json,os,urllib.request as u;"
        "u.urlopen(u.Request(os.environ['OPENAI_BASE_URL']+'/chat/completions',"
        "json.dumps({'model':'q','messages':[{'role':'user','content':'Hello'}]}).encode(),"
        "{'Authorization':'Bearer '+os.environ['OPENAI_API_KEY'],'Content-Type':'application/json'})).read()"
    )
    looked()
    for words, is_work in (
        (("list",), False),
        (("prompt", "q", "What is 2+2?"), True),
        (("top", "--interval", "0.5"), False),
        (("run", "q", "--", sys.executable, "-c", program), True),
    ):
        before = state(path)["since"]
        result = pi(*words)
        assert result.code == 0, result.err
        looked()
        assert (state(path)["since"] > before) == is_work, words


def is_replaced(path: Path, inode: int) -> bool:
    return path.stat().st_ino != inode


def state(path: Path) -> Any:
    return json.loads(path.read_text())


def test_what_watches_is_started_again_by_the_next_list(pi: Pi, pod: EmbeddedPod) -> None:
    pi(*START, "--lease", "1h")
    before = watcher(pod)
    os.kill(before, signal.SIGKILL)
    listed = pi("list")
    assert "what watches the lease of `q` had died, and was started again" in listed.err
    assert watcher(pod) != before
    assert "had died" not in pi("list").err


def test_a_stop_leaves_nothing_of_a_lease(pi: Pi, pod: EmbeddedPod) -> None:
    pi(*START, "--lease", "1h")
    pi("stop", "q")
    until(lambda: not pod.processes())
    assert list((pod.home / ".pi" / "leases").iterdir()) == []


def test_a_start_that_fails_leaves_nothing_of_a_lease(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 60}')
    assert pi(*START, "--lease", "1h", "--timeout", "3s").code == 4
    until(lambda: not pod.processes())
    assert not list((pod.home / ".pi" / "leases").glob("*"))


def test_a_pod_that_cannot_stop_itself_is_named_before_anything_is_downloaded(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi(*START, "--lease", "1h", "--then", "stop-pod")
    assert result.code == 2
    assert result.err.splitlines()[-2:] == [
        "error: `--then stop-pod` cannot work on `dc1`: its provider gives the machine no key to stop itself",
        "hint: leave it out: the model ends all the same, and the pod is billed until you stop it at its provider",
    ]
    assert not list(pod.home.rglob("*.safetensors"))
    pi(*START)
    assert pi("lease", "q", "1h", "--then", "stop-pod").code == 2
    assert leases(pi) == []
    assert pi("list", "--json").json[0]["status"] == "ready"


def test_the_last_lease_stops_the_pod_and_no_key_is_seen_anywhere(pi: Pi, pod: EmbeddedPod) -> None:
    with provider_of(pod.home.parent / "machine", RUNPOD) as provider:
        started = pi("--debug", *START, "--lease", "2s", "--then", "stop-pod")
        assert "ends after 2s without work; then the pod is stopped" in started.out
        until(lambda: provider.calls)
        until(lambda: has_ended(pod))
        listed = pi("list")
    assert "; the pod was stopped" in listed.err
    shown = started.out + started.err + listed.out + listed.err
    assert POD_KEY not in shown
    assert not [path for path, content in pod.files().items() if POD_KEY.encode() in content]
    assert not [
        path
        for path in Path(os.environ["PI_CONFIG_DIR"]).rglob("*")
        if path.is_file() and POD_KEY.encode() in path.read_bytes()
    ]
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lease", "q", "x"), "`x` is not a duration"),
        (("lease", "q", "0.1s"), "`0.1s` cannot be a lease"),
        (("lease", "q", "--then", "stop-pod"), "`--then` needs a lease"),
        (("lease", "q", "--all"), "takes no name"),
        ((*START, "--then", "stop-pod"), "`--then` needs a lease"),
        ((*START, "--lease", "1h", "--vllm", "--disable-log-stats"), "a lease goes by the counters"),
    ],
    ids=["no-time", "too-short", "then-alone", "all-and-a-name", "start-then-alone", "no-counters"],
)
def test_what_cannot_be_meant_is_refused_before_a_pod_is_asked(
    pi: Pi, pod: EmbeddedPod, words: tuple[str, ...], message: str
) -> None:
    result = pi(*words)
    assert result.code == 2
    assert message in result.err
    assert pod.commands == []


def test_a_model_that_does_not_run_has_no_lease(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.home
    for words in (("lease", "none", "1h"), ("lease", "none", "off")):
        result = pi(*words)
        assert result.code == 2
        assert "`none`" in result.err
    assert "no leases on dc1" in pi("lease", "--all").err
