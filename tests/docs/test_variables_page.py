"""docs/variables.md lists what is let in of a machine's environment, and what is left out."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "remote"))
PAGE = (ROOT / "docs" / "variables.md").read_text(encoding="utf-8")


def names(heading: str) -> list[str]:
    """Return the variables in the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = " ".join(line for line in section.splitlines() if line.startswith("|"))
    return re.findall(r"`([A-Za-z_]\w*)`", rows)


def test_the_page_lists_every_variable_that_is_let_in_and_no_other() -> None:
    from agent.variables import LET_IN

    assert [name for name in names("Let in") if not LET_IN.fullmatch(name)] == []
    alternatives = re.sub(r"\|PI_.*", "", LET_IN.pattern)  # pi's own, which no machine has
    for capitals in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        assert LET_IN.fullmatch(capitals)
    text = " ".join(names("Let in"))
    for part in re.findall(r"(?:[A-Za-z_]|\([^()]*\)|\[[^\]]*\]\+?|\?)+", alternatives):
        assert re.search(rf"\b(?:{part})\b", text) or "PROXY" in part, part


def test_nothing_in_the_table_of_what_is_left_out_is_let_in() -> None:
    from agent.variables import LET_IN

    assert len(names("Left out")) > 20
    assert [name for name in names("Left out") if LET_IN.fullmatch(name)] == []
