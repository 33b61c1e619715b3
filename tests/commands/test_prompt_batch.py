"""`pi prompt` for programs: batches, JSON schemas, images, files for the answer."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.commands.served import Served
from tests.commands.staying import staying
from tests.conftest import Pi
from tests.until import until

pytestmark = pytest.mark.xdist_group("test_prompt_batch")
PARSERS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture(autouse=True)
def models(served: Served, pi: Pi, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, more in (("q", ""), ("slow", " --simulate rate=10"), ("sees", " --max-model-len 4096")):
        arguments = ["--gpu-memory-utilization", "0.3", "--simulate", "slow=0.1", *(PARSERS + more).split()]
        model = "Qwen/Qwen3-VL-8B-Instruct" if name == "sees" else "Qwen/Qwen3-8B"
        served.started(pi, name, "--vllm", *arguments, model=model)
    work = environment / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def write_batch(*lines: object) -> Path:
    path = Path("batch.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answers(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_answers_on_stdout_in_the_order_of_its_lines(pi: Pi) -> None:
    write_batch("Count to 100", "What is 2+2?", {"id": "f", "prompt": "What is the capital of France?"})
    result = pi("prompt", "q", "--batch", "batch.jsonl", "-j", "3")
    assert result.code == 0, result.err
    first, second, third = answers(result.out)
    assert first["answer"].endswith("99, 100")
    assert (second["line"], second["answer"], second["finish"]) == (2, "4", "stop")
    assert second["reasoning"] == "Simple arithmetic: two plus two is four."
    assert (third["id"], third["answer"]) == ("f", "Paris")
    assert "3 answers · " in result.err
    assert " tok/s" in result.err


def test_a_batch_that_was_interrupted_continues(pi: Pi) -> None:
    write_batch(*["What is 2+2?"] * 4, "Count to 100")
    partial = Path("out.jsonl.partial")
    with staying("prompt", "slow", "--batch", "batch.jsonl", "-j", "2", "--out", "out.jsonl") as batch:
        until(lambda: partial.exists() and len(partial.read_text().splitlines()) >= 2)
        assert batch.end(signal.SIGINT) == 130
        batch.says(" tok/s")
    assert not Path("out.jsonl").exists()
    kept = len(partial.read_text().splitlines())

    write_batch(*["What is 2+2?"] * 4)
    result = pi("prompt", "slow", "--batch", "batch.jsonl", "--out", "out.jsonl")
    assert result.code == 0, result.err
    assert f"4 answers, {kept} of an earlier run" in result.err
    assert [line["line"] for line in answers(Path("out.jsonl").read_text())] == [1, 2, 3, 4]
    assert not partial.exists()


def test_a_batch_refuses_what_it_does_not_have(pi: Pi) -> None:
    write_batch("a")
    result = pi("prompt", "q", "--batch", "batch.jsonl", "--json")
    assert (result.code, result.out) == (2, "")
    assert "error: `--json` cannot be combined with `--batch`" in result.err


def test_the_answer_matches_a_schema_and_goes_to_a_file(pi: Pi) -> None:
    Path("schema.json").write_text(json.dumps({"type": "object", "properties": {"year": {"type": "integer"}}}))
    result = pi("prompt", "q", "--json-schema", "schema.json", "--out", "answer.json", "When?")
    assert (result.code, result.out) == (0, ""), result.err
    assert json.loads(Path("answer.json").read_text()) == {"year": 1}
    responses = pi("prompt", "q", "--api", "responses", "--json-schema", '{"enum": ["a"]}', "Which?")
    assert (responses.code, responses.out) == (0, '"a"\n'), responses.err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--json-schema", "{", "the schema is not JSON: Expecting property name"),
        ("--json-schema", "nowhere.json", "cannot read `nowhere.json`: No such file or directory"),
        ("--image", "nowhere.png", "cannot read `nowhere.png`: No such file or directory"),
        ("--image", "batch.jsonl", "`batch.jsonl` is not an image that pi knows"),
        ("--tool-choice", "rm", "there is no tool `rm`"),
        ("--json-schema={}", "--tool-choice=required", "with `--no-tools` or `--json-schema`, the model has no tool"),
        ("--out", "nowhere/answer", "cannot write `nowhere/answer.partial`: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_refused(pi: Pi, option: str, value: str, message: str) -> None:
    write_batch("a")
    result = pi("prompt", "q", option, value, "Hello")
    assert result.code in (1, 2)
    assert f"error: {message}" in result.err
    assert result.out == ""


def test_an_image_is_sent_to_a_model_that_sees_and_refused_by_others(pi: Pi) -> None:
    Path("plot.png").write_bytes(PNG)
    result = pi("prompt", "q", "--image", "plot.png", "What is 2+2?")
    assert (result.code, result.out) == (1, "")
    assert "error: `q` does not read images: At most 0 image(s) may be provided in one prompt" in result.err
    assert "hint: ask without `--image`, or ask a vision model" in result.err
    for api in ("chat", "responses"):
        seen = pi("prompt", "sees", "--api", api, "--image", "plot.png", "What is 2+2?")
        assert (seen.code, seen.out) == (0, "4\n"), seen.err


def test_no_tool_is_used_if_that_is_chosen_and_no_reasoning_is_done_without_effort(pi: Pi) -> None:
    Path("apples.txt").write_text("red\n")
    result = pi("prompt", "q", "--tool-choice", "none", f"List the files in {Path.cwd()}")
    assert "● ls" not in result.err
    result = pi("prompt", "q", "--reasoning", "none", "What is 2+2?")
    assert (result.code, result.out.strip()) == (0, "4")
    assert "Simple arithmetic" not in result.err
