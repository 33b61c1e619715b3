"""What each command loads: the time that it takes to begin."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands.app import Commands, app

SSH = {"asyncssh", "cryptography"}
HTTP = {"httpx2", "openai"}
HEAVY = SSH | HTTP | {"rich", "pydantic", "huggingface_hub", "prompt_toolkit", "filelock", "yaml", "tomllib"}
# What a plain line of list, logs, stop and ssh does without: `_ssl` is the library behind `ssl`.
PLAIN = HEAVY - SSH | {"typer", "_ssl", "argparse", "asyncssh.sftp", "asyncssh.scp"}
PLAIN |= {"pi_cli.commands.app", "pi_cli.view.checklist"}
GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
MODEL = {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 7}
STATE = {"pods": {"dc1": {"ssh": "ssh -p 9 root@127.0.0.1", "gpus": [GPU], "models": {"q": MODEL}}}, "active": "dc1"}
PROGRAM = """
import json, os, sys
before = os._exit
def tell(code):
    print(json.dumps(list(sys.modules)), file=sys.__stderr__, flush=True)
    before(code)
os._exit = tell
sys.argv[1:] = json.loads(sys.argv[1])
from pi_cli.__main__ import run
run()
"""


def loaded(*words: str, **environ: str) -> set[str]:
    """Return the modules that are loaded when a command ends."""
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir(exist_ok=True)
    (folder / "pods.json").write_text(json.dumps(STATE))
    command = [sys.executable, "-c", PROGRAM, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environ)
    return set(json.loads(done.stderr.splitlines()[-1]))


def commands(command: TyperGroup, *before: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in command.list_commands(Context(command)):
        each = command.get_command(Context(command), name)
        found += [(*before, *name.split()), *(commands(each, *before, name) if isinstance(each, TyperGroup) else [])]
    return found


PI: Any = get_command(app)


@pytest.mark.parametrize("words", [(), *commands(PI)], ids=" ".join)
def test_help_loads_one_command_and_typer(words: Sequence[str]) -> None:
    modules = loaded(*words, "--help")
    assert not modules & (HEAVY | {"asyncio", "pi_cli.events", "pi_cli.models", "pi_cli.chat"})
    ours = {each for each in modules if each.startswith("pi_cli.commands.")}
    assert len({name.split(".")[-1] for name in ours} & {command.location.split(".")[0] for command in TABLE}) <= 1


TABLE = list(Commands.table.values())


@pytest.mark.parametrize("words", [["pods"], ["pods", "list"], ["pods", "--json"]], ids=" ".join)
def test_the_list_of_pods_loads_not_even_typer(words: Sequence[str]) -> None:
    assert not loaded(*words) & (HEAVY | {"asyncio", "typer"})


@pytest.mark.parametrize(
    "shell",
    [
        {"_PI_COMPLETE": "complete_bash", "COMP_WORDS": "pi stop ", "COMP_CWORD": "2"},
        {"_PI_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "pi stop "},
    ],
    ids=["bash", "zsh"],
)
def test_names_of_models_are_completed_without_typer(shell: dict[str, str]) -> None:
    assert not loaded(**shell) & (HEAVY | {"asyncio", "typer"})


@pytest.mark.parametrize("line", ["pi start ", "pi models qwen3"])
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_models_of_the_catalogue_are_completed_without_typer_and_without_parsing_it(shell: str, line: str) -> None:
    pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": "2", "_TYPER_COMPLETE_ARGS": line}
    unwanted = HEAVY | {"asyncio", "typer", "difflib", "pi_cli.planning.catalogue", "pi_cli.planning.gpu_types"}
    assert not loaded(**pressed) & unwanted


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["models", "--gpu", "1x L4"], SSH | HTTP | {"rich.live", "pydantic", "huggingface_hub"}),
        (["models", "Qwen3-8B", "--gpu", "1x L4"], SSH | HTTP | {"rich.live", "pydantic", "huggingface_hub"}),
        (["list"], PLAIN),
        (["list", "--json", "--all", "-p", "dc1"], PLAIN),
        (["list", "--no-check"], PLAIN | SSH | {"asyncio"}),
        (["list", "--no-check", "--json"], PLAIN | SSH | {"asyncio"}),
        (["top"], HTTP | {"pydantic", "huggingface_hub", "prompt_toolkit", "markdown_it", "rich.live"}),
        (["logs", "q"], PLAIN),
        (["logs", "dc1/q", "-n", "1", "--no-follow"], PLAIN),
        (["stop", "q"], PLAIN - {"filelock"}),
        (["ssh", "dc1", "true"], PLAIN | {"asyncssh", "cryptography"}),
        (["prompt", "q", "hi"], {"openai", "pydantic", "huggingface_hub"}),
        (["pods", "active", "dc1"], SSH | HTTP | {"pydantic", "huggingface_hub"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_loads_what_it_needs_only(words: list[str], unwanted: set[str]) -> None:
    assert not loaded(*words, PATH=str(Path(sys.executable).parent)) & unwanted


def test_asyncssh_is_loaded_without_compilers() -> None:
    program = "import sys; sys.addaudithook(lambda event, _: event == 'subprocess.Popen' and print(event)); "
    command = [sys.executable, "-c", program + "import pi_cli.ssh.login"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", Commands.table)
def test_the_help_of_all_begins_as_the_help_of_each(name: str) -> None:
    each = PI.get_command(Context(PI), name)
    assert each
    assert " ".join((each.help or "").split("\n\n")[0].split()) == Commands.table[name].help
