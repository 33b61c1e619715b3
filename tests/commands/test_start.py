"""`pi start`: placing, downloading, launching, and leaving nothing when it fails."""

import http.server
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import KEY, TOKEN, Pi, pods_json
from tests.forkserver import FORKSERVER, Forked
from tests.until import until


def running(pod: EmbeddedPod) -> list[str]:
    return [" ".join(process.command) for process in pod.processes() if "serve" in process.command]


def until_said(process: "Forked | subprocess.Popen[Any]", text: str) -> None:
    """Read what a process says until a line has this text."""
    assert process.stderr
    assert any(text in line for line in process.stderr), f"it has not said {text}"


def test_a_started_model_is_ready_recorded_and_really_answers(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json")
    assert result.code == 0, result.err
    [started] = result.json
    assert started["ready"] is True
    assert started["url"] == f"http://127.0.0.1:{started['port']}/v1"
    assert started["answers_from_here"] is True
    recorded = pods_json()["pods"]["dc1"]["models"]["q"]
    assert {name: recorded[name] for name in ("model", "port", "gpu", "pid")} == {
        "model": "Qwen/Qwen3-8B",
        "port": started["port"],
        "gpu": "0",
        "pid": started["pid"],
    }
    assert len(running(pod)) >= 1


def test_its_progress_is_printed_in_plain_lines_without_a_terminal(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 3}')
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert "\x1b" not in result.err + result.out
    assert "\r" not in result.err + result.out
    told = result.err.splitlines()
    for phase in ("placed on port", "downloading", "starting vLLM", "loading weights", "requesting a first token"):
        assert any(line.startswith(f"dc1: {phase}") for line in told), phase
    assert result.out.startswith("ready `q` on `dc1`: http://127.0.0.1:")
    assert pod.processes()


def test_own_arguments_arrive_byte_for_byte(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 37."""
    pod.install("vllm", '#!/bin/sh\nfor each; do printf "%s\\0" "$each"; done > ~/argv\nexit 1\n')
    own = [
        "--override-generation-config",
        '{"a": "it\'s $HOME *"}',
        "--tool-server",
        "",
        "--no-enable-log-requests",
        "--root-path",
        "ü \\ `id`",
    ]
    result = pi("start", "m/m", "--name", "q", "--vllm", *own)
    assert result.code == 4
    argv = (pod.home / "argv").read_text(encoding="utf-8").split("\0")[:-1]
    assert argv[-len(own) :] == own
    assert argv[:4] == ["serve", "m/m", "--served-model-name", "q"]


def test_a_model_of_an_embedded_pod_is_not_shown_to_the_network(pi: Pi, pod: EmbeddedPod) -> None:
    """The pod is this machine; on a rented one, vLLM listens on all addresses."""
    [started] = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json").json
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{started['port']:04X}")]
    assert listening == [f"0100007F:{started['port']:04X}"]
    assert pod.processes()


def test_two_models_take_different_ports_and_gpus(pi: Pi, pod: EmbeddedPod) -> None:
    first = pi("start", "Qwen/Qwen3-8B", "--name", "a", "--json").json[0]
    second = pi("start", "Qwen/Qwen3-8B", "--name", "b", "--json").json[0]
    assert (first["gpu"], second["gpu"]) == ("0", "1")
    assert first["port"] != second["port"]
    assert pod.processes()


def test_two_pods_at_once_each_get_the_model(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    pods = [embed("dc1"), embed("dc2")]
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1", "--pod", "dc2", "--json")
    assert result.code == 0, result.err
    assert sorted(each["pod"] for each in result.json) == ["dc1", "dc2"]
    assert all(running(each) for each in pods)


def test_on_another_pod_than_the_active_one_a_model_is_called_with_its_pod(
    pi: Pi, embed: Callable[..., EmbeddedPod]
) -> None:
    pods = [embed("dc1"), embed("dc2")]
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1", "--pod", "dc2")
    hints = [line for line in result.out.splitlines() if line.startswith("try it")]
    assert sorted(hints) == [
        'try it with `pi prompt dc2/q "What is 2+2?"`',
        'try it with `pi prompt q "What is 2+2?"`',
    ]
    assert pi("prompt", "dc2/q", "What is 2+2?").out == "4\n"
    assert all(running(each) for each in pods)


def test_one_dead_pod_does_not_stop_the_other(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1")
    embed("dc2").close()
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1", "--pod", "dc2", "--json")
    assert result.code == 3
    assert [each["pod"] for each in result.json] == ["dc1"]
    assert "error: cannot reach pod `dc2`" in result.err


def test_a_model_on_a_cpu_pod_has_no_gpu(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    pod = embed("dc1", "none")
    state = pods_json()
    state["pods"]["dc1"] |= {"gpus": [], "vllm": "0.32.0+cpu"}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    pod.install("vllm", '#!/bin/sh\necho "[$CUDA_VISIBLE_DEVICES]" > ~/seen\nexec sleep 300\n')
    result = pi("start", "someone/model", "--name", "q", "--detach")
    assert result.code == 0, result.err
    assert "dc1: on the CPU, the longest context that fits" in result.err
    assert pods_json()["pods"]["dc1"]["models"]["q"]["gpu"] == ""
    until(lambda: (pod.home / "seen").exists() and (pod.home / "seen").read_text() == "[]\n")
    refused = pi("start", "Qwen/Qwen2.5-72B-Instruct", "--name", "r")
    assert (refused.code, "is a CPU pod" in refused.err) == (2, True)


def test_a_model_on_a_slice_is_given_it_by_its_uuid(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 81."""
    state = pods_json()
    state["pods"]["dc1"]["gpus"] = [
        {"id": id, "name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "memory": "40GB", "uuid": f"MIG-{id}"} for id in (0, 1)
    ]
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    pod.install("vllm", "#!/bin/sh\necho $CUDA_VISIBLE_DEVICES >> ~/seen\nexec sleep 300\n")
    for name in ("q", "r"):
        assert pi("start", "someone/model", "--name", name, "--detach").code == 0
    until(lambda: (pod.home / "seen").exists() and (pod.home / "seen").read_text() == "MIG-0\nMIG-1\n")


def test_the_same_name_twice_is_refused_and_the_first_lives_on(pi: Pi, pod: EmbeddedPod) -> None:
    first = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json").json[0]
    assert len(pod.commands) == 1, "the process that inspects the pod starts the model too"
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert result.code == 1
    assert len(pod.commands) == 2, "nothing was begun, so that nothing is rolled back"
    assert "error: `q` already runs here" in result.err
    assert pods_json()["pods"]["dc1"]["models"]["q"]["pid"] == first["pid"]
    assert running(pod)


def test_a_stranger_on_our_port_is_left_alone(pi: Pi, pod: EmbeddedPod) -> None:
    """Faults 29 and 30."""
    first = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json").json[0]["port"]
    assert pi("stop", "q").code == 0
    with http.server.ThreadingHTTPServer(("0.0.0.0", first), http.server.SimpleHTTPRequestHandler):
        started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json").json[0]
    assert started["port"] > first
    assert pod.processes()


def test_detached_start_returns_at_once_and_the_model_keeps_loading(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--detach", "--json", "--vllm", "--simulate", "slow=60")
    assert result.json[0]["ready"] is False
    [listed] = pi("list", "--json").json
    assert listed["status"] == "starting"
    assert running(pod)


@pytest.mark.parametrize("moment", ["downloading", "loading weights"])
def test_ctrl_c_stops_the_start(pod: EmbeddedPod, moment: str) -> None:
    """Fault 24, and DESIGN 5.7."""
    (pod.home / ".demo").mkdir(exist_ok=True)
    (pod.home / ".demo" / "hf.json").write_text(json.dumps({"seconds": 60 if moment == "downloading" else 0.1}))
    words = ["start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate", "slow=8"]
    with FORKSERVER.start(words, stdout=subprocess.DEVNULL) as starting:
        until_said(starting, moment)
        starting.send_signal(signal.SIGINT)
        assert starting.wait(timeout=20) == 130
        assert starting.stderr
        after = starting.stderr.read()
        assert "Traceback" not in after
        assert after.rstrip().endswith("`q` is stopped")
    until(lambda: not running(pod) and not [each for each in pod.processes() if "download" in each.command])
    assert "q" not in pods_json()["pods"]["dc1"]["models"]
    assert list((pod.home / ".pi" / "models").iterdir()) == []


def test_a_second_ctrl_c_says_what_may_still_run(pod: EmbeddedPod) -> None:
    words = ["start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate", "slow=20"]
    with FORKSERVER.start(words, stdout=subprocess.DEVNULL) as starting:
        until_said(starting, "starting vLLM")
        for process in (each for each in pod.processes() if "serve" in each.command):
            os.kill(process.pid, signal.SIGSTOP)  # stopping it takes long enough for a second signal
        starting.send_signal(signal.SIGINT)
        until_said(starting, "cleaning up")
        starting.send_signal(signal.SIGINT)
        assert starting.stderr
        after = starting.stderr.read()
        assert starting.wait(timeout=20) == 130
    assert "the pod has not confirmed that `q` is stopped" in after
    assert "`pi stop q --pod dc1`" in after
    assert "Traceback" not in after


def test_kill_9_of_pi_leaves_nothing_that_the_next_list_does_not_show(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 27, at one moment."""
    words = ["start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate", "slow=4"]
    with FORKSERVER.start(words, stdout=subprocess.DEVNULL) as starting:
        until_said(starting, "starting vLLM")
        starting.kill()
    assert pods_json()["pods"]["dc1"]["models"] == {}
    [listed] = pi("list", "--json").json
    assert listed["name"] == "q"
    assert pods_json()["pods"]["dc1"]["models"]["q"]["pid"] == listed["pid"]
    assert pi("stop", "q").code == 0
    assert running(pod) == []


def test_secrets_are_in_no_command_no_log_and_no_file(pi: Pi, pod: EmbeddedPod) -> None:
    """Security checks 1, 2, 3, 5, 6 and 7."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    everything = [*pod.commands, *(" ".join(process.command) for process in pod.processes())]
    everything += [content.decode("utf-8", "replace") for content in pod.files().values()]
    everything += [path.read_text() for path in Path(os.environ["PI_CONFIG_DIR"]).iterdir()]
    for secret in (KEY, TOKEN):
        assert not [text for text in everything if secret in text]
    served = [process for process in pod.processes() if "serve" in process.command]
    assert all(TOKEN not in process.environ.values() for process in served)
    assert any(process.environ.get("VLLM_API_KEY") == KEY for process in served)


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["m", "--name", "q"], {"PI_API_KEY": ""}, "PI_API_KEY is not set"),
        (["m", "--name", "q"], {"PI_API_KEY": "short"}, "fewer than 8"),
        (["m", "--name", "q"], {"PI_API_KEY": "with\nnewline"}, "an HTTP header cannot carry"),
        (["m", "--name", "../x"], {}, "cannot be the name of a model"),
        (["m", "--name", "q", "stray"], {}, "unexpected argument `stray`"),
        (["--name", "q", "--vllm", "--max-model-len", "1"], {}, "no model is given"),
        (["m", "--name", "q", "--pod", "dc9"], {}, "there is no pod `dc9`"),
        (["m/m", "--name", "q", "--vllm", "--port", "1"], {}, "`--port` cannot be given"),
        (["m/m", "--name", "q", "--vllm", "-tp", "8"], {}, "needs 8 GPUs, but `dc1` has 2"),
        (["m/m", "--name", "q", "--pod", "bare"], {}, "pod `bare` has no GPUs"),
    ],
)
def test_bad_usage_is_reported_before_any_connection(
    pi: Pi, pod: EmbeddedPod, words: list[str], environ: dict[str, str], said: str
) -> None:
    """Faults 76 and 81."""
    state = pods_json()
    state["pods"]["bare"] = {"ssh": "ssh root@9.9.9.9"}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    result = pi("start", *words, **environ)
    assert result.code == 2
    assert said in result.err
    assert re.search(r"^hint: ", result.err, re.MULTILINE)
    assert pod.commands == []


def test_a_model_that_needs_a_newer_vllm_says_how_to_get_it(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".pi/venvs/0.9.2").mkdir(parents=True)
    (pod.home / "venv").symlink_to(pod.home / ".pi/venvs/0.9.2")
    result = pi("start", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "--name", "q")
    assert result.code == 1
    assert "pod `dc1`: the model needs vLLM 0.10.0 or newer, but the pod has 0.9.2" in result.err
    assert "`pi pods setup dc1 --vllm 0.10.0`" in result.err
