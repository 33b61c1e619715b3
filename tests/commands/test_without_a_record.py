"""A model whose record on the pod is gone: it is listed, its memory counts, and it can be stopped by its name."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json, register


def delete(record: Path) -> None:
    record.unlink()


def empty(record: Path) -> None:
    record.write_text("")


@pytest.mark.parametrize(("lose", "words"), [(delete, ["q"]), (empty, ["--all"])])
def test_it_is_orphaned_and_another_client_can_stop_it(
    pi: Pi, pod: EmbeddedPod, lose: Callable[[Path], None], words: list[str]
) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    entry = pods_json()["pods"]["dc1"]["models"]["q"]
    [record] = (pod.home / ".pi" / "models").iterdir()
    lose(record)
    pi("stop", "q", "--forget")  # as a client that never knew it
    stopped = pi("stop", *words)
    assert (stopped.code, stopped.out) == (0, "stopped `q` on `dc1`\n"), stopped.err
    assert pod.processes() == []
    assert entry["uid"] not in [path.stem for path in (pod.home / ".pi" / "models").iterdir()]


def test_it_is_listed_with_what_its_command_line_says(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    before = pods_json()["pods"]["dc1"]["models"]["q"]
    [record] = (pod.home / ".pi" / "models").iterdir()
    record.unlink()
    pi("stop", "q", "--forget")
    [listed] = pi("list", "--json").json
    assert (listed["name"], listed["status"], listed["model"]) == ("q", "orphaned", "Qwen/Qwen3-8B")
    assert {key: listed[key] for key in ("port", "gpu", "pid")} == {key: before[key] for key in ("port", "gpu", "pid")}
    assert "note: `q` has lost its server or its record, but still uses" in pi("list").err
    refused = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert "already runs here" in refused.err


def test_the_models_of_another_user_of_the_machine_are_theirs(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    """Embedded pods are such users: they share the processes of this machine, and each has a home of its own."""
    mine, theirs = embed("dc1"), embed("dc2")
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc2").code == 0
    [record] = (theirs.home / ".pi" / "models").iterdir()
    record.unlink()
    assert pi("list", "--pod", "dc1", "--json").json == []
    pi("stop", "--all", "--pod", "dc1")
    assert theirs.processes()
    register("dc1", mine, count=2)
    assert pi("stop", "q", "--pod", "dc2").code == 0


def test_stop_ends_what_another_client_has_started_again_under_that_name(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path
) -> None:
    """The second client has a folder of its own and stops and starts the model; this one does not know that."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    theirs = str(tmp_path / "theirs")
    shutil.copytree(os.environ["PI_CONFIG_DIR"], theirs)
    assert pi("stop", "q", PI_CONFIG_DIR=theirs).code == 0
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", PI_CONFIG_DIR=theirs).code == 0
    stopped = pi("stop", "q")
    assert (stopped.code, stopped.out) == (0, "stopped `q` on `dc1`\n")
    assert "another client had started `q` on `dc1` again: that is what was stopped" in stopped.err
    assert pod.processes() == []
