"""Versions of vLLM, as far as a plan compares them."""

import re


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a release without trailing zeros; a pre-release counts as its release, as on the pod.

    >>> release("0.33.0rc1+cu129")
    (0, 33)
    """
    leading = re.match(r"[\d.]*", version)
    numbers = [int(number) for number in re.findall(r"\d+", leading.group() if leading else "")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def is_older(installed: str | None, minimum: str | None) -> bool:
    """Return whether an installed version is known to be too old."""
    return bool(installed and minimum and release(installed) and release(installed) < release(minimum))
