"""Check one value that came from a pod: its type, range and size, and the characters of text."""

import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from pi_cli.safe import safe, safe_line

T = TypeVar("T")
C = TypeVar("C", bound=str)

MOST_ITEMS = 10_000  # of a list
MOST_SHOWN = 40  # characters of a value in an error
LONGEST_LINE = 4096  # characters of a name, a path, a reason
UID = re.compile(r"[A-Za-z0-9_-]{1,64}")
GPU_IDS = re.compile(r"(\d{1,4}(,\d{1,4})*)?")
HIGHEST_PORT = 65535
HIGHEST_PID = 1 << 32
MOST_BYTES = 1 << 62


class Wrong(ValueError):
    """A value is of the wrong type, or out of range."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{_shown(value)} is not {expected}")


def whole(value: object, least: int = 0, most: int = MOST_BYTES) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Wrong(value, f"a whole number from {least} to {most}")
    return value


def number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(value, "a number")
    if isinstance(value, int):
        return float(whole(value, -MOST_BYTES))
    if not math.isfinite(value) or abs(value) > MOST_BYTES:
        raise Wrong(value, "a number of reasonable size")
    return float(value)


def share(value: object) -> float:
    found = number(value)
    if not 0 < found <= 1:
        raise Wrong(value, "a share from 0 to 1")
    return found


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(value, "true or false")
    return value


def text(value: object) -> str:
    """Return text of several lines without what could act on a terminal."""
    return safe(string(value))


def line(value: object) -> str:
    """Return text of one line without what could act on a terminal, cut where it is longer than any that is meant."""
    found = safe_line(string(value)[: 2 * LONGEST_LINE])
    return found if len(found) <= LONGEST_LINE else f"{found[:LONGEST_LINE]}…"


def uid(value: object) -> str:
    found = string(value)
    if not UID.fullmatch(found):
        raise Wrong(value, "the uid of a model")
    return found


def gpu_ids(value: object) -> str:
    found = string(value)
    if not GPU_IDS.fullmatch(found):
        raise Wrong(value, "a list of GPU ids")
    return found


def port(value: object) -> int:
    return whole(value, 1, HIGHEST_PORT)


def pid(value: object) -> int:
    return whole(value, 0, HIGHEST_PID)


def one_of(value: C, choices: Collection[C]) -> C:
    if not isinstance(value, str) or value not in choices:
        raise Wrong(value, f"one of {', '.join(sorted(choices))}")
    return value


def optional(check: Callable[[object], T], value: object) -> T | None:
    return None if value is None else check(value)


def each(check: Callable[[Any], T], values: object) -> list[T]:
    """Return the values of a list, each checked."""
    if not isinstance(values, list) or len(values) > MOST_ITEMS:
        raise Wrong(values, f"a list of at most {MOST_ITEMS} items")
    return [check(value) for value in values]


def pair(check: Callable[[object], T], values: object) -> tuple[T, T]:
    if not isinstance(values, list) or len(values) != 2:
        raise Wrong(values, "a pair")
    return check(values[0]), check(values[1])


def _shown(value: object) -> str:
    """Return what names a value in an error: the beginning of a text, a number, else its type."""
    if isinstance(value, str):
        return json.dumps(safe_line(value)) if len(value) <= MOST_SHOWN else "a long text"
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) <= MOST_BYTES):
        return json.dumps(value)
    return f"a value of type {type(value).__name__}"


def string(value: object) -> str:
    """Return raw text: the caller makes it safe."""
    if not isinstance(value, str):
        raise Wrong(value, "a text")
    return value
