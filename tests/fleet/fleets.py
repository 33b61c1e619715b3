"""Fleet files for tests: written ones, and any that hypothesis makes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pi_cli.fleet import file, writing
from pi_cli.fleet.file import FleetFile, FleetModel, FleetPod

PATH = Path("pi.toml")
EXAMPLE = """\
# our machines
lease = "2h"

[pods.dc1]
ssh = "ssh root@1.2.3.4"  # the first
models-path = "/workspace"
price = 2.49

[pods.dc2]
ssh = "ssh -p 40022 root@5.6.7.8"

[models.qwen]
model = "Qwen/Qwen3-Coder-30B-A3B-Instruct"
pods = ["dc1", "dc2"]  # a replica on each
context = "64k"
lease = "45m"
env = { VLLM_USE_DEEP_GEMM = 0 }

[models.oss]
model = "openai/gpt-oss-20b"
pods = ["dc2"]
vllm = ["--max-num-seqs", "32"]
private = true

[gateway]
port = 8000
policy = "cache_aware"
"""

NAMES = ("dc1", "a.b", "x-y_Z", "9")
LINES = st.sampled_from(["a", "with space", 'q"uote', "back\\slash", "ä'#=[]", "--max-num-seqs"])
VARIABLES = ("VLLM_USE_DEEP_GEMM", "A", "B_2")


def subsets(values: Sequence[str], least: int = 0) -> SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=3, unique=True)


def optional(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | values


@st.composite
def pods(draw: st.DrawFn, name: str) -> FleetPod:
    return FleetPod(
        name,
        f"ssh -p {draw(st.integers(1, 65535))} root@10.0.0.{draw(st.integers(1, 254))}",
        models_path=draw(optional(LINES.map(lambda text: f"/{text}"))),
        home=draw(optional(st.sampled_from(["~", "/ephemeral"]))),
        vllm=draw(optional(st.sampled_from(["release", "nightly", "0.32.0", "vllm==0.32.0"]))),
        cpu=draw(st.booleans()),
        price=draw(optional(st.sampled_from(["2.49", "3.5", "2.49 EUR"]))),
        connect_timeout=draw(optional(st.sampled_from([30.0, 7.5]))),
    )


@st.composite
def models(draw: st.DrawFn, name: str, names: list[str]) -> FleetModel:
    own = draw(optional(st.lists(LINES, max_size=3).map(tuple)))
    is_planned = own is None
    return FleetModel(
        name,
        draw(st.sampled_from(["Qwen/Qwen3-8B", "openai/gpt-oss-20b", "/models/mine"])),
        pods=tuple(draw(subsets(names, 1))),
        gpus=draw(optional(st.integers(1, 8))) if is_planned else None,
        context=draw(optional(st.sampled_from(["64k", "40000", "1M"]))) if is_planned else None,
        memory=draw(optional(st.sampled_from(["50%", "0.5"]))) if is_planned else None,
        lease=draw(optional(st.sampled_from(["45m", "2h", "off"]))),
        vllm=own,
        env=tuple(f"{name}=1" for name in draw(subsets(VARIABLES))),
        private=draw(st.booleans()),
        api_key_env=tuple(draw(subsets(VARIABLES))),
    )


@st.composite
def fleets(draw: st.DrawFn) -> FleetFile:
    """Return the content of a file, without a default lease and a gateway."""
    names = draw(subsets(NAMES, 1))
    of_models = draw(subsets(NAMES))
    return FleetFile(
        PATH,
        {name: draw(pods(name)) for name in names},
        {name: draw(models(name, names)) for name in of_models},
    )


def text_of(fleet: FleetFile, before: str = "") -> str:
    return writing.with_fleet(before, PATH, fleet.pods, fleet.models)


def example() -> FleetFile:
    return file.parse(EXAMPLE, PATH)
