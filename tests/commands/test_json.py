"""`--json`: every command prints what docs/json.md says, and no secret."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands.app import app
from tests.commands.served import Served
from tests.conftest import KEY, TOKEN, Pi, Result
from tests.docs import json_page
from tests.forkserver import FORKSERVER

pytestmark = pytest.mark.xdist_group("test_json")
TOOLS = ("--vllm", "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
NOT_DATA = {
    "pi",
    "pi key",
    "pi run",
    "pi ssh",
    "pi export",
    "pi demo",
    "pi completion",
    "pi help",
}  # output of other programs, scripts and pages


def is_documented(command: str, result: Result) -> None:
    assert json_page.problems(command, result.out) == []
    assert KEY not in result.out + result.err
    assert TOKEN not in result.out + result.err


@pytest.mark.parametrize(
    ("documented", "words"),
    [
        ("pi list --json", "list --json"),
        ("pi list --json", "list --no-check --all --json"),
        ("pi pods --json", "pods --json"),
        ("pi pods --check --json", "pods --check --json"),
        ("pi env --json", "env q --json"),
        ("pi check --json", "check q --json"),
        ("pi top --json", "top --json --interval 0.5"),
        ("pi why --json", "why q --json"),
        ("pi logs --json", "logs q -n 3 --no-follow --json"),
        ("pi prompt --json", "prompt q --json hello"),
        ("pi models --json", "models --json"),
        ("pi models MODEL --json", "models Qwen/Qwen3-8B --json"),
        ("pi start --dry-run --json", "start Qwen/Qwen3-8B --name r --dry-run --json"),
    ],
)
def test_what_a_command_shows_is_documented(pi: Pi, served: Served, documented: str, words: str) -> None:
    served.started(pi, "q", *TOOLS)
    is_documented(documented, pi(*words.split()))


@pytest.mark.parametrize(
    ("documented", "words"),
    [
        ("pi pods active --json", "pods active dc2 --json"),
        ("pi pods rename --json", "pods rename dc2 dc3 --json"),
        ("pi pods remove --json", "pods remove dc1 dc2 --yes --json"),
        ("pi stop --json", "stop x --forget --json"),
        ("pi key new --json", "key new --json"),
        ("pi key show --json", "key show --json"),
        ("pi version --json", "version --json"),
        ("pi models --json", "models --gpu 1xL4 --json"),
        ("pi models update --remove --json", "models update --remove --json"),
    ],
)
def test_what_a_command_changes_is_documented(pi: Pi, environment: Path, documented: str, words: str) -> None:
    model = {"model": "m", "port": 8001, "gpu": "0,1", "pid": 1}
    pods = {"dc1": {"ssh": "ssh a", "gpus": [], "models": {"x": model}}, "dc2": {"ssh": "ssh b"}}
    (environment / ".pi").mkdir()
    (environment / ".pi" / "pods.json").write_text(json.dumps({"pods": pods, "active": "dc1"}))
    is_documented(documented, pi(*words.split()))


def test_starting_watching_forwarding_and_stopping_are_documented(pi: Pi, served: Served) -> None:
    is_documented("pi start --json", served.started(pi, "s", "--gpus", "1"))
    for command in ("list --watch", "forward s"):
        with FORKSERVER.start([*command.split(), "--json"]) as following:
            assert following.stdout
            line = following.stdout.readline()
            following.send_signal(signal.SIGINT)
        documented = "pi forward --json" if "forward" in command else "pi list --watch --json"
        assert json_page.problems(documented, line) == []
    stopped = pi("stop", "s", "--json")
    is_documented("pi stop --json", stopped)
    assert [(row["name"], row["outcome"]) for row in stopped.json] == [("s", "stopped")]
    del served.entries["s"]


def test_an_error_stays_on_stderr_and_its_code_is_the_same(pi: Pi) -> None:
    with_json, without = pi("stop", "q", "--json"), pi("stop", "q")
    assert (with_json.out, with_json.err, with_json.code) == ("", without.err, without.code)


def test_lines_of_several_logs_are_objects_even_if_they_are_not_text(pi: Pi, served: Served) -> None:
    served.started(pi, "q", *TOOLS)
    log = served.pod.home / ".vllm_logs" / "q.log"
    with log.open("ab") as file:
        file.write(b"\xff\x1b[31mred\x1b[0m \xe2\x80\xae\n")
    result = pi("logs", "q", "-n", "1", "--no-follow", "--json")
    assert json.loads(result.out)["line"] == "\ufffd\x1b[31mred\x1b[0m \u202e"
    assert result.out.isprintable() or result.out.rstrip("\n").isprintable()


def commands(command: Any, words: str = "pi") -> Iterator[tuple[str, Any]]:
    if not isinstance(command, TyperGroup) or command.invoke_without_command:
        yield words, command
    if isinstance(command, TyperGroup):
        for name in command.list_commands(Context(command)):
            yield from commands(command.get_command(Context(command), name), f"{words} {name}")


def test_every_command_has_json_and_is_on_the_page() -> None:
    with_json = {
        name for name, command in commands(get_command(app)) if any("--json" in each.opts for each in command.params)
    }
    assert {name for name, _ in commands(get_command(app))} - with_json <= NOT_DATA
    same = {"pi pods list": "pi pods", "pi key set": "pi key new"}
    assert {f"{same.get(name, name)} --json" for name in with_json} <= set(json_page.commands())


def test_the_page_leads_to_its_own_parts() -> None:
    sections = json_page.sections()
    linked = set(json_page.LINK.findall(json_page.PAGE.read_text(encoding="utf-8")))
    assert {anchor for _, anchor in linked} <= set(sections)
