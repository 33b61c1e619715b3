"""For how long no client has used a model, by the time of its record, which the middleware sets (`require_key.py`)."""

import contextlib
import os
import time
from typing import TYPE_CHECKING, List, Optional

from agent import records

if TYPE_CHECKING:
    from agent import protocol


def seconds(record: "protocol.Record", counts: Optional[List[int]]) -> Optional[float]:
    """Return for how many seconds no client has used a model, which has `counts` requests now; None if unknown.

    The models of older versions of pi do not set the time, and none can on a read-only disk.
    """
    path = records.path_of(record["uid"])
    if record.get("dated") is not True or not os.access(path, os.W_OK):
        return None
    if counts and any(counts):
        return 0.0
    with contextlib.suppress(OSError):
        return max(0.0, time.time() - os.stat(path).st_mtime)
    return None
