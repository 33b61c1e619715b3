"""What pi makes of the errors of vLLM's argument parser: one line, the part at fault, and what to type."""

import json
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.diagnosis import argument_errors
from pi_cli.diagnosis.argument_errors import Rejection
from pi_cli.diagnosis.start_command import StartCommand
from tests.diagnosis.argument_rows import OPTIONS, ROWS, Row
from tests.every import every
from tests.properties import PROPERTY

START = "pi start Qwen/Qwen3-8B --name q --pod dc1 --vllm"
NEAR_PARSERS = "invalid tool call parser: qwen3coder (chose from { hermes,pythonic,qwen3_coder,xlam })"


def explain(own: list[str], said: str) -> Rejection:
    command = StartCommand("Qwen/Qwen3-8B", "q", pod="dc1", own_arguments=tuple(own))
    return argument_errors.explain(said, command, options=OPTIONS, pod="dc1")


@every(ROWS, lambda row: row.typed)
def test_every_error_is_one_line_with_what_to_type(row: Row) -> None:
    found = explain(shlex.split(row.typed), row.said)
    assert (found.problem, found.hint) == (row.problem, row.hint.replace("…", START))
    mark = found.excerpt.splitlines()[-1].index("^") + 1 if found.excerpt else 0
    assert mark == row.place


@every(ROWS, lambda row: row.typed)
def test_every_command_of_a_hint_can_be_pasted(row: Row) -> None:
    for command in re.findall(r"`(pi start [^`]*)`", explain(shlex.split(row.typed), row.said).hint):
        assert shlex.split(command)[: len(START.split())] == START.split()


def test_a_parser_that_is_nearly_right_is_corrected_and_named_first() -> None:
    own = ["--enable-auto-tool-choice", "--tool-call-parser", "qwen3coder"]
    found = explain(own, NEAR_PARSERS)
    listed = "`qwen3_coder`, `hermes`, `pythonic`, `xlam`"
    assert found.problem == f"has no tool-call parser `qwen3coder`: choose from {listed}"
    assert found.hint == f"did you mean `qwen3_coder`? `{START} {' '.join(own[:2])} qwen3_coder`"


def test_a_long_list_is_cut() -> None:
    said = "invalid reasoning parser: x (chose from { " + ",".join(f"parser{number}" for number in range(38)) + " })"
    assert explain(["--reasoning-parser", "x"], said).problem.endswith("`parser7` and 30 more")


@pytest.mark.parametrize("choices", ["'auto', 'half'", "auto, half"])
def test_both_ways_in_which_python_lists_choices_are_understood(choices: str) -> None:
    found = explain(["--dtype", "hal"], f"argument --dtype: invalid choice: 'hal' (choose from {choices})")
    assert found.hint == f"did you mean `half`? `{START} --dtype half`"


def test_the_mark_is_within_the_visible_part_of_a_long_value() -> None:
    value = json.dumps({f"key{number}": number for number in range(100)})[:-1] + ",}"
    found = explain(
        ["--hf-overrides", value],
        f"argument --hf-overrides: Value {value} cannot be converted to <function loads at 0x1>.",
    )
    shown, mark = found.excerpt.splitlines()
    assert shown.endswith(",}")
    assert shown[mark.index("^")] == "}"
    assert len(shown) <= 80


@PROPERTY
@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_whatever_a_pod_says_it_is_one_line(said: str, own: list[str]) -> None:
    found = explain(own, said)
    assert found.problem
    assert found.hint


@PROPERTY
@given(st.sampled_from(ROWS), st.lists(st.text(min_size=1), max_size=3))
def test_known_errors_about_other_words_than_those_typed_are_worded_too(row: Row, own: list[str]) -> None:
    assert explain(own, row.said).problem
