"""Programs of the agent that stay on the pod: what is run is what was sent, or nothing."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pi_cli.pods import agent_program, shell
from tests.agent.machine import Machine, messages

SURVEY: dict[str, Any] = {"known": [], "forget": False, "memory": False, "live": False}


def envelope(operation: str, request: dict[str, Any], *, keep: bool = True) -> bytes:
    return (
        json.dumps({"protocol": 1, "operation": operation, "beat": 1000.0, "request": request, "keep": keep}).encode()
        + b"\n"
    )


def run(machine: Machine, command: str, sent: bytes) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        ["bash", "-c", command],
        env={"HOME": str(machine.home), "PATH": os.environ["PATH"]},
        input=sent,
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, messages(done.stdout)


def send(machine: Machine, operation: str = "survey", *, keep: bool = True) -> list[dict[str, Any]]:
    """Send a program with its request, as for the first time."""
    program = agent_program.packed(operation)
    sent = b"%d\n%s%s" % (len(program), program, envelope(operation, SURVEY, keep=keep))
    status, got = run(machine, shell.AGENT, sent)
    assert status == 0
    return got


def name(machine: Machine, kept: str, operation: str = "survey") -> tuple[int, list[dict[str, Any]]]:
    """Send only the name of a program."""
    return run(machine, shell.KEPT_AGENT, kept.encode() + b"\n" + envelope(operation, SURVEY))


@pytest.fixture
def folder(machine: Machine) -> Path:
    (machine.home / ".pi").mkdir(exist_ok=True)
    return machine.home / ".pi" / "programs"


def test_a_program_that_was_kept_gives_the_same_answer_and_is_not_kept_again(machine: Machine, folder: Path) -> None:
    event, answer = send(machine)
    assert event == {"event": "kept", "hash": event["hash"]}
    assert [(each.name, each.stat().st_mode & 0o777) for each in folder.iterdir()] == [(event["hash"], 0o600)]
    written = (folder / event["hash"]).stat().st_mtime_ns
    assert name(machine, event["hash"]) == (0, [answer])
    assert (folder / event["hash"]).stat().st_mtime_ns == written


def test_a_machine_that_was_not_set_up_keeps_nothing(machine: Machine) -> None:
    [answer] = send(machine)
    assert "result" in answer
    assert not (machine.home / ".pi/programs").exists()


def test_nothing_is_kept_unless_it_is_wanted(machine: Machine, folder: Path) -> None:
    [answer] = send(machine, keep=False)
    assert "result" in answer
    assert not folder.exists()


@pytest.mark.parametrize(
    "what", ["missing", "empty", "cut off", "one bit", "another program", "a folder", "unreadable"]
)
def test_what_is_not_exactly_that_program_is_not_run(machine: Machine, folder: Path, what: str) -> None:
    kept = send(machine)[0]["hash"]
    file = folder / kept
    program = bytearray(file.read_bytes())
    file.unlink()
    match what:
        case "empty":
            file.write_bytes(b"")
        case "cut off":
            file.write_bytes(program[:-1])
        case "one bit":
            program[len(program) // 2] ^= 1
            file.write_bytes(program)
        case "another program":
            other = send(machine, "launches")[0]["hash"]
            (folder / other).rename(file)
        case "a folder":
            file.mkdir()
        case "unreadable" if os.geteuid() != 0:
            file.write_bytes(program)
            file.chmod(0)
    assert name(machine, kept) == (shell.NOT_KEPT, [])


@pytest.mark.usefixtures("folder")
def test_a_program_of_another_python_is_not_run(machine: Machine) -> None:
    kept = send(machine)[0]["hash"]
    other = shell.KEPT_AGENT.replace("sys.version", "(sys.version+str(1))")
    assert other != shell.KEPT_AGENT
    assert run(machine, other, kept.encode() + b"\n" + envelope("survey", SURVEY)) == (shell.NOT_KEPT, [])


def test_the_oldest_programs_make_room(machine: Machine, folder: Path) -> None:
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:032x}").write_bytes(b"old")
        os.utime(folder / f"{number:032x}", (number, number))
    kept = send(machine)[0]["hash"]
    assert {each.name for each in folder.iterdir()} == {kept, *(f"{number:032x}" for number in range(17, 40))}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_costs_nothing(machine: Machine, folder: Path) -> None:
    folder.parent.chmod(0o500)
    [answer] = send(machine)
    assert "result" in answer


def test_a_file_in_the_place_of_the_folder_costs_nothing(machine: Machine, folder: Path) -> None:
    folder.write_text("")
    [answer] = send(machine)
    assert "result" in answer


def test_the_command_line_passes_any_login_shell() -> None:
    inside = shell.KEPT_AGENT.removeprefix("exec python3 -I -S -c '").removesuffix("'")
    assert not set("'$\\!`\n") & set(inside)
    assert f"os._exit({shell.NOT_KEPT})" in inside
