"""What the lines of `remote/pod_setup.sh` mean."""

from dataclasses import astuple

import pytest

from pi_cli.events import Announced, Counted, Event, Note, Output, Step
from pi_cli.pods.steps import MAX_LINE, LineBuffer, Script
from tests.hostile.driver import CONTROLS
from tests.hostile.mutants import ESCAPES


def read(*lines: str) -> tuple[Script, list[Event]]:
    script = Script("dc1")
    return script, [event for line in lines if (event := script.read(line))]


def test_a_step_begins_reports_progress_and_ends_with_its_last_message() -> None:
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


def test_a_step_says_what_it_downloads_and_how_far_it_is() -> None:
    _, events = read(
        "==> vllm: Installing vLLM",
        "    vllm ~ 4000000000 120 300",
        "    vllm ~ 69600000 0 0",
        "    vllm % 3200000000 4000000000 bytes",
        "    vllm % 1000 0 bytes",
        "    vllm % 12 45 packages unpacked",
        "    vllm %",
    )
    assert events[1:] == [
        Announced("dc1", "vllm", 4_000_000_000, (120, 300)),
        Announced("dc1", "vllm", 69_600_000, None),
        Counted("dc1", "vllm", 3_200_000_000, 4_000_000_000, "bytes"),
        Counted("dc1", "vllm", 1000, None, "bytes"),
        Counted("dc1", "vllm", 12, 45, "packages unpacked"),
        Counted("dc1", "vllm"),
    ]


@pytest.mark.parametrize(
    "text", ["~ 4", "~ -1 0 0", "~ 1 2 x", "~", "% 12", "% 1 2 \x1b[2J", f"% {10**15} 1 bytes", "% -1 2 b"]
)
def test_numbers_that_are_not_the_scripts_are_not_events(text: str) -> None:
    _, events = read("==> vllm: Installing vLLM", f"    vllm {text}")
    assert events[1:] == []


def test_steps_that_run_at_the_same_time_are_distinguished() -> None:
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
    assert script.reason == script.failure() == "/ is full"
    assert events[-2:] == [
        Step("dc1", "packages", "Installing build tools", "failed", "/ is full"),
        Step("dc1", "vllm", "Installing vLLM", "stopped"),
    ]


def test_a_step_that_fails_without_a_reason_is_named() -> None:
    script, _ = read("==> uv: Installing uv", "<== uv: failed 15")
    assert script.failure() == "Installing uv failed"


def test_a_step_that_never_ended_is_reported_as_stopped() -> None:
    script, _ = read("==> packages: Installing build tools", "==> uv: Installing uv", "<== uv: done")
    assert list(script.end()) == [Step("dc1", "packages", "Installing build tools", "stopped")]
    assert list(script.end()) == []


@pytest.mark.parametrize(
    ("lines", "failure"),
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
def test_a_line_outside_steps_is_not_an_event_but_may_be_the_only_reason(lines: list[str], failure: str) -> None:
    script, events = read(*lines)
    assert events == []
    assert script.failure() == failure


def test_a_program_that_prints_lines_like_those_of_the_script_is_not_believed() -> None:
    _, events = read("==> uv: Installing uv", "    uv | <== uv: failed 15", "    uv |     uv x lies")
    assert events[1:] == [Output("dc1", "<== uv: failed 15", "uv"), Output("dc1", "    uv x lies", "uv")]


def test_lines_are_assembled_from_chunks_of_any_size() -> None:
    text = "==> uv: Instälé\r\n    uv | 日本\n\nrest".encode() + b"\xff"
    for size in (1, 2, 3, len(text)):
        buffer = LineBuffer()
        lines = [line for at in range(0, len(text), size) for line in buffer.feed(text[at : at + size])]
        assert [*lines, *buffer.end()] == ["==> uv: Instälé", "    uv | 日本", "", "rest\ufffd"]
        assert list(buffer.end()) == []


def test_a_line_that_never_ends_is_passed_on_in_parts() -> None:
    buffer = LineBuffer()
    lengths = [len(line) for _ in range(3) for line in buffer.feed(b"x" * MAX_LINE)]
    assert lengths == [2 * MAX_LINE]


@pytest.mark.parametrize("evil", ESCAPES.values(), ids=ESCAPES)
def test_nothing_that_the_script_prints_can_steer_a_terminal(evil: str) -> None:
    script, events = read(
        f"==> vllm: Installing{evil}",
        *(f"    vllm {kind} text{evil}" for kind in "|*!x"),
        f"    vllm > --home /data{evil}",
        f"    vllm ~ 1 2 3{evil}",
        "<== vllm: failed 3",
        f"error: {evil}",
        f"last {evil}",
    )
    assert len(events) == 5
    texts = [text for event in events for text in astuple(event) if isinstance(text, str)]
    assert not [text for text in [*texts, script.failure()] if CONTROLS.search(text)]
    assert (script.other_home, "text" in script.failure()) == ("", True)
