"""What follows `--vllm` is understood before a pod is asked: every line of docs/vllm-arguments.md."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Pi, Result

PAGE = (Path(__file__).parents[2] / "docs" / "vllm-arguments.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.*)` \| (planned|refused): (.*) \|$", PAGE, re.MULTILINE)
GPU = {"name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
START = ("start", "Qwen/Qwen3-8B", "--name", "q")
FINAL = (
    "several options",
    "needs a value",
    "print its help",
    "takes a number",
    "expecting value",
)  # hints without a command


@pytest.fixture(autouse=True)
def unreachable_pod() -> None:
    """Register a pod on a port where no server listens: a command that asks it exits with 3."""
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    gpus = [{"id": id, **GPU} for id in range(8)]
    pod = {"ssh": "ssh -p 9 root@127.0.0.1", "gpus": gpus, "models": {}}
    state = {"pods": {"dc1": pod, "l40s": pod}, "active": "dc1"}
    (folder / "pods.json").write_text(json.dumps(state))


def commands(result: Result) -> list[list[str]]:
    """Return the corrected starts in a hint."""
    return [shlex.split(start)[1:] for start in re.findall(r"`(pi (?:--\S+ )?start Qwen[^`]*)`", result.err)]


def test_the_page_has_the_lines_of_the_findings() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize(("line", "outcome", "said"), ROWS, ids=[row[0] for row in ROWS])
def test_a_line_has_the_outcome_of_the_page(pi: Pi, line: str, outcome: str, said: str) -> None:
    words = shlex.split(line)
    if outcome == "planned":
        [plan] = pi(*START, "--dry-run", "--json", "--vllm", *words).json
        assert f"{len(plan['gpus'])} GPU{'s' if len(plan['gpus']) > 1 else ''}" == said
        return
    result = pi(*START, "--vllm", *words)
    assert result.code == 2, result.err
    assert result.err.startswith(f"error: {said}")
    for corrected in commands(result):
        again = pi(*corrected, *([] if "--vllm" in corrected else ["--dry-run"]), TEAM_KEY="team-key-0123456789")
        assert again.code in (0, 3), f"{corrected}: {again.err}"
    assert commands(result) or "pi start --" in result.err or re.search("|".join(FINAL), result.err)


def test_an_option_of_pi_is_moved_with_its_value_and_keeps_the_others(pi: Pi) -> None:
    words = ["--pod", "l40s", "--max-model-len", "8192", "--dry-run", "--enforce-eager"]
    result = pi(*START, "--private", "--vllm", *words)
    assert result.code == 2
    moved = ["--private", "--pod", "l40s", "--dry-run", "--vllm", "--max-model-len", "8192", "--enforce-eager"]
    assert commands(result) == [[*START, *moved]]


def test_what_pi_and_vllm_call_differently_is_translated(pi: Pi) -> None:
    result = pi(*START, "--vllm", "--gpus", "2", "--context", "32k", "--memory", "50%", "--enforce-eager")
    vllms = ["--tensor-parallel-size", "2", "--max-model-len", "32768", "--gpu-memory-utilization", "0.50"]
    assert commands(result) == [[*START, "--vllm", *vllms, "--enforce-eager"]]


def test_a_missing_name_is_in_the_corrected_command(pi: Pi) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--vllm", "--enforce-eager", "--detach")
    [words] = commands(result)
    assert words[:3] == ["start", "Qwen/Qwen3-8B", "--name"]
    assert words[4:] == ["--detach", "--vllm", "--enforce-eager"]


def test_invalid_json_is_marked_at_its_place(pi: Pi) -> None:
    value = '{"rope_parameters": {"factor": 4.0,}}'
    result = pi(*START, "--vllm", "--hf-overrides", value)
    lines = result.err.splitlines()
    assert lines[1] == f"  {value}"
    assert lines[2].index("^") - 2 in (value.index(",}"), value.index("}}"))


def test_python_instead_of_json_is_corrected(pi: Pi) -> None:
    result = pi(*START, "--vllm", "--hf-overrides", "{'a': True, 'b': None}")
    assert commands(result) == [[*START, "--vllm", "--hf-overrides", '{"a": true, "b": null}']]


def test_a_secret_in_a_variable_is_not_shown(pi: Pi) -> None:
    for words in (["HF_TOKEN=hf_secret"], ["--api-key", "sk-secret"], ["--api-k=sk-secret"]):
        assert "secret" not in pi(*START, "--vllm", *words).err


def test_a_short_form_is_written_out_and_the_plan_says_so(pi: Pi) -> None:
    result = pi(*START, "--dry-run", "--json", "--vllm", "--tensor-parallel=2", "--max-model", "4096", "-O3")
    [plan] = result.json
    assert plan["command"].endswith("--tensor-parallel-size=2 --max-model-len 4096 -O3")
    assert "`--max-model` is read as `--max-model-len`" in plan["reasons"]


def test_a_model_that_is_given_to_vllm_is_moved_to_its_place(pi: Pi) -> None:
    result = pi("start", "--name", "q", "--vllm", "--max-model-len", "8k", "--model", "Qwen/Qwen3-4B")
    assert result.err.startswith("error: no model is given\n")
    assert commands(result) == [["start", "Qwen/Qwen3-4B", "--name", "q", "--vllm", "--max-model-len", "8k"]]


def test_names_of_an_older_vllm_on_the_pod_are_not_refused(pi: Pi) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    words = (*START, "--dry-run", "--vllm", "--swap-space", "4")
    assert pi(*words).code == 2
    state["pods"]["dc1"]["vllm"] = "0.10.0"
    path.write_text(json.dumps(state))
    assert pi(*words).code == 0
