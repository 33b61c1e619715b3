"""What a command and the holder say to each other over the socket.

The command sends one line of JSON, the `Greeting`: a pod, or something about links. The holder answers with one line.
If the pod is linked, the command sends a second line: the wish to run one operation of the agent, or to be connected
to the port of a model that `pods.json` has. The holder sends parts: a kind, a length, and that many bytes. After
`THERE`, an operation that is to be `sure` has to be confirmed by the line `GO`; nothing is asked of the pod before.
To a port, the command sends bytes as they are.

Nothing here is a command line, and no operation is accepted whose request has a key, a token or a program in it.
"""

import json
import struct
from typing import Any, Final

READS: Final = ("survey", "logs", "launches")  # operations that change nothing; `survey` without `forget`
SURE: Final = ("survey", "stop")  # operations that change something
PART: Final = struct.Struct("!BI")
THERE: Final = 1  # the agent on the pod has answered: the link lives
OUTPUT: Final = 2  # of the agent, as it comes
END: Final = 3  # how the agent has ended, as JSON
LOST: Final = 4  # the link is lost
CLOSED: Final = 5  # the port accepts no connections
GO: Final = b"go\n"
MAX_LINE: Final = 1 << 20  # bytes of a line: a request for 1,000 models has 200,000
MAX_PART: Final = 1 << 20  # bytes
PATIENCE: Final = 0.25  # seconds without a sign of the link until a command begins to log in itself, at least
PATIENT_TRIPS: Final = 3  # and at least so many round trips


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def read(data: bytes) -> dict[str, Any]:
    """Return the message of a line, an empty one for everything else."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def part(kind: int, data: bytes = b"") -> bytes:
    return PART.pack(kind, len(data)) + data


def patience(round_trip: float) -> float:
    """Return for how many seconds a command waits for a sign of the link."""
    return max(PATIENCE, PATIENT_TRIPS * round_trip)


def is_taken(operation: object, request: object, *, is_sure: bool) -> bool:
    """Return whether the holder runs an operation."""
    if not isinstance(request, dict) or operation not in (SURE if is_sure else READS):
        return False
    return is_sure or not request.get("forget")


def number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else 0.0
