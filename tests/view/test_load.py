"""The screen of `pi top` at every size."""

import itertools
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import PodUnreachable
from pi_cli.models.load import ModelLoad, PodLoad
from pi_cli.pods.reports import GpuLoad
from pi_cli.safe import safe_line
from pi_cli.view import load
from pi_cli.view.load import Look
from tests.properties import PROPERTY

H100 = GpuLoad(0, "NVIDIA H100 80GB HBM3", (70000, 81559), 97.0, 512.3, 700.0, 61.0)
BARE = GpuLoad(1, "NVIDIA H200", has_slices=True)
QWEN = ModelLoad(
    "dc1", "qwen", "ready", "Qwen/Qwen3-8B", "0", 8001, 7, running=12, waiting=3, tokens_in=12_345.0, tokens_out=312.4,
    kv_cache=0.414, first_token=0.214, curve=((0.0, 312.4), (10.0, 156.2), (299.0, 20.0)),
)  # fmt: skip
GLM = ModelLoad("dc2", "glm", "starting", phase="loading weights 3/14")
LOST = ModelLoad("dc3", "lost", "unreachable", "zai-org/GLM-4.5-Air", "0,1")
PODS = {
    "dc1": PodLoad("dc1", (H100, BARE), (QWEN,), is_seen=True),
    "dc2": PodLoad("dc2", (), (GLM,), driver_hangs=True, is_seen=True),
    "dc3": PodLoad("dc3", (), (LOST,), error=PodUnreachable("dc3", "timed out"), down_since=0.0, is_seen=True),
    "dc4": PodLoad("dc4"),
}
MANY = {
    f"dc{pod}": PodLoad(
        f"dc{pod}",
        tuple(GpuLoad(gpu, "NVIDIA L4", (5, 23034), 50.0) for gpu in range(8)),
        tuple(ModelLoad(f"dc{pod}", f"m{number}", "ready", tokens_out=float(number)) for number in range(4)),
        is_seen=True,
    )
    for pod in range(10)
}
SIZES = [(80, 24), (120, 40), (200, 50), (40, 20), (120, 5), (20, 2), (1, 1)]


def drawn(pods: dict[str, PodLoad], look: Look, width: int, height: int) -> list[str]:
    lines = load.screen(pods, look, width=width, height=height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


AT_80 = """\
pi top  4 pods, 2 GPUs, 3 models  sorted by name, every 2 s
GPU    TYPE      USE            %         MEMORY      POWER  TEMP
dc1/0  H100      ██████████   97%  68.4/79.6 GiB  512/700 W  61 C
dc1/1  H200 MIG  -              -              -          -     -
dc2    the driver does not answer
dc3    for AGE: cannot reach pod `dc3`: timed out
dc4    connecting

 MODEL     STATUS              RUN  WAIT   IN/S  OUT/S   KV   TTFT  LAST 5 MIN
>dc1/qwen  ready                12     3  12.3k    312  41%  0.21s  ▁        █
 dc2/glm   loading weights 3…    -     -      -      -    -      -
 dc3/lost  unreachable           -     -      -      -    -      -"""


def test_the_screen_at_80_columns() -> None:
    shown = drawn(PODS, Look(selected=("dc1", "qwen")), 80, 24)
    assert re.sub(r"for \w+:", "for AGE:", "\n".join(shown[:12])) == AT_80
    assert shown[-1] == load.KEYS


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size_shows_the_selected_model(width: int, height: int) -> None:
    shown = drawn(MANY, Look(selected=("dc7", "m2")), width, height)
    assert any("dc7/m2"[: max(width - 3, 0)] in line for line in shown)


def test_on_a_low_screen_the_gpus_of_a_pod_share_a_line_and_then_go() -> None:
    pods = {"dc1": MANY["dc1"], "dc2": MANY["dc2"]}
    assert [line.split()[0] for line in drawn(pods, Look(), 80, 14)[2:4]] == ["dc1", "dc2"]
    low = drawn(pods, Look(), 120, 5)
    assert low[0].split()[:2] == ["MODEL", "1-3"]
    assert low[-1] == load.KEYS


def test_sums_for_a_pod_are_the_mean_use_the_whole_memory_and_the_hottest_gpu() -> None:
    hot = GpuLoad(1, "NVIDIA H100 80GB HBM3", (0, 81559), 3.0, 100.0, 700.0, 80.0)
    pods = {"dc1": PodLoad("dc1", (H100, hot, *[BARE] * 6), (QWEN,), is_seen=True)}
    [row] = [line for line in drawn(pods, Look(), 100, 9) if line.startswith("dc1 ")]
    sums = "dc1  2x H100, 6x H200 MIG  █████░░░░░   50%  68.4/159.3 GiB  612 W  80 C"
    assert re.split(r"  +", row) == re.split(r"  +", sums)


@pytest.mark.parametrize(
    ("sort", "first"), [("name", "dc0/m0"), ("out/s", "dc0/m3"), ("in/s", "dc0/m0"), ("ttft", "dc0/m0")]
)
def test_models_are_sorted(sort: str, first: str) -> None:
    model = load.ordered(MANY, sort)[0]
    assert f"{model.pod}/{model.name}" == first


def test_without_block_characters_bars_and_curves_are_ascii() -> None:
    shown = drawn({"dc1": PODS["dc1"]}, Look(is_ascii=True), 120, 24)
    assert all(line.isascii() for line in shown)
    assert any("##########" in line for line in shown)


def test_a_pipe_gets_every_gpu_and_every_model_in_full() -> None:
    lines = [line.plain for line in load.plain(MANY, is_ascii=False)]
    assert len(lines) == 1 + 80 + 1 + 1 + 40


def test_no_models_say_how_to_start_one() -> None:
    shown = drawn({"dc1": PodLoad("dc1", (H100,), is_seen=True)}, Look(), 80, 24)
    assert "no models run; start one with `pi start MODEL --name NAME`" in shown


TEXTS = st.text(max_size=80).map(safe_line)  # as `pods.replies` makes it
NUMBERS = st.one_of(st.none(), st.floats(0, 2.0**62))
SIZES_IN_MIB = st.one_of(st.none(), st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)))
GPUS = st.builds(
    GpuLoad, id=st.integers(0, 1024), name=TEXTS, memory=SIZES_IN_MIB, utilization=NUMBERS, power=NUMBERS,
    power_limit=NUMBERS, temperature=NUMBERS, has_slices=st.booleans(),
)  # fmt: skip
COUNTS = st.one_of(st.none(), st.integers(0, 2**62))
CURVES = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 2.0**62)), max_size=9).map(tuple)
MODELS = st.builds(
    ModelLoad, pod=st.sampled_from(["a", "b"]), name=TEXTS, status=st.sampled_from(["ready", "starting", "dead"]),
    model=TEXTS, gpu=st.sampled_from(["", "0,1"]), phase=st.one_of(st.none(), TEXTS), running=COUNTS, waiting=COUNTS,
    tokens_in=NUMBERS, tokens_out=NUMBERS, kv_cache=NUMBERS, first_token=NUMBERS, curve=CURVES,
)  # fmt: skip
PODS_OF_ALL_KINDS = st.builds(
    PodLoad, pod=st.sampled_from(["a", "b"]), gpus=st.lists(GPUS, max_size=9).map(tuple),
    models=st.lists(MODELS, max_size=9).map(tuple), driver_hangs=st.booleans(), is_seen=st.booleans(),
)  # fmt: skip


@PROPERTY
@given(st.lists(PODS_OF_ALL_KINDS, max_size=4), st.integers(1, 220), st.integers(1, 60))
def test_whatever_pods_say_the_lines_fit_and_steer_nothing(pods: list[PodLoad], width: int, height: int) -> None:
    named = {f"{number}": pod for number, pod in enumerate(pods)}
    for line, is_ascii in itertools.product([*load.SORTS], [False, True]):
        shown = drawn(named, Look(sort=line, is_ascii=is_ascii), width, height)
        assert not any(unicodedata.category(character) == "Cc" for row in shown for character in row)
