"""No answer of a pod harms pi, the terminal, `pods.json`, or the other pod of the command.

Every field of every answer, event and record is replaced by every kind of nonsense (`mutants.VALUES`): 9,500 answers,
which `make test-hostile` tries all, and `make test-lowest` in part.
"""

import asyncio
import json
import os
import subprocess
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from agent import protocol

from pi_cli.pods import agent
from tests.agent.machine import Machine
from tests.hostile import answers
from tests.hostile.driver import HostileSession, line
from tests.hostile.mutants import mutants

ROOT = Path(__file__).parents[2]
OPERATIONS = ("survey", "inspect", "stop", "start", "logs", "launches")
ALL = os.environ.get("PI_HOSTILE") == "all"
# Which answers a process tries: from the first one on, each so many-th. More than half of all are those of `start`.
PARTS = [(0, 2, ["start"]), (1, 2, ["start"]), *((0, 1, [each]) for each in OPERATIONS if each != "start")]
# No divisor of the number of values: each field gets others.
SAMPLE = (0, 61, list(OPERATIONS))
MOMENTS = {kind.__name__ for kind in typing.get_args(protocol.Moment)}
REQUESTS = {"GpuState", "Across", "KnownModel", "LogSource", "LogPosition", "Envelope", "UploadedFile", "LeaseWish"}
REQUESTS |= {"GatewayEngine", *MOMENTS}
FILES = {"Lease", "LeaseState"}  # that the agent alone reads (tests/agent/test_leases.py)
SAMPLES = {name: value for name, value in vars(answers).items() if name.isupper()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("first", "step", "operations"), PARTS if ALL else [SAMPLE])
def test_a_wrong_answer_is_that_pods_error_and_nothing_else(first: int, step: int, operations: Sequence[str]) -> None:
    command = [sys.executable, "-m", "tests.hostile.driver", str(first), str(step), *operations]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["answers"]) == list(operations)
    assert result["faults"] == [], f"{len(result['faults'])} of {sum(result['answers'].values())} answers did harm"


def test_the_answers_have_every_field_of_the_protocol() -> None:
    """What is not in a sample is not tried."""
    seen = [frozenset(each) for each in _objects(list(SAMPLES.values()))]
    for name, declared in vars(protocol).items():
        if typing.is_typeddict(declared) and not name.startswith("_") and not name.endswith("Request"):
            keys = frozenset(get_type_hints(declared))
            if name == "Refusal":
                assert keys == frozenset().union(*answers.REFUSALS), "facts of refusals"
            elif name not in {"ResultReply", "RefusalReply", "LogsBegin", *REQUESTS, *FILES}:
                assert keys in seen, name


def _objects(value: Any) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if isinstance(value, dict) else []), *(found for each in inner for found in _objects(each))]


def test_every_event_and_refusal_of_the_protocol_is_tried() -> None:
    events = {
        name for kind in typing.get_args(protocol.Event) for name in typing.get_args(get_type_hints(kind)["event"])
    }
    assert {event["event"] for event in answers.EVENTS} == events
    assert {refusal["code"] for refusal in answers.REFUSALS} == set(typing.get_args(protocol.Code))


@pytest.mark.parametrize("life", ["alive", "dead"])
def test_a_wrong_record_costs_that_record_and_is_named(tmp_path: Path, life: str) -> None:
    """The agent itself reads the records, and pi its answer."""
    machine = Machine(tmp_path)
    uptime, boot = _uptime(), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    state: Any = {"pid": 0, "boot": boot if life == "alive" else "another", "since": uptime, "touched": uptime}
    sound = {**answers.RECORD, **state, "uid": "sound", "machine": ""}
    folder = tmp_path / ".pi" / "models"
    folder.mkdir(parents=True)
    (folder / "sound.json").write_text(json.dumps(sound))
    wrong = list(mutants({**sound, "uid": "@UID@"}, "record"))[:: 1 if ALL else 4]
    for number, mutant in enumerate(wrong):
        (folder / f"m{number}.json").write_text(mutant.text.replace("@UID@", f"m{number}"), "utf-8", "surrogatepass")
    reply = machine.survey()
    result = reply["result"]
    listed = {model["uid"] for model in result["models"]} | {Path(each["file"]).stem for each in result["unreadable"]}
    kept = {path.stem for path in folder.glob("*.json")}  # of the others the model is dead, and the record was deleted
    elsewhere = {f"m{number}" for number, mutant in enumerate(wrong) if "['machine']" in mutant.field}
    assert listed - elsewhere == kept - elsewhere  # a wrong machine is another one, if it is text
    assert ("sound" in listed) == (life == "alive")
    assert {
        f"m{number}" for number, mutant in enumerate(wrong) if "['port']" in mutant.field and mutant.value == "text"
    } <= kept
    session = HostileSession("dc1", {"survey": line(json.dumps(reply))})
    survey = asyncio.run(agent.survey(session, [], forget=False))
    assert {each.file for each in survey.unreadable} == {each["file"] for each in result["unreadable"]}


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])
