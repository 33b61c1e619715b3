"""README's quick start runs word for word on a card of 24 GB and on the pod of `pi demo`, and shows what pi prints."""

import re
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.docs import picture, recording
from tests.docs.recording import PROGRESS, Step, normal

PICTURE = picture.PICTURE.read_text(encoding="utf-8")
README = recording.README.read_text(encoding="utf-8")


@pytest.fixture
def new_user(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a key and a token."""
    del environment
    for name in ("PI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize("gpus", [recording.MACHINE, "2x H100 80GB"])
@pytest.mark.usefixtures("new_user")
def test_the_quick_start_ends_with_an_answer_and_nothing_running(gpus: str) -> None:
    with EmbeddedPod(gpus) as pod:
        steps = list(recording.walk(pod, {}))
    assert {step.line: step.screen.rows for step in steps if step.code} == {}
    assert [step.line.split()[1] for step in steps] == ["key", "pods", "start", "list", "prompt", "stop"]
    assert "4" in steps[4].screen.rows
    if gpus == recording.MACHINE:
        readme_and_picture_show(steps)


def readme_and_picture_show(steps: list[Step]) -> None:
    [shown] = picture.BLOCK.findall(README)
    assert normal(shown) == normal(recording.transcript(steps)), "pi prints something else by now: run `make picture`"
    drawn = picture.text(picture.draw(steps))
    assert normal(picture.text(PICTURE)) == normal(drawn), "pi prints something else by now: run `make picture`"


def test_the_picture_is_small_and_fetches_nothing() -> None:
    assert len(PICTURE.encode()) <= 30_000
    addresses = set(re.findall(r"https?://[\w.]+", PICTURE))
    assert addresses == {"http://www.w3.org", "http://127.0.0.1"}  # the namespace of SVG, and the URL that pi prints
    assert "prefers-color-scheme: dark" in PICTURE
    assert "@import" not in PICTURE
    assert "@font-face" not in PICTURE


def test_what_differs_between_two_runs_is_not_compared() -> None:
    run = "dc1  0:04  loading weights\nnote: `oss` took 12s: starting vLLM 1s, compiling 9s\nready `oss` on `dc1`: http://127.0.0.1:8251/v1\n"
    other = "dc1  1:04  compiling\nnote: `oss` took 1m2s\nready `oss`  on `dc1`: http://127.0.0.1:8001/v1\n"
    assert PROGRESS.search(run)
    assert normal(run) == normal(other)
    assert normal(run) != normal(other.replace("ready", "started"))
