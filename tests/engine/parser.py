"""Ask the pod's real vLLM about arguments, with the program that a start uses."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from pi_cli.store import paths
from tests.engine.conftest import Engine

# Also prints the names that vLLM knows and its parser does not check.
QUESTION = """
from vllm import envs
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

print("ANSWER", json.dumps({
    "said": [judged(["serve", *words]).get("said") for words in json.load(sys.stdin)],
    "tool_call_parser": ToolParserManager.list_registered(),
    "reasoning_parser": ReasoningParserManager.list_registered(),
    "environment": list(envs.environment_variables),
}))
"""


def ask(engine: Engine, lists: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what vLLM says about each `[model, *arguments]` (None if it accepts them), and the names that it knows."""
    assert engine.setup.code == 0, engine.setup.err
    program = paths.asset("remote/parse_arguments.py").read_text(encoding="utf-8").partition("\nif __name__")[0]
    command = f"VLLM_TARGET_DEVICE=cpu ~/venv/bin/python -c {shlex.quote(program + QUESTION)}"
    done = engine.pod.run(command, input=json.dumps([list(words) for words in lists]), timeout=500)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stderr
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix("ANSWER "))
    return answer
