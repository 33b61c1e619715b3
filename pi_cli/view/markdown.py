"""Markdown as lines for a terminal. All of a text stays readable: what is no Markdown is shown as it stands."""

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

LISTS = ("bullet_list_open", "ordered_list_open")
CODES = ("fence", "code_block")
NARROWEST = 20  # columns for text, however deep lists and quotations are
HEADINGS = {"h1": "bold underline", "h2": "bold"}  # the others are italic, too
INLINE = {"strong": "bold", "em": "italic", "s": "strike"}
CODE, LINK, QUIET = "bold cyan", "underline", "dim"
CODE_COLOURS = "ansi_dark"  # of the terminal's own, on its own ground
CODE_AHEAD = 200  # lines of code that are looked at again to colour the next


@cache
def parser() -> MarkdownIt:
    """Return a parser that keeps tags (`Vec<T>` is none) and definitions of links as text."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the outermost level, or one item of a list there: the lines `[start, end)` of the source.

    `follows` tells that the item before belongs to the same list.
    """

    token: Token
    inner: tuple[Token, ...]
    start: int
    end: int
    follows: bool = False


def blocks(source: str) -> list[Block]:
    """Divide a text into blocks."""
    found: list[Block] = []
    for token, inner in nodes(parser().parse(source)):
        if token.type in LISTS:
            items = nodes(inner[:-1])
            found += [_block(item, content, follows=index > 0) for index, (item, content) in enumerate(items)]
        else:
            found.append(_block(token, inner))
    return found


def _block(token: Token, inner: Sequence[Token], *, follows: bool = False) -> Block:
    assert token.map
    start, end = token.map
    return Block(token, tuple(inner), start, end, follows)


def nodes(tokens: Sequence[Token]) -> Iterator[tuple[Token, list[Token]]]:
    """Yield each node of the outermost level as its first token and the tokens behind it, its closing one included."""
    index = 0
    while index < len(tokens):
        end = index + 1
        depth: int = tokens[index].nesting
        while depth > 0:
            depth += tokens[end].nesting
            end += 1
        yield tokens[index], list(tokens[index + 1 : end])
        index = end


def lines(block: Block, console: Console, width: int) -> list[Text]:
    """Render a block. Lines of code may be wider: broken by us they could not be copied."""
    if block.token.type in CODES:
        return list(code(block.token.content, block.token.info).split("\n", allow_blank=True))
    return list(_Renderer(console).render(block.token, block.inner, max(width, NARROWEST)))


@dataclass(frozen=True, slots=True)
class _Renderer:
    console: Console

    def render(self, token: Token, inner: Sequence[Token], width: int) -> Iterator[Text]:
        match token.type:
            case "heading_open":
                yield from self.wrapped(inline(inner[0], HEADINGS.get(token.tag, "bold italic")), width)
            case "paragraph_open":
                yield from self.wrapped(inline(inner[0]), width)
            case "blockquote_open":
                yield from self.indented(inner[:-1], width, Text("│ ", QUIET), Text("│ ", QUIET))
            case "list_item_open":
                label = f"{token.info}{token.markup} " if token.info else "• "
                yield from self.indented(inner[:-1], width, Text(label), Text(" " * len(label)), is_tight=True)
            case kind if kind in LISTS:
                for item, content in nodes(inner[:-1]):
                    yield from self.render(item, content, width)
            case kind if kind in CODES:
                yield from self.wrapped(code(token.content, token.info), width)
            case "table_open":
                yield from self.drawn(table(inner), width)
            case "hr":
                yield from self.drawn(Rule(style=QUIET), width)
            case _:
                yield from self.wrapped(Text(safe(token.content)), width)

    def indented(
        self, tokens: Sequence[Token], width: int, first: Text, other: Text, *, is_tight: bool = False
    ) -> Iterator[Text]:
        """Render blocks behind a mark. In an item of a list, only a further paragraph stands apart."""
        mark = first
        for index, (token, inner) in enumerate(nodes(tokens)):
            if index and (not is_tight or token.type == "paragraph_open"):
                yield other.copy()
            for line in self.render(token, inner, max(width - len(other), NARROWEST)):
                yield Text.assemble(mark, line)
                mark = other
        if mark is first:
            yield first.copy()

    def wrapped(self, text: Text, width: int) -> Iterator[Text]:
        yield from text.wrap(self.console, width, tab_size=4)

    def drawn(self, renderable: Table | Rule, width: int) -> Iterator[Text]:
        options = self.console.options.update(width=width)
        for segments in self.console.render_lines(renderable, options, pad=False):
            yield Text.assemble(*((segment.text, segment.style or "") for segment in segments), end="")


def inline(token: Token, style: str = "") -> Text:
    """Render the text of one block, on as many lines as it has: models break lines where they mean it."""
    text = Text(style=style)
    styles = [Style()]
    addresses: list[tuple[int, str]] = []
    for each in token.children or ():
        match each.type:
            case "softbreak" | "hardbreak":
                text.append("\n")
            case "code_inline":
                text.append(safe(each.content), styles[-1] + Style.parse(CODE))
            case "image":
                text.append(safe(f"{each.content} ({each.attrs.get('src', '')})".strip()), styles[-1])
            case "link_open":
                addresses.append((len(text), str(each.attrs.get("href", ""))))
                styles.append(styles[-1] + Style.parse(LINK))
            case "link_close":
                styles.pop()
                begin, address = addresses.pop()
                if address not in (text.plain[begin:], f"mailto:{text.plain[begin:]}"):
                    text.append(safe(f" ({address})"), styles[-1])
            case _ if each.nesting > 0:
                styles.append(styles[-1] + Style.parse(INLINE.get(each.tag, "")))
            case _ if each.nesting < 0:
                styles.pop()
            case _:
                text.append(safe(each.content), styles[-1])
    return text


def code(content: str, info: str) -> Text:
    """Colour code by the language that its fence names."""
    from rich.syntax import Syntax

    language = (info.split() or [""])[0]
    plain = content.removesuffix("\n")
    if not language:
        return Text(safe(plain))
    coloured = Syntax("", language, theme=CODE_COLOURS, background_color="default").highlight(safe(plain))
    coloured.rstrip()
    return coloured


def code_line(before: Sequence[str], line: str, info: str) -> Text:
    """Colour one more line of code, as it stands behind those before."""
    *_, last = code("\n".join([*before[-CODE_AHEAD:], line]), info).split("\n", allow_blank=True)
    return last


def table(inner: Sequence[Token]) -> Table:
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="bold underline", show_edge=False)
    rows: list[list[Text]] = []
    for token in inner:
        match token.type:
            case "tr_open":
                rows.append([])
            case "inline":
                rows[-1].append(inline(token))
    styles = [str(token.attrs.get("style", "")) for token in inner if token.type == "th_open"]
    for heading, style in zip(rows[0], styles, strict=True):
        side = style.removeprefix("text-align:")
        drawn.add_column(heading, justify="right" if side == "right" else "center" if side == "center" else "left")
    for row in rows[1:]:
        drawn.add_row(*row)
    return drawn
