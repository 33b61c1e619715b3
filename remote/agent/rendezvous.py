"""The moment at which all parts of a model over several pods are launched: when the model is on every pod.

vLLM waits only some minutes for the other parts, and a download may take an hour longer on one pod than on another.
"""

import os
import re
import select
from typing import TYPE_CHECKING

from agent import home, records, wire
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

COMMIT = re.compile("[0-9a-f]{40}")
TOUCH = 5.0  # seconds after which the reservation is renewed: without a process, it counts for `records.YOUNG` seconds


def wait_for_others(record: "protocol.Record", folder: str) -> None:
    """Wait for a line on stdin; exit if pi disconnects. Refuse if another client has stopped the model.

    The name of the model's folder in the cache is its commit.
    """
    commit = os.path.basename(folder)
    wire.emit({"event": "fetched", "commit": commit if COMMIT.fullmatch(commit) else ""})
    while True:
        if not records.exists(record["uid"]):
            raise Refused({"code": "stopped", "name": record["name"]})
        record["touched"] = home.uptime()
        records.write(record)
        wire.beat()
        if select.select([0], [], [], TOUCH)[0]:
            break
    if not os.read(0, 4096):
        records.forget(record["uid"])
        wire.leave()
    record.pop("touched", None)
