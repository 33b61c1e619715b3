"""Each record in docs/decisions has a status, a date and its row in the index, and its figures are those of today."""

import re
import tomllib
from pathlib import Path

from pi_cli.planning import catalogue
from tests.every import every

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
STATUS = re.compile(r"Status: (proposed|accepted|superseded by \d+), (\d{4}-\d\d-\d\d)\.")
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
LIVING = [ROOT / "docs" / "architecture.md", FOLDER / "README.md", *RECORDS]


@every(RECORDS, lambda record: record.stem)
def test_a_record_has_a_number_a_status_a_date_and_a_row_in_the_index(record: Path) -> None:
    heading, status, *paragraphs = record.read_text(encoding="utf-8").split("\n\n")
    number, _, title = heading.removeprefix("# ").partition(". ")
    assert int(record.name[:4]) == int(number)
    match = STATUS.fullmatch(status)
    assert match, status
    assert f"| [{number}]({record.name}) | {title} | {match[2]} | {match[1]} |" in INDEX.splitlines()
    for part in ("**Situation.**", "**Decision.**", "**Price.**"):
        assert any(paragraph.startswith(part) for paragraph in paragraphs), part


def test_numbers_of_records_have_no_gap() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@every(LIVING, lambda page: page.stem)
def test_no_page_counts_files(page: Path) -> None:
    """Such a count is wrong after the next change: a record said three modules when there were eighteen."""
    counted = r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d+) (modules|files|rooms|folders)\b"
    assert not re.search(counted, page.read_text(encoding="utf-8"))


def test_requirements_in_the_records_are_those_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    quoted = {text for record in RECORDS for text in re.findall(r"`(\w+>=[^`]*)`", record.read_text(encoding="utf-8"))}
    assert "typer>=0.26,<0.29" in quoted
    assert quoted <= set(dependencies)


def test_the_changelog_counts_the_models_of_the_catalogue() -> None:
    entries = list(catalogue.parse((ROOT / "models.md").read_text(encoding="utf-8")))
    assert f"`models.md`, {len(entries)} models" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
