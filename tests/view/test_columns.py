"""The layout of a table: for every width it shows what matters most, and nothing that is cut where it must be whole."""

from hypothesis import given
from hypothesis import strategies as st

from pi_cli.view import columns
from pi_cli.view.columns import SPARE, Cell, Column, Table
from tests.properties import PROPERTY

NAMES = (
    Column("NAME"),
    Column("MODEL", 1, least=6),
    Column("URL", 2),
    Column("SSH", 3, is_uniform=True),
    Column("PORT", SPARE, is_right=True),
)
WORDS = st.text("abcdef-é界", min_size=1, max_size=30)
CELLS = st.builds(lambda text, short: Cell(text, short=short if len(short) < len(text) else ""), WORDS, WORDS)
ROWS = st.lists(
    st.fixed_dictionaries({column.name: WORDS.map(Cell) if column.name == "URL" else CELLS for column in NAMES}),
    min_size=1,
    max_size=5,
)


def text(line: columns.Line) -> str:
    return "".join(part for part, _ in line)


def head(table: Table) -> list[str]:
    return text(table.head).split()


@PROPERTY
@given(ROWS, st.integers(1, 160))
def test_no_line_is_wider_than_the_terminal_and_whole_columns_are_whole(
    rows: list[dict[str, Cell]], width: int
) -> None:
    table = columns.laid_out(NAMES, rows, width)
    least = columns.laid_out(NAMES[:1], rows, 1).width
    lines = [text(line) for line in (table.head, *table.lines)]
    assert max(map(columns.width_of, lines)) <= max(width, least)
    assert all(line == line.rstrip() for line in lines)
    assert "NAME" in table.widths
    for row, line in zip(rows, table.lines, strict=True):
        shown = [part for part, _ in line]
        assert row["NAME"].text in shown or row["NAME"].short in shown
        assert "URL" not in table.widths or row["URL"].text in shown


@PROPERTY
@given(ROWS)
def test_without_a_limit_everything_is_whole(rows: list[dict[str, Cell]]) -> None:
    table = columns.laid_out(NAMES, rows, columns.UNLIMITED)
    assert head(table) == [column.name for column in NAMES]
    for row, line in zip(rows, table.lines, strict=True):
        assert [part for part, _ in line if part.strip()] == [row[column.name].text for column in NAMES]


ROW = {
    "NAME": Cell("qwen"),
    "MODEL": Cell("Qwen/Qwen2.5-72B", short="Qwen2.5-72B"),
    "URL": Cell("http://1.2.3.4:8001/v1"),
    "SSH": Cell("ssh -p 22 root@h", short="root@h:22"),
    "PORT": Cell("8001"),
}


def test_columns_go_in_the_order_of_their_rank_and_short_forms_before_that() -> None:
    lines = {width: text(columns.laid_out(NAMES, [ROW], width).lines[0]) for width in (80, 60, 56, 46, 40, 20, 4)}
    assert lines == {
        80: "qwen  Qwen/Qwen2.5-72B  http://1.2.3.4:8001/v1  ssh -p 22 root@h  8001",
        60: "qwen  Qwen2.5-72B  http://1.2.3.4:8001/v1  root@h:22  8001",
        56: "qwen  Qwen2.5-72B  http://1.2.3.4:8001/v1  root@h:22",
        46: "qwen  Qwen/Qwen2.5-72B  http://1.2.3.4:8001/v1",
        40: "qwen  Qwen2.5-7…  http://1.2.3.4:8001/v1",
        20: "qwen  Qwen2.5-72B",
        4: "qwen",
    }
