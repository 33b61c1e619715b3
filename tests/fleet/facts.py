"""A fleet file and what runs for it."""

from pathlib import Path

from pi_cli.fleet import file
from pi_cli.fleet.file import FleetFile
from pi_cli.fleet.reality import ModelFacts, PodFacts

FILE = Path("pi.toml")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
H100 = "NVIDIA H100 80GB HBM3"
PLANNED = ModelFacts(
    "Qwen/Qwen3-8B",
    gpus=1,
    arguments=("--enable-auto-tool-choice", "--max-model-len", "65536"),
    origins=("catalogue", "command", "command"),
    variables={"VLLM_USE_DEEP_GEMM": "0"},
    given=("MINE",),
    commit=COMMIT,
    vllm="0.33.0",
)
POD = PodFacts(
    gpus=(H100, H100),
    driver="580.95.05",
    cuda="13.0",
    vllm="0.33.0",
    made_from="release",
    wheel="vllm-0.33.0-cp38-abi3-manylinux_2_31_x86_64.whl",
    torch="2.11.0+cu130",
    models={"qwen": PLANNED},
)
REALITY = {"dc1": POD}
TEXT = """\
[pods.dc1]
ssh = "ssh root@1.2.3.4"
[models.qwen]
model = "Qwen/Qwen3-8B"
pods = ["dc1"]
context = "64k"
env = ["MINE"]
"""


def read(text: str = TEXT) -> FleetFile:
    return file.parse(text, FILE)
