"""`pi up --lock`, `pi up --locked` and `pi diff`, on embedded pods that setup has prepared."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.docs import json_page

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def first() -> Iterator[EmbeddedPod]:
    with quick("2x H100 80GB") as pod:
        yield pod


@pytest.fixture
def second() -> Iterator[EmbeddedPod]:
    with quick("2x H100 80GB") as pod:
        yield pod


def quick(gpus: str) -> EmbeddedPod:
    pod = EmbeddedPod(gpus)
    for program in ("hf", "vllm"):
        (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
    return pod


def write(*pods: EmbeddedPod, model: str = "") -> None:
    """Write a file with these pods, and a model on each."""
    tables = [f"[pods.dc{number}]\nssh = {json.dumps(pod.ssh)}\n" for number, pod in enumerate(pods, 1)]
    on = json.dumps([f"dc{number}" for number, _ in enumerate(pods, 1)])
    Path("pi.toml").write_text(
        "".join(tables) + f'[models.q]\nmodel = "Qwen/Qwen3-8B"\npods = {on}\ncontext = "16k"\n{model}'
    )


def record(pod: EmbeddedPod) -> Any:
    [path] = (pod.home / ".pi/models").glob("*.json")
    return json.loads(path.read_text())


def test_a_fresh_machine_from_the_lock_serves_the_same(pi: Pi, first: EmbeddedPod, second: EmbeddedPod) -> None:
    write(first)
    locked = pi("up", "--lock", timeout=120)
    assert locked.code == 0, locked.err
    text = Path("pi.lock").read_text()
    assert '{ words = ["--max-model-len", "16384"], origin = "file" }' in text
    assert record(first)["commit"] in text
    assert 'wheel = "vllm-0.32.0-' in text
    write(second)  # the provider took the first
    again = pi("up", "dc1", "--locked", timeout=120)
    assert again.code == 0, again.err
    pinned = ["--revision", record(first)["commit"]]
    assert record(second)["arguments"] == [*record(first)["arguments"], *pinned]
    assert record(second)["commit"] == record(first)["commit"]
    served = record(second)["arguments"]
    same = pi("diff", "--json")
    assert (same.code, same.json["same"], same.json["rows"]) == (0, True, [])
    assert json_page.problems("pi diff --json", pi("diff", "--all", "--json").out) == []
    assert pi("up", "--lock").code == 0
    assert Path("pi.lock").read_text() == text
    assert pi("stop", "q").code == 0
    assert pi("up", "--locked", timeout=120).code == 0
    assert record(second)["arguments"] == served
    Path("pi.lock").write_text(text.replace('"16384"', '"8192"'))
    restarted = pi("up", "--locked", "--restart", "--yes", timeout=120)
    assert restarted.code == 0, restarted.err
    assert record(second)["arguments"] == [{"16384": "8192"}.get(word, word) for word in served]


def test_another_vllm_is_named_and_with_locked_refused(pi: Pi, first: EmbeddedPod) -> None:
    write(first)
    assert pi("up", "--lock", timeout=120).code == 0
    before = record(first)
    lock = Path("pi.lock")
    lock.write_text(lock.read_text().replace("0.32.0", "0.31.0").replace('"16384"', '"8192"'))
    refused = pi("up", "--locked")
    assert refused.code == 2
    assert "error: `pi.lock` does not fit: `dc1`: the lock has vLLM 0.31.0, the pod has 0.32.0" in refused.err
    assert "`q` on `dc1`: the lock has `--max-model-len` 8192, what runs has 16384" in refused.err
    named = pi("up", "--dry-run")
    assert "vllm 0.31.0 (now 0.32.0)" in named.out
    assert "lock: --max-model-len 8192 (now 16384)" in named.out
    shown = pi("diff")
    assert (shown.code, record(first)) == (1, before)
    assert [line.split() for line in shown.out.splitlines() if "max-model-len" in line] == [
        ["dc1/q", "--max-model-len", "16384", "8192", "16384", "file"]
    ]
    rows = pi("diff", "q", "--json").json["rows"]
    assert {(row["what"], row["lock"], row["runs"]) for row in rows} == {
        ("vllm", "0.31.0", "0.32.0"),
        ("--max-model-len", "8192", "16384"),
    }


def test_nothing_is_locked_that_does_not_run_and_locked_demands_a_lock(pi: Pi, first: EmbeddedPod) -> None:
    write(first)
    missing = pi("up", "--locked")
    assert missing.code == 2
    assert "hint: write it with `pi up --lock`" in missing.err
    assert not first.files().keys() & {".pi/env"}
    for options in (["--lock", "--locked"], ["--lock", "--dry-run"], ["--lock", "--check"]):
        assert "exclude each other" in pi("up", *options).err
    assert pi("up", "--lock", timeout=120).code == 0
    write(first, model='memory = "50%"\n')
    stale = pi("up", "--locked")
    assert stale.code == 2
    assert "the file has another `memory` for `q` than when the lock was written" in stale.err
    differs = pi("up", "--lock")
    assert differs.code == 1
    assert "nothing was locked: `dc1/q` not as `pi.toml` says" in differs.err


def test_diff_of_a_file_whose_pods_are_not_there_yet(pi: Pi, first: EmbeddedPod) -> None:
    write(first)
    shown = pi("diff")
    assert shown.code == 1
    assert [line.split("  ")[0] for line in shown.out.splitlines()] == ["NAME", "dc1", "dc1/q"]
    assert "only the file and what runs are compared" in shown.err
    assert "there is no file" in pi("diff", "--file", "other.toml").err


def test_a_machine_with_other_gpus_is_named_and_with_locked_no_model_starts_there(pi: Pi, first: EmbeddedPod) -> None:
    write(first)
    assert pi("up", "--lock", timeout=120).code == 0
    with quick("1x L40S") as other:
        write(other)
        refused = pi("up", "--locked", timeout=120)
        difference = "the lock has the GPUs 2x NVIDIA H100 80GB HBM3, the pod has 1x NVIDIA L40S"
        assert refused.code == 2
        assert difference in refused.err
        assert list((other.home / ".pi/models").glob("*")) == []
        planned = pi("up", timeout=120)
        assert planned.code == 0, planned.err
        assert difference in planned.err
        assert "`q` does not start from the lock: its pod has other GPUs or another vLLM" in planned.err
        assert "--revision" not in record(other)["arguments"]


def test_a_file_of_this_machine_is_locked_by_its_content(pi: Pi, first: EmbeddedPod) -> None:
    template = Path("mine.jinja")
    template.write_text("{{ messages }}")
    own = json.dumps(["--max-model-len", "4096", "--chat-template", str(template)])
    write(first)
    Path("pi.toml").write_text(Path("pi.toml").read_text().replace('context = "16k"', f"vllm = {own}"))
    locked = pi("up", "--lock", timeout=120)
    assert locked.code == 0, locked.err
    assert '"~/.pi/uploads/' in Path("pi.lock").read_text()
    before = record(first)["arguments"]
    assert pi("diff").code == 0
    assert pi("stop", "q").code == 0
    again = pi("up", "--locked", timeout=120)
    assert again.code == 0, again.err
    assert record(first)["arguments"][: len(before)] == before
    assert pi("stop", "q").code == 0
    template.write_text("{{ messages[0] }}")
    changed = pi("up", "--locked")
    assert changed.code == 1
    assert "`q` on `dc1` cannot be started from the lock: a file that it is given has changed" in changed.err
