"""Every command as people run it, in a new process that has to import for itself what it needs."""

import os
from collections.abc import Iterator

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import pods_json
from tests.forkserver import in_a_new_process


@pytest.fixture
def machine() -> Iterator[EmbeddedPod]:
    with EmbeddedPod("2x H100 80GB") as machine:
        (machine.home / ".demo" / "vllm.json").write_text('{"seconds": 0.2}')
        (machine.home / ".demo" / "hf.json").write_text('{"seconds": 0.2}')
        yield machine


def told(*words: str) -> str:
    """Run a command in a new process, and return what it has printed."""
    done = in_a_new_process(words, input="", timeout=60, environ=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_finds_what_it_needs(machine: EmbeddedPod) -> None:
    assert told("help", "errors").startswith("# Exit codes and errors")
    told("pods", "setup", "dc1", machine.ssh)
    told("pods", "active", "dc1")
    assert "dc1" in told("pods")
    assert "dc1" in told("pods", "--check")
    assert "Qwen/Qwen3-8B" in told("models")
    assert "Qwen/Qwen3-8B" in told("models", "Qwen/Qwen3-8B")
    assert told("models", "update", "--remove") == "there are no fetched recipes\n"
    told("start", "Qwen/Qwen3-8B", "--name", "q")
    assert "ready" in told("list")
    assert "Qwen/Qwen3-8B" in told("logs", "q", "--no-follow")
    assert told("prompt", "q", "What is 2+2?").strip() == "4"
    assert "OPENAI_MODEL=q" in told("env", "q", "--shell", "bash")
    assert told("run", "q", "--", "printenv", "OPENAI_MODEL") == "q\n"
    assert "✓ tool call" in told("check", "q")
    assert told("ssh", "dc1", "echo hello") == "hello\n"
    told("stop", "q")
    told("pods", "remove", "dc1", "--yes")
    assert pods_json()["pods"] == {}
