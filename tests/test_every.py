"""A test over many cases checks all of them and names those that are wrong."""

import pytest

from tests.every import every


@every([(1, 1), (2, 4), (3, 9)])
def test_all_cases_are_checked(number: int, square: int) -> None:
    assert number * number == square


@every(lambda: range(3))
def test_cases_may_be_made_when_the_test_runs(number: int) -> None:
    assert number < 3


def test_every_wrong_case_is_named_with_its_reason() -> None:
    @every([4, 3, 0, 2], lambda number: f"the number {number}")
    def divide(number: int) -> None:
        assert 12 % number == 0

    @every(["a", "b", "c"])
    def compare(text: str) -> None:
        with pytest.raises(ValueError, match="could not convert"):
            float(text if text == "a" else "1")

    with pytest.raises(AssertionError, match="1 of 4 cases are wrong:\nthe number 0\n    ZeroDivisionError"):
        divide()
    with pytest.raises(AssertionError, match=r"2 of 3 cases are wrong:\nb\n    Failed: .*\nc\n    Failed: "):
        compare()


def test_a_test_without_cases_fails() -> None:
    @every([])
    def check(_: int) -> None:
        pass

    with pytest.raises(AssertionError, match="there is no case to check"):
        check()
