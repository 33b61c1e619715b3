"""Which pods can run one model together."""

from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.models import across
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import Disk
from pi_cli.store.records import Gpu

H100 = "NVIDIA H100 80GB HBM3"
HOME = Disk(str(Path("/root")), None, None, is_mount=False, kind="ext4")


def machine(
    gpus: int = 2, kind: str = "NVIDIA H100 80GB HBM3", driver: str = "580.95.05", vllm: str = "0.32.0"
) -> Machine:
    found = [Gpu(number, kind, "80GB") for number in range(gpus)]
    return Machine(found, {}, driver, vllm, [vllm], None, HOME, None)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (machine(gpus=1), "their GPUs differ"),
        (machine(kind="NVIDIA A100-SXM4-80GB"), "their GPUs differ, NVIDIA H100 80GB HBM3 80GB, "),
        (machine(driver="570.12.01"), "their drivers differ, 580.x and 570.x"),
        (machine(vllm="0.31.0"), "their versions of vLLM differ, 0.32.0 and 0.31.0"),
    ],
    ids=["count", "kind", "driver", "vllm"],
)
def test_pods_that_differ_are_refused_with_what_differs(other: Machine, words: str) -> None:
    with pytest.raises(BadUsage, match="`dc1` and `dc2` cannot run one model: ") as refused:
        across.require_same({"dc1": machine(), "dc2": other})
    assert words in refused.value.message
    if "vLLM" in words:
        assert refused.value.hint == "install the same with `pi pods setup dc2 --vllm 0.32.0`"


def test_pods_of_one_kind_pass_with_drivers_of_one_branch() -> None:
    across.require_same({"dc1": machine(), "dc2": machine(driver="580.12.01")})
