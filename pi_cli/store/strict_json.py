"""JSON as it is written by hand, read strictly: what Python would change or drop without a word is refused.

That is: a key that an object has twice (Python keeps the last), `NaN` and infinite numbers (which other readers of JSON
refuse), and halves of surrogate pairs (which no file can hold).
"""

import json
import math
from collections import Counter
from typing import Any

from pi_cli.safe import safe_line


class NotStrict(ValueError):
    """The text is JSON for Python only; the message says what is wrong, and where, e.g. at `pods.dc1.models`."""


class _Repeating(dict[str, Any]):
    """An object in which a key is repeated."""

    repeated = ""


def loads(text: str) -> Any:
    """Parse JSON. Raises `NotStrict`, or `ValueError` and `RecursionError` like `json.loads`."""
    data = json.loads(text, object_pairs_hook=_object)
    _check(data, "")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) == len(pairs):
        return data
    repeating = _Repeating(data)
    [(repeating.repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
    return repeating


def _check(value: Any, place: str) -> None:
    match value:
        case _Repeating():
            raise NotStrict(f"`{_below(place, value.repeated)}` appears twice")
        case dict():
            for key, inner in value.items():
                _check_text(key, place)
                _check(inner, _below(place, key))
        case list():
            for index, inner in enumerate(value):
                _check(inner, f"{place}[{index}]")
        case float() if not math.isfinite(value):
            raise NotStrict(f"`{place}` is not a number that JSON can express")
        case str():
            _check_text(value, place)


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        where = f"in `{place}`" if place else "in a key"
        raise NotStrict(f"there is half of a surrogate pair {where}") from None


def _below(place: str, key: str) -> str:
    key = safe_line(key)
    return f"{place}.{key}" if place else key
