"""What the lines of `remote/pod_setup.sh` mean."""

import pytest

from pi_cli.events import Event, Note, Output, Step
from pi_cli.pods.steps import LONGEST, Lines, Script


def read(*lines: str) -> tuple[Script, list[Event]]:
    script = Script("dc1")
    return script, [event for line in lines if (event := script.read(line))]


def test_a_step_begins_says_what_it_does_and_ends_with_what_it_said_last() -> None:
    _, events = read(
        "==> vllm: Installing vLLM",
        "    vllm | Resolved 142 packages",
        "    vllm |  + vllm==0.32.0",
        "    vllm * trying it out",
        "    vllm ! the driver is old",
        "    vllm * vLLM 0.32.0",
        "<== vllm: done",
    )
    title = "Installing vLLM"
    assert events == [
        Step("dc1", "vllm", title, "began"),
        Output("dc1", "Resolved 142 packages", "vllm"),
        Output("dc1", " + vllm==0.32.0", "vllm"),
        Step("dc1", "vllm", title, "working", "trying it out"),
        Note("dc1", "the driver is old"),
        Step("dc1", "vllm", title, "working", "vLLM 0.32.0"),
        Step("dc1", "vllm", title, "done", "vLLM 0.32.0"),
    ]


def test_steps_side_by_side_are_told_apart() -> None:
    _, events = read(
        "==> packages: Installing build tools",
        "==> uv: Installing uv",
        "    packages * waiting for the apt that holds the lock",
        "    uv * installed uv",
        "<== uv: done",
        "    packages * 412 MB",
        "<== packages: skipped",
        "==> ready: vLLM 0.32.0",
    )
    assert events[2:] == [
        Step("dc1", "packages", "Installing build tools", "waiting", "waiting for the apt that holds the lock"),
        Step("dc1", "uv", "Installing uv", "working", "installed uv"),
        Step("dc1", "uv", "Installing uv", "done", "installed uv"),
        Step("dc1", "packages", "Installing build tools", "working", "412 MB"),
        Step("dc1", "packages", "Installing build tools", "skipped", "412 MB"),
    ]


def test_the_reason_is_the_first_one_of_the_first_step_that_failed() -> None:
    script, events = read(
        "==> packages: Installing build tools",
        "==> vllm: Installing vLLM",
        "    packages | E: no space left",
        "    packages x / is full",
        "    packages x it ended with 100",
        "<== packages: failed 12",
        "    vllm x terminated",
        "<== vllm: stopped",
    )
    assert script.reason == script.last_words() == "/ is full"
    assert events[-2:] == [
        Step("dc1", "packages", "Installing build tools", "failed", "/ is full"),
        Step("dc1", "vllm", "Installing vLLM", "stopped"),
    ]


def test_a_step_that_fails_without_a_word_is_named() -> None:
    script, _ = read("==> uv: Installing uv", "<== uv: failed 15")
    assert script.last_words() == "Installing uv failed"


def test_what_never_ended_was_stopped() -> None:
    script, _ = read("==> packages: Installing build tools", "==> uv: Installing uv", "<== uv: done")
    assert list(script.end()) == [Step("dc1", "packages", "Installing build tools", "stopped")]
    assert list(script.end()) == []


@pytest.mark.parametrize(
    ("lines", "last_words"),
    [
        (
            ["Welcome to Ubuntu", "", "This account is currently not available.", ""],
            "This account is currently not available.",
        ),
        (["Welcome to Ubuntu", "error: unknown argument `--x`", "bye"], "unknown argument `--x`"),
        (["    vllm | before any step", "<== vllm: done"], "<== vllm: done"),
        ([], ""),
    ],
)
def test_noise_is_no_event_but_may_be_all_that_there_is_to_say(lines: list[str], last_words: str) -> None:
    script, events = read(*lines)
    assert events == []
    assert script.last_words() == last_words


def test_a_program_that_prints_like_the_script_is_not_believed() -> None:
    _, events = read("==> uv: Installing uv", "    uv | <== uv: failed 15", "    uv |     uv x lies")
    assert events[1:] == [Output("dc1", "<== uv: failed 15", "uv"), Output("dc1", "    uv x lies", "uv")]


def test_lines_are_put_together_from_any_pieces() -> None:
    text = "==> uv: Instälé\r\n    uv | 日本\n\nrest".encode() + b"\xff"
    for size in (1, 2, 3, len(text)):
        lines = Lines()
        found = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size])]
        assert [*found, *lines.end()] == ["==> uv: Instälé", "    uv | 日本", "", "rest\ufffd"]
        assert list(lines.end()) == []


def test_a_line_that_never_ends_is_not_kept_for_ever() -> None:
    lines = Lines()
    found = [len(line) for _ in range(3) for line in lines.feed(b"x" * LONGEST)]
    assert found == [2 * LONGEST]
