"""vLLM's own parser on lines of arguments: pi reads them in the same way, and knows which options take JSON."""

import json
import shlex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pi_cli.vllm import abilities, json_options, vllm_options
from tests.engine.conftest import Engine
from tests.vllm.option_lines import lines, meaning

KNOWN = abilities.shipped().options
LINES = 1500

# Reads lists of arguments, and prints for each what the parser of `vllm serve` stores: only what is given, as typed,
# without the types and choices of values. Then prints which options accept and refuse texts that are JSON or not.
QUESTION = """
import argparse, contextlib, io, json, sys
from vllm.entrypoints.cli.serve import cmd_init
from vllm.utils.argparse_utils import FlexibleArgumentParser

def made():
    parser = FlexibleArgumentParser()
    [serve] = cmd_init()
    return parser, serve.subparser_init(parser.add_subparsers(dest="subparser"))

def accepts(action, text):
    try:
        return action.type(text) is not None
    except Exception:
        return False

_, serve = made()
typed = [action for action in serve._actions if action.type not in (None, str, int, float)]
objects = [action.option_strings[0] for action in typed
           if accepts(action, "{}") and not accepts(action, '{"a": }') and not accepts(action, "{a}")]

parser, serve = made()
names = {action.dest: action.option_strings[0] for action in serve._actions if action.option_strings}
for action in serve._actions:
    action.type = action.choices = None
    action.default = argparse.SUPPRESS
    if type(action).__module__ != "argparse" or isinstance(action, argparse._AppendAction):
        action.__class__ = argparse._StoreAction

def stored(arguments):
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            read = vars(parser.parse_args(["serve", "m", *arguments]))
    except (Exception, SystemExit):
        return "refused"
    return {names[dest]: value for dest, value in read.items() if dest in names}

print("ANSWER", json.dumps({"stored": [stored(each) for each in json.load(sys.stdin)], "objects": objects}))
"""


def examples() -> list[list[str]]:
    """Return generated lines, always the same."""
    found: list[list[str]] = []

    @settings(
        max_examples=LINES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(lines(KNOWN))
    def collect(arguments: list[str]) -> None:
        found.append(arguments)

    collect()
    return found


@pytest.fixture(scope="module")
def answer(engine: Engine) -> dict[str, Any]:
    assert engine.setup.code == 0, engine.setup.err
    command = f"VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -c {shlex.quote(QUESTION)}"
    done = engine.pod.run(command, input=json.dumps(examples()), timeout=500)
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert answers, done.stderr
    found: dict[str, Any] = json.loads(answers[-1].removeprefix("ANSWER "))
    return found


def without_json(stored: Any, arguments: list[str]) -> Any:
    """Return what vLLM stores, with `JSON` in place of values that it has joined from parts."""
    if stored == "refused":
        return stored
    joined = {
        reading.option.names[0] for reading in vllm_options.read(arguments, KNOWN) if reading.key and reading.option
    }
    return {name: "JSON" if name in joined else value for name, value in stored.items()}


def test_vllm_reads_every_line_as_pi_does(answer: dict[str, Any]) -> None:
    pairs = list(zip(examples(), answer["stored"], strict=True))
    assert sum(stored != "refused" for _, stored in pairs) > LINES / 20
    wrong = [
        (arguments, ours, vllms)
        for arguments, stored in pairs
        if (ours := meaning(vllm_options.read(arguments, KNOWN))) != (vllms := without_json(stored, arguments))
    ]
    assert wrong == []


def test_the_options_that_take_json_objects_are_those_of_vllm(answer: dict[str, Any]) -> None:
    assert set(answer["objects"]) - json_options.LISTS == json_options.OBJECTS
