"""Every refusal and every note of the agent has words of its own. That the page has them too: `tests/docs`."""

import asyncio
import json
import re
from typing import Any

import pytest

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.models import start_errors
from pi_cli.planning.plan import Plan
from pi_cli.pods import agent
from pi_cli.pods.reports import Remark, StartEvent
from pi_cli.pods.wording import AgentRefused
from pi_cli.store import state
from pi_cli.store.records import Pod
from tests.agent.machine import start_request
from tests.hostile import answers  # which has every code, event and fact: `tests/hostile/test_fuzz.py`
from tests.hostile.driver import HostileSession, line
from tests.hostile.driver import answer as as_line

COMMAND = StartCommand("m/m", "q")
PLAN = Plan("m/m", (0,), (), min_vllm="0.20")
EXIT_CODES = {"arguments": 4, "gpus-taken": 4, "download": 4, "hub-unreachable": 4, "os": 4, "no-room-on-disk": 4}


def refused(refusal: Any) -> AgentRefused:
    """Return the error for a refusal as it arrives from a pod."""
    session = HostileSession("dc1", {"survey": line(json.dumps({"refusal": refusal}))})
    with pytest.raises(AgentRefused) as caught:
        asyncio.run(agent.survey(session, [], forget=False))
    return caught.value


def test_every_refusal_of_a_start_has_a_message_a_hint_and_an_exit_code() -> None:
    with state.edit() as current:
        current.pods["dc1"] = Pod("ssh root@1.2.3.4")
    for refusal in answers.REFUSALS:
        error = start_errors.refused("dc1", PLAN, refused(refusal), COMMAND)
        code = refusal["code"]
        assert str(error), code
        assert not re.search(r"None|\{|\}|\.$", f"{error}|{error.hint or ''}"), code
        assert error.hint or getattr(error, "log", ""), code
        assert error.exit_code == EXIT_CODES.get(code, 1), code


def test_a_refusal_says_all_that_the_agent_has_sent() -> None:
    for refusal in answers.REFUSALS:
        message = str(refused(refusal))
        assert message.startswith("pod `dc1`: ")
        for key in ("name", "port", "program", "path", "reason"):
            if "disks" in refusal:
                continue  # the error of the start shows them (`tests/models/test_start_errors.py`)
            assert key not in refusal or str(refusal[key]) in message, (refusal, message)
        assert all(name in message for name in refusal.get("names", []))


def test_each_refusal_and_note_has_its_own_text() -> None:
    """Two refusals of one kind, for a full disk, have different facts; the notes of a download name theirs, too."""
    messages = {str(refused(refusal)) for refusal in answers.REFUSALS}
    assert len(messages) == len(answers.REFUSALS)
    sent = b"".join(line(json.dumps(event)) for event in answers.EVENTS)
    end = {**answers.STARTED, "record": {**answers.RECORD, "name": "q", "uid": answers.UID}}
    session = HostileSession("dc1", {"start": sent + as_line(end)})
    events: list[StartEvent] = []
    request: Any = {**start_request("q"), "uid": answers.UID}
    asyncio.run(agent.start(session, request, events.append))
    notes = [event.text for event in events if isinstance(event, Remark)]
    assert notes == [
        "`dc2` is already downloading the model to the same cache: waiting for it",
        "deleted partial files of broken downloads of the model, 2 files: 1.0 GB",
        "download stalled for 60 s; restarting hf, without Xet",
        "download stalled for 60 s; still waiting",
        "waiting for the lock /root/.cache/lock, which process 99 holds",
        "the Hub does not answer: using the model in the cache, which seems to be complete",
        "free space of `/workspace` unknown: a shared pool reports the size of all of it",
        "the file system of /root/.pi/lock has no locks: pi uses others",
        (
            "nvidia-smi has not answered for 5 s; waiting up to 60 s "
            "(with persistence mode, `nvidia-smi -pm 1` as root, it answers at once)"
        ),
        "KV cache of 40.0 GB on each GPU, as the start of 2026-09-21 measured it: vLLM does not measure again",
        "vLLM failed with the KV cache that an earlier start measured: starting it once more without that",
        "vLLM does not compile during the download: the model is quantised (awq), so the weights have to be there",
    ]
