"""The agent's programs that pods keep: they answer what a program that is sent answers, or nothing of them is run."""

import json
import os
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.pods import shell
from pi_cli.pods.agent_link import MARK
from tests.conftest import Pi
from tests.pods.scripted import GIVES_ITS_ANSWER, put_answer, script, survey

SENT, NAMED = shell.AGENT, shell.KEPT_AGENT


def remembered() -> dict[str, dict[str, str]]:
    rows = json.loads(Path(os.environ["PI_CONFIG_DIR"], "programs.json").read_text())
    return {row["pod"]: row["programs"] for row in rows}


@pytest.fixture
def used(pi: Pi, pod: EmbeddedPod) -> EmbeddedPod:
    """A pod on which `q` runs, and that keeps the programs for lists, logs and stops."""
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    assert pi("start", "Qwen/Qwen3-8B", "--name", "r").code == 0
    for words in (("list",), ("logs", "q", "-n", "1", "--no-follow"), ("stop", "r")):
        assert pi(*words).code == 0
    pod.commands.clear()
    return pod


def programs(pod: EmbeddedPod) -> list[Path]:
    return list((pod.home / ".pi" / "programs").iterdir())


def test_what_was_asked_before_is_asked_by_name(pi: Pi, used: EmbeddedPod) -> None:
    assert [each["name"] for each in pi("list", "--json").json] == ["q"]
    logs = pi("logs", "q", "-n", "1", "--no-follow")
    assert (logs.code, len(logs.out.splitlines())) == (0, 1)
    assert pi("stop", "q").out == "stopped `q` on `dc1`\n"
    assert used.commands == [NAMED, NAMED, NAMED]
    assert used.processes() == []
    assert len(programs(used)) == len(remembered()["dc1"]) == 3


@pytest.mark.parametrize("what", ["deleted", "changed"])
def test_a_pod_that_lost_them_is_sent_them_once_more(pi: Pi, used: EmbeddedPod, what: str) -> None:
    for file in programs(used):
        file.unlink()
        if what == "changed":
            file.write_bytes(b"import os; os.abort()")
    for words in (("list",), ("logs", "q", "-n", "1", "--no-follow"), ("stop", "q"), ("list",)):
        result = pi(*words)
        assert result.code == 0, (words, result.err)
        assert "error" not in result.err
    assert used.commands == [NAMED, SENT] * 3 + [NAMED]
    assert used.processes() == []


def test_a_pod_that_keeps_nothing_is_always_sent_them(pi: Pi, used: EmbeddedPod) -> None:
    folder = used.home / ".pi" / "programs"
    for file in programs(used):
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    for _ in range(3):
        assert pi("list").code == 0
    assert used.commands == [NAMED, SENT, SENT, SENT]


@pytest.mark.parametrize("text", ["", "{", "[]", '[{"pod": "dc1"}]', '[{"pod": "dc1", "programs": {"x": "../../x"}}]'])
def test_a_file_that_is_broken_counts_as_empty(pi: Pi, used: EmbeddedPod, text: str) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "programs.json").write_text(text)
    assert pi("list").code == 0
    assert used.commands == [SENT]


def test_nothing_is_remembered_of_a_pod_that_was_removed(pi: Pi, used: EmbeddedPod) -> None:
    assert "dc1" in remembered()
    assert pi("pods", "remove", "dc1", "--yes").code == 0
    assert remembered() == {}
    del used


@pytest.mark.parametrize("name", ['"../../../etc/passwd"', '"' + "0" * 31 + '"', "7", "null", "[]"])
def test_a_name_that_is_not_a_hash_is_refused(pi: Pi, pod: EmbeddedPod, name: str) -> None:
    put_answer(pod, survey())
    script(pod, f'printf \'\\n{MARK}{{"event": "kept", "hash": {name}}}\\n\'; {GIVES_ITS_ANSWER}')
    result = pi("list")
    assert "gave an answer that pi does not understand: a hash that pi's agent never gives" in result.err
    assert not Path(os.environ["PI_CONFIG_DIR"], "programs.json").exists()
