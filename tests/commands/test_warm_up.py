"""vLLM compiles while the model is downloaded, on embedded pods with a simulated one: what ends it, what is left."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.test_downloads import configure, hub, pace
from tests.conftest import Pi, pods_json
from tests.openssh.at_work import pi_at
from tests.until import until

MODEL = "Qwen/Qwen3-8B"
START = ("start", MODEL, "--name", "q")
HELD = "until [ -e ~/go ]; do sleep 0.1; done"
OUT_OF_MEMORY = (
    "(APIServer pid=1) INFO 11-30 12:00:00 [utils.py:233] non-default args: {'load_format': 'dummy', 'tokenizer': 1}\n"
    "(EngineCore pid=2) ERROR 11-30 12:00:09 [core.py:1510] EngineCore failed to start.\n"
    "(EngineCore pid=2) ERROR 11-30 12:00:09 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. Tried to "
    "allocate 2.00 GiB. GPU 0 has a total capacity of 79.65 GiB of which 1.25 GiB is free.\n"
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.\n"
)


@pytest.fixture
def slow(pod: EmbeddedPod) -> EmbeddedPod:
    """A pod with a download that takes a minute, which is worth it after half a second."""
    configure(pod, PI_WARM_UP_SECONDS="0.5")
    pace(pod, 60)
    return pod


def with_dummies(pod: EmbeddedPod, script: str) -> None:
    """Let vLLM run a line of a script if it gets made-up weights, and note the words of each launch."""
    real = pod.install("hf.same", "").with_name("vllm")
    pod.install("vllm.real", real.read_text())
    pod.install(
        "vllm",
        '#!/bin/sh\n[ "$1" = serve ] || exec vllm.real "$@"\necho "$(nice) $*" >> ~/launched\n'
        f'case "$*" in *dummy*) {script};; esac\nexec vllm.real "$@"\n',
    )


def launched(pod: EmbeddedPod) -> list[str]:
    path = pod.home / "launched"
    return path.read_text().splitlines() if path.exists() else []


def status(pi: Pi) -> str:
    [listed] = pi("list", "--json").json or [{}]
    return str(listed.get("phase"))


def wait_until_it_compiles(pi: Pi, starting: "subprocess.Popen[str]") -> None:
    try:
        until(lambda: status(pi) == "downloading, compiling")
    except TimeoutError:
        starting.kill()
        raise AssertionError(starting.communicate()[1]) from None


def test_it_compiles_during_the_download_and_the_times_say_so(pi: Pi, slow: EmbeddedPod) -> None:
    with_dummies(slow, HELD)
    with pi_at("downloading", *START, "--json") as starting:
        wait_until_it_compiles(pi, starting)
        [row] = [line for line in pi("list").out.splitlines() if "downloading" in line]
        assert "GB, compiling" in row
        (slow.home / "go").touch()
        until(lambda: status(pi) == "downloading", "it answered, and was ended")
        pace(slow, 0.1)
        assert starting.wait(60) == 0
        assert starting.stdout
        [started] = json.loads(starting.stdout.read())
    first, second = launched(slow)
    assert first.startswith("10 serve")
    assert "--host 127.0.0.1" in first
    assert second.startswith("0 serve")
    assert first.replace(" --load-format dummy", "").split()[9:] == second.split()[9:]
    assert started["ready"]
    assert 0 < started["compiling"] <= started["downloading"]
    assert not (slow.home / ".vllm_logs/q.warm-up.log").exists()


def test_what_is_compiled_already_is_not_compiled_again(pi: Pi, slow: EmbeddedPod) -> None:
    with_dummies(slow, ":")
    pace(slow, 0.1)
    assert pi(*START).code == 0
    pi("stop", "q")
    (slow.home / "launched").unlink()
    for path in hub(slow).glob("models--*/snapshots/*/*"):
        path.unlink()
    for path in hub(slow).glob("models--*/blobs/*"):
        path.unlink()
    pace(slow, 5)
    again = pi(*START)
    assert again.code == 0, again.err
    assert "downloading" in again.err
    assert ["dummy" in line for line in launched(slow)] == [False]


def test_a_download_that_ends_first_ends_it(pi: Pi, slow: EmbeddedPod) -> None:
    with_dummies(slow, "exec sleep 300")
    with pi_at("downloading", *START) as starting:
        wait_until_it_compiles(pi, starting)
        pace(slow, 0.1)
        _, said = starting.communicate(timeout=60)
    assert starting.returncode == 0, said
    assert "downloading (compiling " in said
    assert len(slow.processes()) == 2, "the server and its engine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_the_death_of_pi_leave_nothing(pi: Pi, slow: EmbeddedPod, number: signal.Signals) -> None:
    with_dummies(slow, HELD)
    with pi_at("downloading", *START) as starting:
        wait_until_it_compiles(pi, starting)
        starting.send_signal(number)
        assert starting.wait(60) == (130 if number == signal.SIGINT else -9)
    until(lambda: not slow.processes())
    until(lambda: pi("list", "--json").json == [])
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_stop_ends_it_with_the_download(pi: Pi, slow: EmbeddedPod) -> None:
    with_dummies(slow, HELD)
    with pi_at("downloading", *START) as starting:
        wait_until_it_compiles(pi, starting)
        assert pi("stop", "q").code == 0
        until(lambda: not slow.processes())
        assert starting.wait(60) == 1
        assert "another client stopped `q`" in starting.communicate()[1]


def test_its_failure_is_that_of_the_start_and_stops_the_download(pi: Pi, slow: EmbeddedPod) -> None:
    (slow.home / "said").write_text(OUT_OF_MEMORY)
    with_dummies(slow, "cat ~/said; exit 1")
    failed = pi(*START)
    assert failed.code == 4
    assert f"`{MODEL}` did not start on `dc1`" in failed.err
    assert "the GPU memory" in failed.err
    assert "CUDA out of memory" in (slow.home / ".vllm_logs/q.log").read_text()
    assert len(launched(slow)) == 1
    assert slow.processes() == []
    assert pi("list", "--json").json == []
    assert list(hub(slow).glob("models--*/snapshots/*/tokenizer.json")), "what was complete is kept"
    assert not list(hub(slow).glob("models--*/blobs/*.incomplete"))


@pytest.mark.parametrize(
    "script",
    [
        "echo 'OSError: [Errno 98] Address already in use'; exit 1",
        "echo 'OSError: Qwen/Qwen3-8B does not appear to have a file named merges.txt'; exit 1",
        "kill -9 $$",
    ],
    ids=["port", "file", "killed"],
)
@pytest.mark.usefixtures("pi")
def test_what_would_not_end_the_start_does_not(slow: EmbeddedPod, script: str) -> None:
    with_dummies(slow, script)
    with pi_at("vLLM could not compile during the download", *START) as starting:
        pace(slow, 0.1)
        assert starting.wait(60) == 0
    assert len(launched(slow)) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--no-warm-up",), ""),
        (("--vllm", "--enable-lora"), "with `--enable-lora`, the weights have to be there"),
    ],
)
def test_where_it_is_not_wanted_or_not_possible(pi: Pi, slow: EmbeddedPod, words: tuple[str, ...], reason: str) -> None:
    with_dummies(slow, ":")
    pace(slow, 4)
    started = pi(*START, *words)
    assert started.code == 0, started.err
    assert ("vLLM does not compile during the download" in started.err) == bool(reason)
    assert reason in started.err
    assert ["dummy" in line for line in launched(slow)] == [False]


def test_gpus_that_other_models_use_are_left_alone(pi: Pi, slow: EmbeddedPod) -> None:
    pace(slow, 0.1)
    assert pi("start", "Qwen/Qwen3-4B", "--name", "a", "--memory", "40%", "--gpus", "1").code == 0
    assert pi("start", "Qwen/Qwen3-4B", "--name", "b", "--memory", "90%", "--gpus", "1").code == 0
    pace(slow, 4)
    shared = pi(*START, "--memory", "40%", "--gpus", "1")
    assert shared.code == 0, shared.err
    assert "vLLM does not compile during the download: its GPUs are in use already" in shared.err


def test_dry_run_says_it(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod
    assert "--load-format dummy for a start during the download" in pi(*START, "--dry-run").out
    assert "--load-format dummy" not in pi(*START, "--dry-run", "--no-warm-up").out


def test_a_killed_agent_leaves_no_process(pi: Pi, slow: EmbeddedPod) -> None:
    (slow.home / ".demo/vllm.json").write_text('{"seconds": 60}')
    with pi_at("downloading", *START) as starting:
        wait_until_it_compiles(pi, starting)
        [server] = [process.pid for process in slow.processes() if "dummy" in process.command]
        parent = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{server}").exists())
        assert starting.wait(60) != 0
    pi("stop", "q")
    until(lambda: not slow.processes())
