"""docs/errors.md lists each error of CUDA that pi explains, with its cause and its remedy."""

import runpy
from pathlib import Path
from typing import Any

from tests.every import every

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").split("\n### What CUDA says\n", 1)[1]
ROWS = [row for row in PAGE.split("\n## ", 1)[0].splitlines() if row.startswith("| ")][1:]
WORDS = runpy.run_path(str(ROOT / "remote/setup/cuda_errors.py"))
EXPLAINED: list[tuple[str, Any]] = [
    *((f"{code} |" if code > 0 else "|", words) for code, words in WORDS["ERRORS"].items()),
    *(("|", words) for words in WORDS["PROBLEMS"].values()),
]


@every(EXPLAINED, lambda row: row[1].cause)
def test_every_cause_is_in_the_page_with_its_remedy(number: str, words: Any) -> None:
    assert f"| {number} {words.cause} | {words.remedy} |" in ROWS


def test_the_page_has_no_other() -> None:
    assert len(ROWS) == len(EXPLAINED)
