"""Shell completion of names, from local state."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer._completion_classes import completion_init

from pi_cli.commands.app import app
from tests.conftest import Pi

STATE = {
    "pods": {
        "dc1": {"ssh": "ssh a", "gpus": [], "models": {"qwen": {"model": "m", "port": 8001, "gpu": "0", "pid": 1}}},
        "lab": {"ssh": "ssh b", "gpus": [], "models": {}},
    },
    "active": "dc1",
}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pi stop ", ["qwen"]),
        ("pi prompt q", ["qwen"]),
        ("pi logs x", []),
        ("pi pods active ", ["dc1", "lab"]),
        ("pi list --pod l", ["lab"]),
    ],
)
def test_names_are_completed(pi: Pi, words: str, offered: list[str]) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps(STATE))
    count = len(words.split()) - (0 if words.endswith(" ") else 1)
    result = pi(_PI_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
    assert result.out.split() == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_models_are_completed_as_they_are_found(pi: Pi, shell: str) -> None:
    """NAME where that is enough, else POD/NAME; PI_POD counts more than the active pod."""
    model = {"model": "m", "port": 8001, "gpu": "0", "pid": 1}
    models = {"dc1": ["q"], "dc2": ["q", "glm", "r"], "dc3": ["r"]}
    pods = {pod: {"ssh": "ssh a", "gpus": [], "models": dict.fromkeys(names, model)} for pod, names in models.items()}
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps({"pods": pods, "active": "dc1"}))
    for line, chosen, offered in (
        ("pi stop ", "", {"q", "glm", "dc2/r", "dc3/r"}),
        ("pi stop ", "dc2", {"q", "glm", "r"}),
        ("pi stop d", "", {"dc1/q", "dc2/q", "dc2/glm", "dc2/r", "dc3/r"}),
        ("pi logs dc2/", "", {"dc2/q", "dc2/glm", "dc2/r"}),
        ("pi start --attach dc2/g", "", {"dc2/glm"}),
    ):
        count = str(len(line.split()) - (0 if line.endswith(" ") else 1))
        pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": count}
        out = pi(**pressed, _TYPER_COMPLETE_ARGS=line, _TYPER_COMPLETE_FISH_ACTION="get-args", PI_POD=chosen).out
        names = (
            re.findall(r'"([\w./-]+)":"', out) if shell == "zsh" else [row.split("\t")[0] for row in out.split("\n")]
        )
        assert {name for name in names if name} == offered, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_name_that_pi_does_not_allow_is_not_offered(pi: Pi, shell: str) -> None:
    """A shell would evaluate it: zsh, what is in `$(…)`, at the press of Tab."""
    wrong = ["x\\$(touch PWNED)", "x;touch PWNED;", "../x", "--xall", "x y", "x`id`"]
    model = {"model": "m", "port": 8001, "gpu": "0", "pid": 1}
    pod = {"ssh": "ssh a", "gpus": [], "models": dict.fromkeys([*wrong, "xyz"], model)}
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps({"pods": dict.fromkeys([*wrong, "xyz"], pod), "active": "xyz"}))
    for line in ("pi stop ", "pi stop x", "pi logs x", "pi list --pod x", "pi pods active "):
        count = str(len(line.split()) - (0 if line.endswith(" ") else 1))
        pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": count}
        offered = pi(**pressed, _TYPER_COMPLETE_ARGS=line, _TYPER_COMPLETE_FISH_ACTION="get-args").out
        assert "xyz" in offered, line
        assert not re.search(r"PWNED|id|\.\./|xall|x y", offered), line


H100 = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
L4 = {"id": 0, "name": "NVIDIA L4", "memory": "24GB"}


@pytest.mark.parametrize(
    ("gpu", "words", "offered", "not_offered"),
    [
        (H100, "pi start openai/gpt-oss-", ["openai/gpt-oss-120b", "openai/gpt-oss-20b"], []),
        (H100, "pi start gpt-oss-1", ["gpt-oss-120b"], ["openai/gpt-oss-120b"]),
        (H100, "pi models qwen3-3", ["qwen3-32b"], ["Qwen/Qwen3-32B"]),
        (H100, "pi models Qwen3-3", ["Qwen3-32B"], ["qwen3-32b"]),
        (L4, "pi start openai/gpt-oss-", ["openai/gpt-oss-20b"], ["openai/gpt-oss-120b"]),
        (L4, "pi start openai/gpt-oss-1", ["openai/gpt-oss-120b"], []),
        (L4, "pi start ", ["Qwen/Qwen3-0.6B"], ["qwen3-0.6b", "Qwen3-0.6B", "openai/gpt-oss-120b"]),
        (L4, "pi start xyz", [], ["Qwen/Qwen3-0.6B"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_models_of_the_catalogue_are_completed_those_that_may_fit_first(
    pi: Pi, shell: str, gpu: object, words: str, offered: list[str], not_offered: list[str]
) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(
        json.dumps({"pods": {"dc1": {"ssh": "ssh a", "gpus": [gpu], "models": {}}}, "active": "dc1"})
    )
    pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "2"}
    out = pi(**pressed, _TYPER_COMPLETE_ARGS=words, _TYPER_COMPLETE_FISH_ACTION="get-args").out
    names = re.findall(r"[\w./-]+", out)
    assert set(offered) <= set(names)
    assert not set(not_offered) & set(names)


def test_completion_is_silent_when_the_state_is_broken(pi: Pi) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text("{")
    result = pi(_PI_COMPLETE="complete_bash", COMP_WORDS="pi stop ", COMP_CWORD="2")
    assert (result.out.strip(), result.err) == ("", "")


@pytest.mark.parametrize("begun", ["", "q", "x", "--p"])
@pytest.mark.parametrize(
    "command", ["stop", "logs", "prompt", "run", "env", "forward", "check", "start", "models", "ssh", "list"]
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_is_answered_without_typer_is_what_typer_says(
    pi: Pi, shell: str, command: str, begun: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps(STATE))
    line = f"pi {command} {begun}"
    pressed = {"_PI_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": "2"}
    pressed |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answer = pi(**pressed).out
    for name, value in pressed.items():
        monkeypatch.setenv(name, value)
    completion_init()
    with pytest.raises(SystemExit):
        app(prog_name="pi")
    assert answer == capsys.readouterr().out


ASKED = {
    "bash": """
        COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=63; COLUMNS=80; _pi_completion
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        _describe() { print -rl -- "${(P@)3}" }; _files() { print files }
        words=("${(@s: :)1}"); CURRENT=$#words; _pi_completion
    """,
    "fish": "complete -C $argv[1]",
}


@pytest.mark.parametrize("shell", ASKED)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pi stop ", ["qwen"]),
        ("pi pods active ", ["dc1", "models: 1, active", "lab", "no GPUs"]),
        ("pi models --gpu 2xRTX-40", ["2xRTX-4090", "2xRTX-4090-D"]),
        ("pi env qwen --shell ", ["powershell"]),
        ("pi ver", ["version"]),
    ],
)
def test_the_scripts_work_in_their_shells(pi: Pi, tmp_path: Path, shell: str, line: str, expected: list[str]) -> None:
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"{shell} is not installed")
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "pods.json").write_text(json.dumps(STATE))
    (tmp_path / "pi").write_text(f'#!/bin/sh\nexec {sys.executable} -m pi_cli "$@"\n')
    (tmp_path / "pi").chmod(0o755)
    script = tmp_path / "script"
    script.write_text(("compdef() { }\n" if shell == "zsh" else "") + pi("completion", shell).out + ASKED[shell])
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [program, *options, str(script), line]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [text for text in expected if text not in done.stdout] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_pi_alone_and_once(pi: Pi, environment: Path, shell: str) -> None:
    assert pi("completion", shell, "--install").code == 0
    files = {path: path.read_text() for path in environment.rglob("*") if path.is_file()}
    assert pi("--install-completion", shell).code == 0
    assert {path: path.read_text() for path in environment.rglob("*") if path.is_file()} == files
    assert pi("completion", shell).out in files.values()
    assert not [text for text in files.values() if "zstyle" in text or "menu" in text]


def test_the_line_in_bashrc_is_one_command_whatever_the_home_is_called(
    pi: Pi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "it's; touch EVIL"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert pi("completion", "bash", "--install").code == 0
    [line] = (home / ".bashrc").read_text().splitlines()
    assert shlex.split(line) == ["source", str(home / ".bash_completions" / "pi.sh")]


def test_the_options_of_earlier_versions_honour_the_shell_that_is_named(pi: Pi) -> None:
    for shell in ("bash", "zsh", "fish", "powershell"):
        assert pi("--show-completion", shell) == pi("completion", shell)
    refused = pi("--show-completion", "tcsh")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: `pi completion` does not support `tcsh`\nhint: ")


def test_without_a_shell_completion_is_for_that_of_the_user(pi: Pi) -> None:
    assert pi("completion", SHELL="/usr/bin/fish").out == pi("completion", "fish").out
