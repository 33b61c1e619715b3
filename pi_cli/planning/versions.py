"""Versions of vLLM, as far as a plan compares them."""


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for comparisons: a pre-release of 0.33.0 counts as 0.33.0.

    >>> release("0.33.0rc1+cu130") > release("0.9.2")
    True
    """
    numbers: list[int] = []
    for part in version.split("+", maxsplit=1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def is_older(installed: str | None, minimum: str | None) -> bool:
    """Return whether an installed version is known to be too old."""
    return bool(installed and minimum and release(installed) and release(installed) < release(minimum))
