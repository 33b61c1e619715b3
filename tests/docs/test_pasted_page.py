"""docs/pasted.md shows what pi makes of each pasted text."""

from pathlib import Path

from tests.docs.pasted_page import page


def test_the_page_shows_what_pi_makes_of_each_text() -> None:
    written = (Path(__file__).parents[2] / "docs" / "pasted.md").read_text(encoding="utf-8")
    assert page() == written, "write it again: python -m tests.docs.pasted_page > docs/pasted.md"
