"""One test for a claim about many cases that take no time: it checks all of them and names every one that is wrong.

A parametrized test costs 3 ms for each case, and every worker collects all of them. Where a case is worth running
alone, or the number is small, `pytest.mark.parametrize` is better.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

Cases = Iterable[Any] | Callable[[], Iterable[Any]]


def every(cases: Cases, name: Callable[[Any], str] = str) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make a test of a function that checks one case; a tuple is spread over its parameters.

    `cases` may be a function, which is called when the test runs; `name` names a case in a failure.
    """

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            checked = [(case, _failure(check, case)) for case in (cases() if callable(cases) else cases)]
            assert checked, "there is no case to check"
            wrong = [f"{name(case)}\n    {failure}" for case, failure in checked if failure]
            assert not wrong, f"{len(wrong)} of {len(checked)} cases are wrong:\n" + "\n".join(wrong)

        test.__name__, test.__module__, test.__doc__ = check.__name__, check.__module__, check.__doc__
        return test

    return decorate


def _failure(check: Callable[..., None], case: Any) -> str | None:
    """Return how the check of a case fails, or None."""
    try:
        check(*case) if type(case) is tuple else check(case)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - the other cases are checked all the same
        return f"{type(error).__name__}: {error}"
    return None
