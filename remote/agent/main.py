"""What pi does on a prepared pod: one JSON request on stdin, marked JSON lines on stdout.

pi feeds this program to `python3 -I -S` for every command; nothing of it stays on the pod but these files:

    ~/.pi/models/UID.json    one record per model, written before vLLM is started
    ~/.pi/lock               held while ports, GPUs and names are given out
    ~/.pi/lib/               the middleware that asks for the key
    ~/.vllm_logs/NAME.log    what vLLM prints; the previous one is kept as NAME.log.1

A model is recognised by PI_MODEL_UID=UID in the environment of its processes, which every child inherits, whatever
session or group it moves to. stdin stays open while pi listens: at its end a download is stopped, vLLM is left alone.
All of this package uses the standard library only, and Python 3.8 or newer.
"""

import json
import os
import sys
from typing import Any, Callable, Dict

from agent import wire
from agent.wire import Refused


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    os.umask(0o077)
    try:
        result = OPERATIONS[request.pop("operation")](**request)
    except Refused as refused:
        wire.emit(error=dict(refused.facts, code=refused.code, message=str(refused)))
    except OSError as error:
        wire.emit(error={"code": "os", "message": str(error)})
    else:
        wire.emit(result=result)
    wire.leave()


# What an operation does not need does not travel: its modules are imported when it is asked for.


def start(**request: Any) -> Any:
    from agent import start

    return start.start(**request)


def attach(**request: Any) -> Any:
    from agent import start

    return start.attach(**request)


def survey(**request: Any) -> Any:
    from agent import survey

    return survey.survey(**request)


def inspect(**request: Any) -> Any:
    from agent import inspect_machine

    return inspect_machine.inspect(**request)


def stop(**request: Any) -> Any:
    from agent import stop

    return stop.stop(**request)


def holders(**request: Any) -> Any:
    from agent import gpus

    return gpus.holders(**request)


def logs(**request: Any) -> Any:
    from agent import logs

    return logs.logs(**request)


OPERATIONS: Dict[str, Callable[..., Any]] = {
    "start": start,
    "attach": attach,
    "survey": survey,
    "inspect": inspect,
    "stop": stop,
    "holders": holders,
    "logs": logs,
}
