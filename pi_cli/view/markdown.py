"""Render Markdown as lines for a terminal. No text is lost: anything that is not Markdown is shown unchanged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pi_cli.safe import safe

LIST_TOKENS = ("bullet_list_open", "ordered_list_open")
CODE_TOKENS = ("fence", "code_block")
MIN_WIDTH = 20  # columns for text, however deeply lists and quotations are nested
HEADING_STYLES = {"h1": "bold underline", "h2": "bold"}  # deeper ones are bold italic
INLINE_STYLES = {"strong": "bold", "em": "italic", "s": "strike"}
CODE_STYLE, LINK_STYLE, DIM_STYLE = "bold cyan", "underline", "dim"
CLOSING = "x` x`` x* x** x_ x__ x~~ x](y)"  # closes whatever may be open


@cache
def parser() -> MarkdownIt:
    """Return a parser that keeps HTML tags (`Vec<T>` is not one) and link definitions as text."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")


@dataclass(frozen=True, slots=True)
class MarkdownBlock:
    """A block of the outermost level, or one item of a list there: the lines `[start, end)` of the source.

    `follows`: the item before it belongs to the same list.
    """

    token: Token
    inner: tuple[Token, ...]
    start: int
    end: int
    follows: bool = False


def blocks(source: str) -> list[MarkdownBlock]:
    """Split a text into blocks."""
    result: list[MarkdownBlock] = []
    for token, inner in nodes(parser().parse(source)):
        if token.type in LIST_TOKENS:
            items = nodes(inner[:-1])
            result += [_block(item, content, follows=index > 0) for index, (item, content) in enumerate(items)]
        else:
            result.append(_block(token, inner))
    return result


def _block(token: Token, inner: Sequence[Token], *, follows: bool = False) -> MarkdownBlock:
    assert token.map
    start, end = token.map
    return MarkdownBlock(token, tuple(inner), start, end, follows)


def nodes(tokens: Sequence[Token]) -> Iterator[tuple[Token, list[Token]]]:
    """Yield each node of the outermost level: its first token, and the rest of its tokens with the closing one."""
    index = 0
    while index < len(tokens):
        end = index + 1
        depth: int = tokens[index].nesting
        while depth > 0:
            depth += tokens[end].nesting
            end += 1
        yield tokens[index], list(tokens[index + 1 : end])
        index = end


def lines(block: MarkdownBlock, console: Console, width: int) -> list[Text]:
    """Render a block. Lines of code may be wider than `width`: wrapped by pi they could not be copied."""
    if block.token.type in CODE_TOKENS:
        return list(code(block.token.content, block.token.info).split("\n", allow_blank=True))
    return list(_Renderer(console).render(block.token, block.inner, max(width, MIN_WIDTH)))


@dataclass(frozen=True, slots=True)
class _Renderer:
    console: Console

    def render(self, token: Token, inner: Sequence[Token], width: int) -> Iterator[Text]:
        match token.type:
            case "heading_open":
                yield from self.wrapped(inline(inner[0], HEADING_STYLES.get(token.tag, "bold italic")), width)
            case "paragraph_open":
                yield from self.wrapped(inline(inner[0]), width)
            case "blockquote_open":
                yield from self.indented(inner[:-1], width, Text("│ ", DIM_STYLE), Text("│ ", DIM_STYLE))
            case "list_item_open":
                label = f"{token.info}{token.markup} " if token.info else "• "
                yield from self.indented(inner[:-1], width, Text(label), Text(" " * len(label)), is_tight=True)
            case kind if kind in LIST_TOKENS:
                for item, content in nodes(inner[:-1]):
                    yield from self.render(item, content, width)
            case kind if kind in CODE_TOKENS:
                yield from self.wrapped(code(token.content, token.info), width)
            case "table_open":
                yield from table(rows(inner), self.console, width)
            case "hr":
                yield from _drawn(Rule(style=DIM_STYLE), self.console, width)
            case _:
                yield from self.wrapped(Text(safe(token.content)), width)

    def indented(
        self, tokens: Sequence[Token], width: int, first: Text, other: Text, *, is_tight: bool = False
    ) -> Iterator[Text]:
        """Render blocks after a mark. In a list item (`is_tight`), only a further paragraph gets an empty line."""
        mark = first
        for index, (token, inner) in enumerate(nodes(tokens)):
            if index and (not is_tight or token.type == "paragraph_open"):
                yield other.copy()
            for line in self.render(token, inner, max(width - len(other), MIN_WIDTH)):
                yield Text.assemble(mark, line)
                mark = other
        if mark is first:
            yield first.copy()

    def wrapped(self, text: Text, width: int) -> Iterator[Text]:
        yield from text.wrap(self.console, width, tab_size=4)


def inline(token: Token, style: str = "") -> Text:
    """Render the text of one block and keep its line breaks: models break lines on purpose."""
    text = Text(style=style)
    styles = [Style()]
    addresses: list[tuple[int, str]] = []
    for child in token.children or ():
        match child.type:
            case "softbreak" | "hardbreak":
                text.append("\n")
            case "code_inline":
                text.append(safe(child.content), styles[-1] + Style.parse(CODE_STYLE))
            case "image":
                text.append(safe(f"{child.content} ({child.attrs.get('src', '')})".strip()), styles[-1])
            case "link_open":
                addresses.append((len(text), str(child.attrs.get("href", ""))))
                styles.append(styles[-1] + Style.parse(LINK_STYLE))
            case "link_close":
                styles.pop()
                begin, address = addresses.pop()
                if address not in (text.plain[begin:], f"mailto:{text.plain[begin:]}"):
                    text.append(safe(f" ({address})"), styles[-1])
            case _ if child.nesting > 0:
                styles.append(styles[-1] + Style.parse(INLINE_STYLES.get(child.tag, "")))
            case _ if child.nesting < 0:
                styles.pop()
            case _:
                text.append(safe(child.content), styles[-1])
    return text


def code(content: str, info: str) -> Text:
    """Highlight code in the language that its fence names."""
    from pi_cli.view.highlighting import highlighted

    return highlighted(content.removesuffix("\n"), (info.split() or [""])[0])


def is_complete(source: str) -> bool:
    """Return whether the lines of a paragraph look the same whatever comes behind them.

    They do not if something is open in them: emphasis, code, or the text of a link.
    """
    [alone], [probed] = (blocks(text) for text in (source, f"{source}\n{CLOSING}"))
    lines, more = (list(inline(each.inner[0]).split("\n", allow_blank=True)) for each in (alone, probed))
    return lines == more[: len(lines)]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is in a table."""

    heading: Sequence[Text]
    sides: Sequence[str]  # where the text of each column is: left, right, center
    cells: list[list[Text]]


def rows(inner: Sequence[Token]) -> Rows:
    """Read the tokens of a table."""
    cells: list[list[Text]] = []
    for token in inner:
        match token.type:
            case "tr_open":
                cells.append([])
            case "inline":
                cells[-1].append(inline(token))
    styles = [str(token.attrs.get("style", "")) for token in inner if token.type == "th_open"]
    return Rows(cells[0], [style.removeprefix("text-align:") or "left" for style in styles], cells[1:])


def table(content: Rows, console: Console, width: int | None = None) -> list[Text]:
    """Draw a table with this width, or that of the screen."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline", show_edge=False)
    for heading, side in zip(content.heading, content.sides, strict=True):
        drawn.add_column(heading, justify="right" if side == "right" else "center" if side == "center" else "left")
    for row in content.cells:
        drawn.add_row(*row)
    return list(_drawn(drawn, console, max(width or console.width, MIN_WIDTH)))


def _drawn(renderable: Table | Rule, console: Console, width: int) -> Iterator[Text]:
    for segments in console.render_lines(renderable, console.options.update(width=width), pad=False):
        yield Text.assemble(*((segment.text, segment.style or "") for segment in segments), end="")
