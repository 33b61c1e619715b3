"""The agent on a prepared pod: one JSON request on stdin, marked JSON lines on stdout (see `protocol`).

pi sends this program to `python3 -I -S`, or names one that the pod has kept (see `keep`). Only these files stay on the
pod:

    ~/.pi/models/UID.json    one record per model, written before vLLM is started
    ~/.pi/lock               held while names, ports and GPUs are reserved
    ~/.pi/machine            the machine that these places belong to (see `machine`)
    ~/.pi/machines/ID/       the lock of another machine with the same home
    ~/.pi/gateway/           the manifest of a gateway's workers, and the program that runs its balancer
    ~/.pi/lib/               the middleware that checks the API key
    ~/.pi/leases/            the leases of models, and how they ended (see `leases`)
    ~/.pi/programs/HASH      this program, compiled, for operations that are asked for often
    ~/.pi/uploads/DIGEST/    files of the user's machine that vLLM's arguments name (see `uploads`)
    ~/.vllm_logs/NAME.log    the output of vLLM; the previous log is kept as NAME.log.1. Other machines: in a folder ID

A model is identified by PI_MODEL_UID=UID in the environment of its processes. Children inherit it, even if they move to
another session or group. stdin stays open while pi listens; when it ends, a download stops, but vLLM keeps running.
This package uses only the standard library of Python 3.8 and newer.
"""

import json
import os
import sys
import types
import zlib
from typing import TYPE_CHECKING, Any, Callable, Dict

from agent import home, keep, wire

if TYPE_CHECKING:
    from agent import protocol


def main() -> None:
    answer(sys.stdin.buffer.readline())


def answer(line: bytes) -> None:
    """Run the operation of a request, and exit; without one, pi has nothing more to ask."""
    if not line:
        wire.leave()
    envelope: "protocol.Envelope" = json.loads(line)
    wire.beats.every = envelope["beat"]
    os.umask(0o077)
    try:
        home.require_own_folder()
        if envelope.get("keep"):
            kept = keep.keep()
            if kept:
                wire.emit({"event": "kept", "hash": kept})
        result: "protocol.Result" = OPERATIONS[envelope["operation"]](envelope["request"])
    except wire.Refused as refused:
        wire.emit({"refusal": refused.refusal})
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else ""
        reason, number = error.strerror or str(error), error.errno or 0
        wire.emit({"refusal": {"code": "os", "path": path, "reason": reason, "errno": number}})
    except Exception as error:  # noqa: BLE001 - pi shows it as this pod's error
        wire.emit({"refusal": {"code": "bug", "reason": describe(error)}})
    else:
        wire.emit({"result": result})
    if envelope.get("stays"):
        follow()
    wire.leave()


def follow() -> None:
    """Take the modules that only the request which follows needs, and run it; exit at the end of stdin."""
    size = sys.stdin.buffer.readline()
    if size:
        for name, code in json.loads(zlib.decompress(sys.stdin.buffer.read(int(size)))):
            exec(compile(code, name, "exec"), sys.modules.setdefault(name, types.ModuleType(name)).__dict__)
        main()


def describe(error: BaseException) -> str:
    """Return the class of an exception and the agent's line that raised it; its text may contain secrets."""
    trace = error.__traceback__
    while trace and trace.tb_next and trace.tb_next.tb_frame.f_code.co_filename.startswith("agent"):
        trace = trace.tb_next
    return "%s in %s:%d" % (type(error).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ""


# Modules that an operation does not need are not sent, so each operation imports its own.


def start(request: "protocol.StartRequest") -> "protocol.StartResult":
    from agent import start

    return start.start(request)


def attach(request: "protocol.AttachRequest") -> "protocol.StartResult":
    from agent import watch

    return watch.attach(request["name"])


def survey(request: "protocol.SurveyRequest") -> "protocol.Survey":
    from agent import survey

    return survey.survey(
        request["known"], forget=request["forget"], memory=request["memory"], live=request["live"], leased=True
    )


def inspect(request: "protocol.InspectRequest") -> "protocol.Inspection":
    from agent import inspect_machine

    return inspect_machine.inspect(request)


def stop(request: "protocol.StopRequest") -> "protocol.StopResult":
    from agent import stop

    return stop.stop(request["models"], exact=request["exact"])


def holders(request: "protocol.HoldersRequest") -> "protocol.Holders":
    from agent import gpus

    return gpus.holders(request["questions"])


def logs(request: "protocol.LogsRequest") -> "protocol.LogsBegin":
    from agent import logs

    return logs.logs(request)


def store(request: "protocol.StoreRequest") -> "protocol.StoreResult":
    from agent import uploads

    return uploads.store(request)


def purge(request: "protocol.PurgeRequest") -> "protocol.PurgeResult":
    from agent import purge

    return purge.purge(request)


def launches(_: "protocol.LaunchesRequest") -> "protocol.Launches":
    from agent import launches

    return launches.launches()


def lease(request: "protocol.LeaseRequest") -> "protocol.Leases":
    from agent import lease

    return lease.lease(request)


def clean(request: "protocol.CleanRequest") -> "protocol.CleanResult":
    from agent import compile_cache

    return compile_cache.clean(request)


def gateway(request: "protocol.GatewayRequest") -> "protocol.GatewayResult":
    from agent import gateway

    return gateway.gateway(request)


def network(request: "protocol.NetworkRequest") -> "protocol.NetworkResult":
    from agent import network

    return network.network(request)


def bench(request: "protocol.BenchRequest") -> "protocol.BenchResult":
    from agent import bench

    return bench.bench(request)


OPERATIONS: "Dict[protocol.Operation, Callable[[Any], protocol.Result]]" = {
    "start": start,
    "attach": attach,
    "survey": survey,
    "inspect": inspect,
    "stop": stop,
    "holders": holders,
    "logs": logs,
    "store": store,
    "purge": purge,
    "launches": launches,
    "lease": lease,
    "clean": clean,
    "gateway": gateway,
    "network": network,
    "bench": bench,
}
