"""Check single values from a pod: type, range and size, and the characters of text."""

import ipaddress
import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from pi_cli.safe import safe, safe_line
from pi_cli.store.records import is_name

T = TypeVar("T")
C = TypeVar("C", bound=str)

MAX_ITEMS = 10_000  # of a list
MAX_LINE = 4096  # characters of a name, a path, a reason
MAX_SHOWN = 40  # characters of a value in an error
UID = re.compile(r"[A-Za-z0-9_-]{1,64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}")
HEX_OF_32_BYTES = re.compile(r"[0-9a-f]{64}")
GPU_IDS = re.compile(r"(\d{1,4}(,\d{1,4})*)?")
MAX_PORT = 65535
MAX_PID = 1 << 32
MAX_BYTES = 1 << 62
REMOVED = "\ufffd"  # marks a name from which control characters were removed


class InvalidValue(ValueError):
    """A value is of the wrong type or out of range."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{_shown(value)} is not {expected}")


def whole(value: object, minimum: int = 0, maximum: int = MAX_BYTES) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidValue(value, f"a whole number from {minimum} to {maximum}")
    return value


def number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidValue(value, "a number")
    if isinstance(value, int):
        return float(whole(value, -MAX_BYTES))
    if not math.isfinite(value) or abs(value) > MAX_BYTES:
        raise InvalidValue(value, "a number of reasonable size")
    return float(value)


def amount(value: object) -> float:
    count = number(value)
    if count < 0:
        raise InvalidValue(value, "a number of at least 0")
    return count


def share(value: object) -> float:
    fraction = number(value)
    if not 0 < fraction <= 1:
        raise InvalidValue(value, "a share from 0 to 1")
    return fraction


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(value, "true or false")
    return value


def text(value: object) -> str:
    """Return a text of several lines that is safe for a terminal."""
    return safe(string(value))


def line(value: object) -> str:
    """Return a text of one line that is safe for a terminal; shorten it if it is too long to be a name or a path."""
    shown = safe_line(string(value)[: 2 * MAX_LINE])
    return shown if len(shown) <= MAX_LINE else f"{shown[:MAX_LINE]}…"


def model_name(value: object) -> str:
    """Return the name of a model as one safe line.

    A name that would be valid only without its control characters is marked, so it does not become another name.
    """
    shown = line(value)
    return f"{shown}{REMOVED}" if shown != value and is_name(shown) else shown


def uid(value: object) -> str:
    model_uid = string(value)
    if not UID.fullmatch(model_uid):
        raise InvalidValue(value, "the uid of a model")
    return model_uid


def proof_key(value: object) -> bytes:
    digits = string(value)
    if not HEX_OF_32_BYTES.fullmatch(digits):
        raise InvalidValue(value, "a proof key")
    return bytes.fromhex(digits)


def digest(value: object) -> str:
    digits = string(value)
    if not HEX_OF_32_BYTES.fullmatch(digits):
        raise InvalidValue(value, "a SHA-256")
    return digits


def commit(value: object) -> str:
    digits = string(value)
    if not COMMIT.fullmatch(digits):
        raise InvalidValue(value, "a commit")
    return digits


def texts(value: object) -> dict[str, str]:
    """Return an object of texts, e.g. of variables, each as one safe line."""
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise InvalidValue(value, f"an object of at most {MAX_ITEMS} items")
    return {line(key): line(text) for key, text in value.items()}


def gpu_ids(value: object) -> str:
    ids = string(value)
    if not GPU_IDS.fullmatch(ids):
        raise InvalidValue(value, "a list of GPU ids")
    return ids


def address(value: object) -> str:
    """Return an IPv4 address."""
    text = string(value)
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise InvalidValue(value, "an IPv4 address") from error


def interface(value: object) -> str:
    name = string(value)
    if not INTERFACE.fullmatch(name):
        raise InvalidValue(value, "the name of a network interface")
    return name


def port(value: object) -> int:
    return whole(value, 1, MAX_PORT)


def pid(value: object) -> int:
    return whole(value, 0, MAX_PID)


def one_of(value: C, choices: Collection[C]) -> C:
    if not isinstance(value, str) or value not in choices:
        raise InvalidValue(value, f"one of {', '.join(sorted(choices))}")
    return value


def optional(check: Callable[[object], T], value: object) -> T | None:
    return None if value is None else check(value)


def each(check: Callable[[Any], T], values: object) -> list[T]:
    """Check each value of a list, and return the results."""
    if not isinstance(values, list) or len(values) > MAX_ITEMS:
        raise InvalidValue(values, f"a list of at most {MAX_ITEMS} items")
    return [check(value) for value in values]


def pair(check: Callable[[object], T], values: object) -> tuple[T, T]:
    if not isinstance(values, list) or len(values) != 2:
        raise InvalidValue(values, "a pair")
    return check(values[0]), check(values[1])


def _shown(value: object) -> str:
    """Name a value in an error: a short text or a number as it is written in JSON, else its type."""
    if isinstance(value, str):
        return json.dumps(safe_line(value)) if len(value) <= MAX_SHOWN else "a long text"
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) <= MAX_BYTES):
        return json.dumps(value)
    return f"a value of type {type(value).__name__}"


def string(value: object) -> str:
    """Return a raw text, which the caller has to make safe."""
    if not isinstance(value, str):
        raise InvalidValue(value, "a text")
    return value
