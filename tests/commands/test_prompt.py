"""`pi prompt`: the answer on stdout, everything else on stderr."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import KEY, Pi

TOOLS = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3"]


@pytest.fixture
def model(pi: Pi, pod: EmbeddedPod) -> EmbeddedPod:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", *TOOLS)
    assert result.code == 0, result.err
    return pod


@pytest.mark.usefixtures("model")
def test_the_answer_is_on_stdout_and_the_thinking_is_not(pi: Pi) -> None:
    result = pi("prompt", "q", "What is 2+2?")
    assert result.code == 0, result.err
    assert result.out.strip() == "4"
    assert "two plus two" in result.err.lower()


@pytest.mark.usefixtures("model")
def test_the_model_looks_at_real_files_here(pi: Pi, tmp_path: Path) -> None:
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "apples.txt").write_text("red\n")
    result = pi("prompt", "q", f"List the files in {folder}")
    assert result.code == 0, result.err
    assert "apples.txt" in result.out
    assert "● ls(" in result.err


@pytest.mark.usefixtures("model")
def test_the_prompt_can_come_from_stdin_too(pi: Pi) -> None:
    assert pi("prompt", "q", input="What is 2+2?").out.strip() == "4"


@pytest.mark.usefixtures("model")
def test_another_openai_account_stays_out_of_it(pi: Pi) -> None:
    """Fault 18, security check 32."""
    result = pi(
        "prompt",
        "q",
        "What is 2+2?",
        OPENAI_API_KEY="sk-other",
        OPENAI_BASE_URL="http://127.0.0.1:1/v1",
        OPENAI_ORG_ID="org",
        HTTPS_PROXY="http://127.0.0.1:1",
        HTTP_PROXY="http://127.0.0.1:1",
        ALL_PROXY="http://127.0.0.1:1",
    )
    assert result.out.strip() == "4"


@pytest.mark.usefixtures("model")
def test_a_wrong_key_is_named_and_never_shown(pi: Pi) -> None:
    """Fault 83."""
    result = pi("prompt", "q", "Hello", PI_API_KEY="another-key-entirely")
    assert result.code == 1
    assert "PI_API_KEY" in result.err
    assert "another-key-entirely" not in result.err
    assert KEY not in result.err


def test_a_model_is_found_by_pod_and_name(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1")
    embed("dc2")
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc2", "--vllm", *TOOLS).code == 0
    for words in (["dc2/q"], ["q", "--pod", "dc2"], ["q"]):
        assert pi("prompt", *words, "What is 2+2?").out.strip() == "4"
    missing = pi("prompt", "dc1/q", "Hello")
    assert missing.code == 2
    assert "there is no model `q` on `dc1`" in missing.err


def test_nothing_to_ask_is_bad_usage(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("prompt", "q")
    assert result.code == 2
    assert "there is nothing to ask" in result.err
    assert pod.commands == []
