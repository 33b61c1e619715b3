"""A pod whose `python3` is a shell script: it answers in the agent's place, wrongly, late or never."""

import json
from collections.abc import Mapping
from typing import Any

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.pods.agent_link import MARK
from tests.hostile import answers

HANGS = "exec sleep 600"
SAYS_NONSENSE = "printf '\\036pi {not JSON\\n'"
GIVES_ITS_ANSWER = "cat ~/answer"


def script(pod: EmbeddedPod, commands: str) -> None:
    """Run shell commands in place of the agent."""
    pod.install("python3", f"#!/bin/bash\n{commands}\n")


def script_by_model(pod: EmbeddedPod, commands: Mapping[str, str]) -> None:
    """Run shell commands in place of the agent: those for the model that the request names."""
    cases = "".join(f"*'\"{name}\"'*)\n{text}\n;;\n" for name, text in commands.items())
    script(pod, f'read -r size; head -c "$size" > /dev/null; read -r request\ncase $request in\n{cases}esac')


def answer(pod: EmbeddedPod, result: Any) -> None:
    """Give this answer in the agent's place, whatever is asked."""
    put_answer(pod, result)
    script(pod, GIVES_ITS_ANSWER)


def put_answer(pod: EmbeddedPod, result: Any) -> None:
    """Write the answer that `GIVES_ITS_ANSWER` gives."""
    (pod.home / "answer").write_text(f"\n{MARK}{json.dumps({'result': result})}\n")


def survey(*models: Any, **changes: Any) -> Any:
    """Return a survey of these models, or what is not one."""
    nothing: dict[str, Any] = {
        "dead": [],
        "unreadable": [],
        "elsewhere": [],
        "refused_lock": None,
        "driver_hangs": False,
        "gpus": [],
    }
    return {"models": list(models)} | nothing | changes


def model(**changes: Any) -> Any:
    """Return the report on a model that is ready, with changes."""
    return {**answers.MODEL, **changes}
