"""vLLM itself on what `models.md` says: its argument parser, its parsers' names, its environment variables."""

import json
import shlex
from typing import Any

import pytest

from pi_cli.planning import catalogue
from pi_cli.store import paths
from tests.engine.conftest import Engine

# Reads [[model, arguments], …] and prints what `vllm serve` says about each before it would load anything.
QUESTION = """
import argparse, contextlib, io, json, sys
from vllm import envs
from vllm.entrypoints.cli.serve import cmd_init
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
commands = parser.add_subparsers(dest="subparser")
[serve] = cmd_init()
serve.subparser_init(commands)

def complaint(model, arguments):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            read = parser.parse_args(["serve", model, *arguments])
            serve.validate(read)
    except (Exception, SystemExit) as error:
        return said.getvalue() or repr(error)

print("ANSWER", json.dumps({
    "complaints": [said for each in json.load(sys.stdin) if (said := complaint(*each))],
    "tool_call_parser": ToolParserManager.list_registered(),
    "reasoning_parser": ReasoningParserManager.list_registered(),
    "environment": list(envs.environment_variables),
}))
"""


def entries() -> list[catalogue.Entry]:
    return list(catalogue.parse(paths.asset("models.md").read_text(encoding="utf-8")))


def argument_lists(entry: catalogue.Entry) -> list[tuple[str, ...]]:
    """Return a model's configurations, and each with speculative decoding where it is offered."""
    lists = [configuration.args for configuration in entry.hardware]
    if entry.speculative:
        lists += [(*arguments, "--speculative-config", entry.speculative) for arguments in lists]
    return lists


@pytest.fixture(scope="module")
def answer(engine: Engine) -> dict[str, Any]:
    """Ask the pod's vLLM once about every configuration, with one that is wrong at the end."""
    assert engine.setup.code == 0, engine.setup.err
    asked = [[entry.id, arguments] for entry in entries() for arguments in argument_lists(entry)]
    asked.append(["no/model", ["--swap-space", "4"]])
    command = f"VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -c {shlex.quote(QUESTION)}"
    done = engine.pod.run(command, input=json.dumps(asked), timeout=500)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stderr
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("ANSWER "))
    return found


def test_vllm_accepts_every_argument_list_of_the_catalogue(answer: dict[str, Any]) -> None:
    *complaints, about_the_wrong_one = answer["complaints"]
    assert complaints == []
    assert "unrecognized arguments: --swap-space" in about_the_wrong_one


@pytest.mark.parametrize("kind", ["tool_call_parser", "reasoning_parser"])
def test_vllm_has_every_parser_of_the_catalogue(answer: dict[str, Any], kind: str) -> None:
    named = {name for entry in entries() if (name := getattr(entry, kind))}
    assert named - set(answer[kind]) == set()


def test_vllm_reads_every_environment_variable_of_the_catalogue(answer: dict[str, Any]) -> None:
    named = {name for entry in entries() for configuration in entry.hardware for name in configuration.env}
    assert named - set(answer["environment"]) == set()
