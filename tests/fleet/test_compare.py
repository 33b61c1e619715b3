"""The file, the lock and reality side by side."""

from dataclasses import replace

from pi_cli.fleet import compare, lock
from pi_cli.fleet.compare import Row
from pi_cli.fleet.lock import Lock
from pi_cli.fleet.reality import PodFacts, Reality
from tests.fleet.facts import COMMIT, PLANNED, POD, REALITY, TEXT, read

LOCK = lock.of(read(), REALITY)


def differing(
    text: str = TEXT, locked: Lock | None = LOCK, running: Reality = REALITY, recorded: tuple[str, ...] = ("dc1",)
) -> list[Row]:
    return [row for row in compare.rows(read(text), locked, running, recorded) if row.differs]


def test_what_is_the_same_everywhere_does_not_differ() -> None:
    assert differing() == []
    rows = {(row.model, row.what): row for row in compare.rows(read(), LOCK, REALITY, ["dc1"])}
    assert rows["qwen", "--max-model-len"] == Row("dc1", "qwen", "--max-model-len", "65536", "65536", "65536", "file")
    assert rows["qwen", "--enable-auto-tool-choice"].file is None  # pi chooses it
    assert rows["qwen", "commit"] == Row("dc1", "qwen", "commit", None, COMMIT, COMMIT)
    assert ("qwen", "--revision") not in rows
    assert rows["", "gpus"].runs == "2x NVIDIA H100 80GB HBM3"


def test_another_driver_for_the_same_cuda_is_shown_and_is_not_a_difference() -> None:
    now = {"dc1": replace(POD, driver="580.99.01")}
    assert differing(running=now) == []
    [row] = [row for row in compare.rows(read(), LOCK, now, ["dc1"]) if row.what == "driver"]
    assert (row.lock, row.runs) == ("580.95.05", "580.99.01")


def test_each_side_may_be_the_odd_one() -> None:
    assert differing(TEXT.replace("64k", "32k")) == [
        Row("dc1", "qwen", "--max-model-len", "32768", "65536", "65536", "file")
    ]
    other = replace(PLANNED, arguments=(*(PLANNED.arguments or ())[:-1], "1000"), commit="f" * 40)
    assert differing(running={"dc1": replace(POD, cuda="12.8", models={"qwen": other})}) == [
        Row("dc1", "", "cuda", None, "13.0", "12.8"),
        Row("dc1", "qwen", "commit", None, COMMIT, "f" * 40),
        Row("dc1", "qwen", "--max-model-len", "65536", "65536", "1000", "file"),
    ]
    old = replace(LOCK, pods={"dc1": replace(POD, vllm="0.32.0", wheel=None)})
    assert differing(locked=old) == [Row("dc1", "", "vllm", None, "0.32.0", "0.33.0")]


def test_what_is_missing_on_a_side_is_named_there() -> None:
    none: PodFacts = replace(POD, models={})
    assert differing(running={"dc1": none}) == [
        Row("dc1", "qwen", "model", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "not running")
    ]
    more = replace(POD, models={**POD.models, "mine": replace(PLANNED, model="m/m")})
    assert differing(running={"dc1": more}) == [Row("dc1", "mine", "model", "not in the file", None, "m/m")]
    assert differing(running={}, recorded=()) == [
        Row("dc1", "", "pod", "in the file", None, "not set up"),
        Row("dc1", "qwen", "model", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "not running"),
    ]
    assert differing(locked=Lock()) == [Row("dc1", "", "pod", "in the file", "not locked", None)]


def test_nothing_is_said_of_a_pod_that_has_not_answered_nor_of_a_lock_that_is_not_there() -> None:
    assert differing(running={}) == []
    assert differing(locked=None) == []


def test_all_arguments_of_the_file_are_compared_if_it_has_them_all() -> None:
    text = TEXT.replace('context = "64k"', 'vllm = ["--max-model-len", "64K", "--tensor-parallel-size", "2"]')
    assert differing(text, locked=None) == [
        Row("dc1", "qwen", "--tensor-parallel-size", "2", None, "-"),
        Row("dc1", "qwen", "--enable-auto-tool-choice", "-", None, "on", "catalogue"),
    ]


def test_a_file_of_this_machine_is_compared_by_its_name() -> None:
    text = TEXT.replace('context = "64k"', 'vllm = ["--chat-template", "./mine.jinja"]')
    there = replace(PLANNED, arguments=("--chat-template", f"~/.pi/uploads/{'0' * 32}/mine.jinja"), origins=())
    assert differing(text, locked=None, running={"dc1": replace(POD, models={"qwen": there})}) == []
    there = replace(there, arguments=("--chat-template", f"~/.pi/uploads/{'0' * 32}/other.jinja"))
    assert len(differing(text, locked=None, running={"dc1": replace(POD, models={"qwen": there})})) == 1


def test_shares_of_memory_and_variables_are_compared_as_they_are_meant() -> None:
    assert differing(TEXT + 'memory = "92%"\n', locked=None) == []
    assert differing(TEXT + 'memory = "50%"\n', locked=None) == [
        Row("dc1", "qwen", "--gpu-memory-utilization", "0.50", None, "-")
    ]
    assert differing(TEXT.replace("MINE", "OTHER"), locked=None) == [
        Row("dc1", "qwen", "OTHER", "given", None, "-"),
        Row("dc1", "qwen", "MINE", "-", None, "given"),
    ]


def test_a_model_over_several_pods_is_compared_with_what_runs_and_is_not_locked() -> None:
    text = TEXT.replace('pods = ["dc1"]', 'across = ["dc1", "dc2"]') + '[pods.dc2]\nssh = "ssh root@5.6.7.8"\n'
    both = {"dc1": POD, "dc2": POD}
    locked = lock.of(read(text), both)
    assert {name: dict(facts.models) for name, facts in locked.pods.items()} == {"dc1": {}, "dc2": {}}
    assert differing(text, locked, both, ("dc1", "dc2")) == []
    one = {"dc1": POD, "dc2": replace(POD, models={})}
    assert differing(text, locked, one, ("dc1", "dc2")) == [
        Row("dc2", "qwen", "model", "Qwen/Qwen3-8B", None, "not running")
    ]
