"""The list of pods on wide and narrow terminals."""

import json
import os
from pathlib import Path

import pytest

from pi_cli.store.records import Gpu
from pi_cli.units import short_name
from tests.view.screen import on_a_terminal

H100 = {"name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
PODS = {
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
FOLDED = """\
   POD  GPUS          MODELS          STORAGE            VLLM        SSH
*  dc1  8x H100 80GB  qwen72b, coder  /workspace         0.32.0      ssh -p 40022 -i
                                                                     ~/.ssh/runpod
                                                                     root@1.2.3.4
   lab  CPU           -               /mnt/models 4.0TB  0.32.0+cpu  ssh ubuntu@lab
   new  1x L4 24GB    -               -                  -           ssh root@9.9.9.9
"""
NARROW = """\
* dc1
  GPUS     8x H100 80GB
  MODELS   qwen72b, coder
  STORAGE  /workspace
  VLLM     0.32.0
  SSH      ssh -p 40022 -i ~/.ssh/runpod
           root@1.2.3.4
  lab
  GPUS     CPU
  STORAGE  /mnt/models 4.0TB
  VLLM     0.32.0+cpu
  SSH      ssh ubuntu@lab
  new
  GPUS     1x L4 24GB
  SSH      ssh root@9.9.9.9
"""


@pytest.mark.parametrize(
    ("columns", "screen"),
    [(160, WIDE), (91, FOLDED), (80, NARROW.replace("runpod\n           ", "runpod ")), (40, NARROW)],
)
def test_the_list_of_pods_fits_terminals_of_all_widths(columns: int, screen: str) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.parent.mkdir()
    path.write_text(json.dumps({"pods": PODS, "active": "dc1"}))
    assert on_a_terminal(columns, "pods") == screen


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
