"""The list of pods on wide and narrow terminals."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pi_cli.store.records import Gpu
from pi_cli.units import short_name
from tests.conftest import Pi
from tests.view.screen import on_a_terminal

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
PODS: dict[str, dict[str, object]] = {
    "dc1": {
        "ssh": "ssh -p 40022 -i ~/.ssh/runpod root@1.2.3.4",
        "gpus": [{"id": id} | H100 for id in range(8)],
        "models": {
            "qwen72b": {"model": "m", "port": 8001, "gpu": "0,1", "pid": 7},
            "coder": {"model": "m", "port": 8002, "gpu": "2", "pid": 8},
        },
        "vllm": "0.32.0",
        "storage": {"path": "/workspace"},
    },
    "lab": {"ssh": "ssh ubuntu@lab", "vllm": "0.32.0+cpu", "storage": {"path": "/mnt/models", "size": "4.0TB"}},
    "new": {"ssh": "ssh root@9.9.9.9", "gpus": [{"id": 0, "name": "NVIDIA L4", "memory": "24GB"}]},
}

WIDE = """\
   POD  GPUS          MODELS          STORAGE            VLLM        SSH
*  dc1  8x H100 80GB  qwen72b, coder  /workspace         0.32.0      ssh -p 40022 -i ~/.ssh/runpod root@1.2.3.4
   lab  CPU           -               /mnt/models 4.0TB  0.32.0+cpu  ssh ubuntu@lab
   new  1x L4 24GB    -               -                  -           ssh root@9.9.9.9
"""
AT_91 = """\
   POD  GPUS          MODELS          STORAGE            VLLM        SSH
*  dc1  8x H100 80GB  qwen72b, coder  /workspace         0.32.0      root@1.2.3.4:40022
   lab  CPU           -               /mnt/models 4.0TB  0.32.0+cpu  ubuntu@lab
   new  1x L4 24GB    -               -                  -           root@9.9.9.9
"""
AT_80 = """\
   POD  GPUS          MODELS          VLLM        SSH
*  dc1  8x H100 80GB  qwen72b, coder  0.32.0      root@1.2.3.4:40022
   lab  CPU           -               0.32.0+cpu  ubuntu@lab
   new  1x L4 24GB    -               -           root@9.9.9.9
"""
AT_40 = """\
   POD  GPUS          SSH
*  dc1  8x H100 80GB  root@1.2.3.4:40022
   lab  CPU           ubuntu@lab
   new  1x L4 24GB    root@9.9.9.9
"""


@pytest.mark.parametrize(
    ("columns", "screen"),
    [(160, WIDE), (91, AT_91), (80, AT_80), (40, AT_40)],
)
def test_the_list_of_pods_fits_terminals_of_all_widths(columns: int, screen: str) -> None:
    remember(PODS)
    assert on_a_terminal(columns, "pods") == screen


def test_on_a_narrow_terminal_nothing_is_left_out_of_the_wide_list() -> None:
    remember(PODS)
    assert on_a_terminal(40, "pods", "--wide") == on_a_terminal(40, "pods", "list", "--wide") == WIDE


def test_thirty_pods_are_thirty_lines() -> None:
    ssh = "ssh -p 22 -o StrictHostKeyChecking=accept-new ubuntu@ec2-54-123-45-67.eu-central-1.compute.amazonaws.com"
    remember({f"prod-eu-frankfurt-{number}": PODS["dc1"] | {"ssh": ssh} for number in range(30)})
    head, *lines = on_a_terminal(80, "pods").splitlines()
    assert head.split() == ["POD", "GPUS", "MODELS", "SSH"]
    assert len(lines) == 30
    assert max(map(len, lines)) <= 80
    assert all("8x H100 80GB" in line and "ubuntu@ec2-" in line for line in lines)


def test_names_of_pods_are_printed_alone_for_scripts(pi: Pi) -> None:
    remember(PODS)
    for words in (["pods", "-q"], ["pods", "list", "--quiet"], ["pods", "-q", "list"]):
        assert pi(*words).out == "dc1\nlab\nnew\n"
    remember({})
    silent = pi("pods", "-q")
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    for other in ("--json", "--check"):
        refused = pi("pods", "-q", other)
        assert refused.code == 2
        assert refused.err.startswith(f"error: `--quiet` and `{other}` exclude each other")


def test_a_piped_list_is_whole_and_has_no_blanks_at_line_ends(pi: Pi) -> None:
    remember(PODS)
    assert pi("pods", COLUMNS="40").out == WIDE


def test_on_an_ascii_terminal_what_is_cut_ends_with_dots() -> None:
    long = {"ssh": "ssh root@" + "x" * 70}
    remember({"dc1": PODS["dc1"] | long})
    assert on_a_terminal(60, "pods").splitlines()[1].endswith("xxx…")
    assert on_a_terminal(60, "pods", LC_ALL="C").splitlines()[1].endswith("xxx...")


def remember(pods: Mapping[str, object]) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pods": pods, "active": "dc1"}))


@pytest.mark.parametrize(
    ("name", "memory", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "80GB", "H100 80GB"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "40GB", "H100 MIG 3g.40gb"),
        ("NVIDIA A100-SXM4-80GB", "80GB", "A100-SXM4 80GB"),
        ("NVIDIA A100 80GB PCIe", "80GB", "A100 PCIe 80GB"),
        ("NVIDIA GH200 480GB", "96GB", "GH200 96GB"),
        ("NVIDIA GH200 144G HBM3e", "144GB", "GH200 144GB"),
        ("NVIDIA H20-3e", "141GB", "H20-3e 141GB"),
        ("NVIDIA RTX 6000 Ada Generation", "48GB", "RTX 6000 Ada 48GB"),
        ("NVIDIA GeForce RTX 4090 D", "24GB", "RTX 4090 D 24GB"),
        ("Tesla T4", "16GB", "T4 16GB"),
        ("NVIDIA GB10", "unknown", "GB10"),
        ("H100", "80GB", "H100 80GB"),
    ],
)
def test_gpus_have_short_names(name: str, memory: str, short: str) -> None:
    assert short_name(Gpu(0, name, memory)) == short
