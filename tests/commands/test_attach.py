"""`pi start --attach`, `--timeout`, and how long a start took."""

import os
import re
import signal
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.forkserver import FORKSERVER, Process
from tests.until import until

MODEL = "Qwen/Qwen3-8B"


def detached(pi: Pi, *simulate: str) -> int:
    result = pi("start", MODEL, "--name", "q", "--detach", "--json", "--vllm", "--simulate", *simulate)
    assert result.code == 0, result.err
    return int(result.json[0]["pid"])


def begun(*words: str) -> Process:
    return FORKSERVER.start(words)


def said(process: Process, text: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}")


def test_a_start_left_alone_can_be_watched_again(pi: Pi, pod: EmbeddedPod) -> None:
    pid = detached(pi, "slow=4")
    result = pi("start", "--attach", "q", "--json")
    assert result.code == 0, result.err
    [started] = result.json
    assert (started["pid"], started["ready"], started["answers_from_here"]) == (pid, True, True)
    assert "dc1: loading weights" in result.err
    assert pods_json()["pods"]["dc1"]["models"]["q"]["pid"] == pid
    assert pi("start", "--attach", "q").out.startswith("ready `q` on `dc1`"), "it is ready already"
    assert pod.processes()


def test_ctrl_c_stops_following_and_nothing_else(pi: Pi, pod: EmbeddedPod) -> None:
    pid = detached(pi, "slow=60")
    with begun("start", "--attach", "q") as watching:
        said(watching, "starting vLLM")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    [listed] = pi("list", "--json").json
    assert (listed["pid"], listed["status"]) == (pid, "starting")
    assert pod.processes()


def test_a_download_that_another_pi_started_can_be_followed_too(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".demo" / "hf.json").write_text('{"seconds": 4}')
    with begun("start", MODEL, "--name", "q") as starting:
        said(starting, "downloading")
        result = pi("start", "--attach", "q")
        assert result.out.startswith("ready `q` on `dc1`")
        assert starting.wait(20) == 0
    assert pod.processes()


def test_watching_a_start_that_fails_says_why_and_leaves_nothing(pi: Pi, pod: EmbeddedPod) -> None:
    detached(pi, "fail=oom", "--simulate", "slow=5")
    result = pi("start", "--attach", "q")
    assert result.code == 4
    assert f"`{MODEL}` did not start on `dc1`" in result.err
    assert "CUDA out of memory" in result.err
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert not [process for process in pod.processes() if "serve" in process.command]


def test_what_does_not_run_cannot_be_watched(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "--attach", "nobody")
    assert (result.code, "there is no model `nobody` on `dc1`" in result.err) == (2, True)
    for words in ([MODEL], ["--gpus", "2"], ["--detach"], ["--dry-run"], ["--vllm", "--max-model-len", "1"]):
        assert pi("start", "--attach", "q", *words).code == 2, words
    assert pod.commands


def test_a_start_that_takes_longer_than_wanted_is_given_up_and_leaves_nothing(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 23."""
    result = pi("start", MODEL, "--name", "q", "--timeout", "2s", "--vllm", "--simulate", "slow=60")
    assert result.code == 4
    assert "error: `q` on `dc1` was not ready within the 2 s of `--timeout`" in result.err
    until(lambda: not [process for process in pod.processes() if "serve" in process.command])
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert list((pod.home / ".pi" / "models").iterdir()) == []
    assert pi("start", MODEL, "--name", "q", "--timeout", "soon").code == 2


def test_the_times_of_the_last_start_are_what_is_expected_of_the_next(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 5}')
    first = pi("start", MODEL, "--name", "q", "--json")
    assert first.json[0]["seconds"] > 4
    assert {"starting vLLM", "loading weights"} <= set(first.json[0]["phases"])
    assert sum(first.json[0]["phases"].values()) - first.json[0]["seconds"] < 1
    assert "last time" not in first.err
    assert pi("stop", "q").code == 0
    second = pi("start", MODEL, "--name", "q")
    loading = [line for line in second.err.splitlines() if line.startswith("dc1: loading weights")]
    assert "(last time " in loading[0]
    assert re.search(r"note: `q` took \d+s: .*loading weights \ds", second.err)
    assert Path(os.environ["PI_CONFIG_DIR"], "starts.json").stat().st_mode & 0o077 == 0
    assert pod.processes()
