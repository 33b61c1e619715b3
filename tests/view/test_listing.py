"""The list of models, on wide and narrow terminals, while pods answer and are watched."""

import re
import textwrap
from collections.abc import Callable

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.until import until
from tests.view.screen import drawn, running

PROGRAM = """\
from pi_cli.models.model_status import Listed
from pi_cli.store.records import Model
from pi_cli.view import listing

qwen = Model("Qwen/Qwen2.5-72B-Instruct", port=8001, gpu="0,1", pid=4711)
glm = Model("zai-org/GLM-4.5-Air", port=8002, gpu="2", pid=0)
listing.show([
    Listed("dc1", "qwen", qwen, "ready", "http://1.2.3.4:8001/v1", age=7500, answers_here=True, requests=(256, 12),
           memory=(146000, 163118)),
    Listed("dc1", "glm", glm, "starting", age=100, phase="downloading",
           progress=(12_300_000_000, 140_000_000_000)),
    Listed("dc2", "old", qwen, "dead", cause="the pod was rebooted", log="/root/q.log"),
    Listed("dc2", "shut", qwen, "ready", age=60, answers_here=False),
    Listed("dc2", "own", qwen, "ready", age=60),
    Listed("dc2", "lost", qwen, "orphaned", age=60, memory=(73400, 163118)),
    Listed("dc2", "seen", qwen, "ready", "http://1.2.3.4:8003/v1", age=60, answers_here=True, asked_ago=7500.0),
])
"""

WIDE = """\
POD  NAME  STATUS                                             MODEL                      GPU  GPU MEM      PORT  PID   UP    REQUESTS         URL
dc1  qwen  ready                                              Qwen/Qwen2.5-72B-Instruct  0,1  143/159 GiB  8001  4711  2h5m  256 +12 waiting  http://1.2.3.4:8001/v1
dc1  glm   starting (downloading 12.3 GB of 140.0 GB, 1m40s)  zai-org/GLM-4.5-Air        2    -            8002  -     -     -                -
dc2  old   dead (the pod was rebooted)                        Qwen/Qwen2.5-72B-Instruct  0,1  -            8001  4711  -     -                -
dc2  shut  ready                                              Qwen/Qwen2.5-72B-Instruct  0,1  -            8001  4711  1m0s  -                pi forward shut
dc2  own   ready                                              Qwen/Qwen2.5-72B-Instruct  0,1  -            8001  4711  1m0s  -                pi forward own
dc2  lost  orphaned                                           Qwen/Qwen2.5-72B-Instruct  0,1  72/159 GiB   8001  4711  1m0s  -                -
dc2  seen  ready                                              Qwen/Qwen2.5-72B-Instruct  0,1  -            8001  4711  1m0s  -                http://1.2.3.4:8003/v1 (checked 2h ago)
note: `lost` has lost its server or its record, but still uses 72 GiB of GPU memory; stop it with `pi stop lost --pod dc2`"""  # noqa: E501 - a screen

AT_80 = """\
POD  NAME  STATUS    MODEL                 GPU  UP    URL
dc1  qwen  ready     Qwen2.5-72B-Instruct  0,1  2h5m  http://1.2.3.4:8001/v1
dc1  glm   starting  GLM-4.5-Air           2    -     -
  downloading 12.3 GB of 140.0 GB, 1m40s
dc2  old   dead      Qwen2.5-72B-Instruct  0,1  -     -
  the pod was rebooted
dc2  shut  ready     Qwen2.5-72B-Instruct  0,1  1m0s  pi forward shut
dc2  own   ready     Qwen2.5-72B-Instruct  0,1  1m0s  pi forward own
dc2  lost  orphaned  Qwen2.5-72B-Instruct  0,1  1m0s  -
dc2  seen  ready     Qwen2.5-72B-Instruct  0,1  1m0s  http://1.2.3.4:8003/v1
"""
AT_40 = """\
POD  NAME  STATUS    MODEL           GPU
dc1  qwen  ready     Qwen2.5-72B-I…  0,1
dc1  glm   starting  GLM-4.5-Air     2
  downloading 12.3 GB of 140.0 GB, 1m40s
dc2  old   dead      Qwen2.5-72B-I…  0,1
  the pod was rebooted
dc2  shut  ready     Qwen2.5-72B-I…  0,1
dc2  own   ready     Qwen2.5-72B-I…  0,1
dc2  lost  orphaned  Qwen2.5-72B-I…  0,1
dc2  seen  ready     Qwen2.5-72B-I…  0,1
note: this terminal is too narrow for th
e URLs; see them with `pi list --wide`
"""


def screen(width: int) -> str:
    program = f"import sys; sys.stdout = sys.stderr\n{PROGRAM}"
    return "\n".join(drawn(program, width=width).rows)


def test_models_are_a_table_on_a_wide_terminal() -> None:
    assert re.sub("\x1b[^m]*m", "", screen(200)) == WIDE


@pytest.mark.parametrize(("width", "start"), [(80, AT_80), (40, AT_40)])
def test_on_a_narrow_terminal_each_model_has_one_line_and_below_it_what_it_waits_for(width: int, start: str) -> None:
    assert screen(width).startswith(start)


def test_on_a_terminal_of_100_columns_port_and_pid_are_left_out() -> None:
    head = screen(100).split("\n")[0].split()
    assert head == ["POD", "NAME", "STATUS", "MODEL", "GPU", "GPU", "MEM", "UP", "REQUESTS", "URL"]


LIST = "import sys; sys.argv[1:] = {words!r}; sys.stdout = sys.stderr; from pi_cli.commands.main import main; main()"


def program(*words: str) -> str:
    return textwrap.dedent(LIST.format(words=list(words)))


def test_a_silent_pod_does_not_delay_the_others(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    pods = [embed("dc1"), embed("dc2")]
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    pods[1].install("python3", "#!/bin/sh\nexec sleep 600\n")
    with running(program("list", "--all"), width=200) as (screen, listing):
        until(lambda: any(re.match(r"dc1 +q +ready", row) for row in screen.rows))
        assert re.fullmatch(r"asking dc2 \(\d+s\)", screen.rows[-1])
        assert listing.poll() is None


def test_a_watched_list_is_redrawn_in_place(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    with running(program("list", "--watch"), width=200) as (screen, listing):
        until(lambda: any(re.match(r"dc1 +q +ready", row) for row in screen.rows))
        assert pi("stop", "q").code == 0
        until(lambda: screen.rows[-1] == "no models on dc1")
        assert not any(re.match(r"dc1 +q +ready", row) for row in screen.rows)
        assert listing.poll() is None
    assert pod.commands


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours_the_list_is_complete(pi: Pi, pod: EmbeddedPod, environ: dict[str, str]) -> None:
    """Fault 74."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    result = pi("list", **environ)
    assert "\x1b" not in result.out + result.err
    assert re.search(r"^dc1 +q +ready ", result.out, re.MULTILINE)
    assert pod.processes()
