"""Terminals and locales that are not UTF-8: pi writes the nearest text there, and never fails for it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.test_imports import PI, commands

ENCODINGS = ["ascii", "latin-1", "cp1252"]
POD = {"ssh": "ssh root@192.0.2.1", "gpus": [], "models": {}, "price": 2.49, "since": "2026-01-31T13:30:00+00:00"}
# Runs each command line in a fork, so that Python and Typer are imported once.
DRIVER = """
import json, os, sys
import typer
import pi_cli.commands.app
from pi_cli.__main__ import run
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = ["pi", *words]
        run()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"\\n{json.dumps([words, status])}\\n".encode())
"""


def run_all(command_lines: Sequence[Sequence[str]], encoding: str) -> tuple[dict[str, int], str]:
    """Run command lines; return the exit code of each, and the output of all together."""
    command = [sys.executable, "-c", DRIVER, json.dumps(command_lines)]
    environ = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, input=b"", stdout=-1, stderr=subprocess.STDOUT, env=environ, timeout=120)
    output = done.stdout.decode(encoding)  # what a terminal with this encoding can show
    assert done.returncode == 0, output
    codes = [json.loads(line) for line in output.splitlines() if line.startswith("[[")]
    return {" ".join(words): code for words, code in codes}, output


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_shows_its_help_in_every_encoding(encoding: str) -> None:
    lines = [[*words, "--help"] for words in [(), *commands(PI)]]
    codes, output = run_all(lines, encoding)
    assert codes == {" ".join(words): 0 for words in lines}
    assert ("…" in output) == (encoding == "cp1252"), "the only one of these with an ellipsis"
    assert "..." in output or encoding == "cp1252"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_prices_hints_and_json_arrive_in_every_encoding(encoding: str) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    pods = {"dc1": POD | {"currency": "€"}, "dc2": POD | {"provider": "Bücher – 漢字"}}
    (folder / "pods.json").write_text(json.dumps({"pods": pods, "active": "dc1"}))
    lines = [["pods"], ["pods", "--json"], ["check", "ü漢"], ["start"], ["pods", "setup", "dc3", "ssh -Z ü@h"]]
    codes, output = run_all(lines, encoding)
    assert list(codes.values()) == [0, 0, 2, 2, 2]
    assert "Traceback" not in output
    assert "bug in pi" not in output
    assert ("€2.49/h" if encoding == "cp1252" else "EUR 2.49/h") in output
    read = json.JSONDecoder().raw_decode(output[output.index("[\n  {") :])[0]
    assert read[1]["provider"] == "Bücher – 漢字"
