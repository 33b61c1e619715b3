"""The program that asks vLLM's parser, with the simulated package; `tests/engine` has the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import parse_arguments
import pytest
from agent import arguments

from pi_cli.demo.engine import package
from pi_cli.pods import bare_source
from pi_cli.store import paths

PROGRAM = bare_source.bare(paths.asset("remote/parse_arguments.py").read_text(encoding="utf-8"))  # as it is sent


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package.write(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def ask(*words: str) -> "subprocess.CompletedProcess[str]":
    question = json.dumps(["serve", "m/m", *words]) + "\n"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(question)
        process.stdin.flush()  # and it stays open, as the agent keeps it
        out, err = process.stdout.read(), process.stderr.read()
        return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def answer(*words: str) -> Any:
    return json.loads(ask(*words).stdout)


@pytest.mark.usefixtures("packages")
def test_accepted_words_give_an_empty_answer() -> None:
    assert answer("--max-model-len", "4096", "-tp", "2", "--no-enable-log-requests") == {}


@pytest.mark.usefixtures("packages")
def test_refused_words_give_the_parsers_error_and_its_options() -> None:
    refused = answer("--max-model-len", "much")
    assert refused["said"] == "argument --max-model-len: invalid human_readable_int_or_auto value: 'much'"
    assert {"--max-model-len", "-tp", "--no-enforce-eager"} <= set(refused["options"])


def test_what_vllm_prints_while_it_is_imported_is_not_part_of_the_answer(packages: Path) -> None:
    with (packages / "vllm" / "__init__.py").open("a") as file:
        file.write("import os\nprint('hello')\nos.system('echo hello')\n")
    assert answer("--max-model-len", "4096") == {}


def test_a_vllm_that_cannot_be_imported_gives_no_answer(packages: Path) -> None:
    (packages / "vllm" / "__init__.py").write_text("import torch_is_missing\n")
    ended = ask("--bogus")
    assert (ended.stdout, ended.returncode) == ("", 1)


def test_a_parser_that_is_used_wrongly_gives_no_answer(packages: Path) -> None:
    (packages / "vllm" / "entrypoints/cli/serve.py").write_text("def cmd_init(more): return []\n")
    assert ask("--bogus").stdout == ""


def test_a_file_in_the_working_directory_is_not_taken_for_a_module(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages
    (tmp_path / "home2").mkdir()
    monkeypatch.chdir(tmp_path / "home2")
    Path("argparse.py").write_text("raise RuntimeError\n")
    assert answer("--max-model-len", "4096") == {}


def test_it_ends_with_its_stdin(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo" / "vllm.json").write_text('{"import": 600}')
    done = subprocess.run([sys.executable, "-c", PROGRAM], input='["serve", "m/m"]\n', text=True, timeout=30)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("value", "bounds", "reason"),
    [
        (0.9, {"gt": 0, "le": 1}, ""),
        (2.0, {"gt": 0, "le": 1}, "must be at most 1, not 2.0"),
        (0, {"gt": 0, "le": 1}, "must be more than 0, not 0"),
        (-1, {"ge": -1}, ""),
        (-5, {"ge": -1}, "must be at least -1, not -5"),
        (1.0, {"lt": 1.0}, "must be less than 1.0, not 1.0"),
        (7, {}, ""),
    ],
)
def test_a_number_out_of_bounds_is_refused(value: float, bounds: dict[str, float], reason: str) -> None:
    metadata = [SimpleNamespace(**{name: limit}) for name, limit in bounds.items()]
    assert parse_arguments.out_of_bounds(value, metadata) == reason


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ("#!{venv}/bin/python3.12\n", "python3.12"),
        ("#!/bin/sh\n", "python"),
        ("#!/no/python\n", None),
        ("\x7fELF", "python"),
    ],
)
def test_the_python_of_a_program_is_that_of_its_first_line_or_beside_it(
    tmp_path: Path, first: str, found: str | None
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("python", "python3", "python3.12"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    program = tmp_path / "bin" / "vllm"
    program.write_text(first.format(venv=tmp_path))
    assert arguments.python_of(str(program)) == (found and str(tmp_path / "bin" / found))


def test_the_verdict_is_another_one_after_a_package_is_installed(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.touch()
    before = arguments.fingerprint(str(program), ["--a"])
    assert arguments.fingerprint(str(program), ["--a"]) == before
    assert arguments.fingerprint(str(program), ["--b"]) != before
    (packages / "plugin").mkdir()
    os.utime(packages, ns=(1, 1))
    assert arguments.fingerprint(str(program), ["--a"]) != before
