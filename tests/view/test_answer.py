"""Markdown that streams in: no text is lost or drawn twice, however the answer is split."""

import os
import pty
import random
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterable, Iterator
from fcntl import ioctl
from pathlib import Path
from textwrap import dedent
from types import FrameType, SimpleNamespace

import pytest
from rich.console import Console

from pi_cli.view import answer, markdown
from pi_cli.view.answer import Rendered
from tests.view.screen import Screen, drawn

MARKDOWN = """\
# A plan for *all*
Line one
line two with **bold**, `code`, ~~no~~ and [a link](http://x.y/z) <http://auto.link/> Vec<String> &amp;

1. Read the **README**, whose name is long enough to be wrapped at some point, and aligned there.
   - nested one
   - nested two with `code`

     a paragraph

     ```sh
     make test
     ```
2. Run
10. ten

- a

- b
- [ ] task

> quote one
> more
>
> - list

```python
def answer() -> int:

    return 42
```

~~~
``` not the end
~~~

    indented code

| a | bb | c |
|---|:-:|--:|
| 1 | two | 3 |
| `x` | **y** | long long text |

---
<div>html</div>

[1]: http://ref.def

Setext
======
end"""

SHOWN = """\
A plan for all

Line one
line two with bold, code, no and a link (http://x.y/z)
http://auto.link/ Vec<String> &

1. Read the README, whose name is long enough to be wrapped
   at some point, and aligned there.
   • nested one
   • nested two with code

     a paragraph
     make test
2. Run
10. ten

• a
• b
• [ ] task

│ quote one
│ more
│
│ • list

def answer() -> int:

    return 42

``` not the end

indented code

a  bb                c
1  two               3
x   y   long long text

────────────────────────────────────────────────────────────

<div>html</div>

[1]: http://ref.def

Setext

end"""


WAITING = """
    import asyncio, sys
    from pi_cli import waits
    from pi_cli.view import waiting
    from pi_cli.view.answer import Rendered

    waiting.DELAY, waiting.INTERVAL = 0.0, 0.02
    waiting.install()

    async def main():
        shown = Rendered(sys.stderr)
        with waits.on("asking the Hub"):
            while not waiting._sign.is_shown:
                await asyncio.sleep(0.01)
            shown.write("A sum:\\n\\nTwo plus ")
            await asyncio.sleep(10 * waiting.INTERVAL)
            shown.write("two.")
            shown.end()

    asyncio.run(main())
"""


@pytest.fixture
def each_piece_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw after each piece, as if the answer came slowly."""
    monkeypatch.setattr(answer, "DRAW_INTERVAL", 0)
    monkeypatch.setattr(answer, "REST", 0)


def streamed(*pieces: str, width: int = 60, height: int = 24, notes: Iterable[int] = ()) -> Screen:
    """Write an answer on a terminal in these pieces, with a note after some of them."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    screen = Screen(width)
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.extend(everything(ours)))
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        shown = Rendered(stream)
        for number, piece in enumerate(pieces):
            shown.write(piece)
            if number in notes:
                with shown.aside():
                    stream.write("note\n")
        shown.end()
    reader.join()
    os.close(ours)
    screen.raw = b"".join(output).decode()
    return screen


def everything(descriptor: int) -> Iterator[bytes]:
    try:
        while piece := os.read(descriptor, 65536):
            yield piece
    except OSError:  # raised on Linux when the terminal is closed
        return


def test_markdown_is_rendered_completely() -> None:
    assert "\n".join(streamed(MARKDOWN).rows) == SHOWN


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("each_piece_is_drawn")
def test_the_result_does_not_depend_on_how_the_answer_is_split(seed: int) -> None:
    """The pieces are random, from a fixed seed."""
    chance = random.Random(seed)
    width = chance.choice([30, 60, 80, 160])
    pieces, rest = [], MARKDOWN
    while rest:
        size = chance.choice([1, 1, 2, 3, 5, 8, 40])
        pieces.append(rest[:size])
        rest = rest[size:]
    notes = chance.sample(range(len(pieces)), 3)

    whole, parts = streamed(MARKDOWN, width=width), streamed(*pieces, width=width, notes=notes)

    assert [row for row in parts.rows if row != "note"] == whole.rows
    assert parts.rows.count("note") == 3


@pytest.mark.usefixtures("each_piece_is_drawn")
def test_what_is_still_waited_for_leaves_no_trace_in_an_answer() -> None:
    screen = drawn(dedent(WAITING), width=60)
    assert "asking the Hub (0s)" in screen.raw
    assert screen.rows == ["A sum:", "", "Two plus two."]


def test_final_text_is_written_once() -> None:
    """Only the growing block is redrawn: text that has left the screen would be in the scrollback twice."""
    paragraphs = [f"Paragraph {number} of the answer." for number in range(40)]
    screen = streamed(*"\n\n".join(paragraphs), height=6)

    assert screen.rows == "\n\n".join(paragraphs).split("\n")
    for number in range(39):
        assert screen.raw.count(f"Paragraph {number} of the answer.\r\n") <= 2  # while it grew, and when it was final


@pytest.mark.parametrize(
    "block",
    [
        "word " * 400,
        "\n".join(f"- item {number}" for number in range(40)),
        "```\n" + "\n".join(f"code {number}" for number in range(40)) + "\n```",
        "|n|\n|-|\n" + "\n".join(f"|{number}|" for number in range(40)),
        "> " + "\n> ".join(f"- quoted {number}" for number in range(40)),
        "\n".join(f"{number},*name*,`value`" for number in range(100)),
    ],
)
@pytest.mark.usefixtures("each_piece_is_drawn")
def test_no_more_is_redrawn_than_fits_the_screen(block: str) -> None:
    screen = streamed(*re.findall(r"(?s).{1,7}", block), width=40, height=10)

    climbs = [run.count("\x1b[1A") for run in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", screen.raw)]
    assert max(climbs, default=0) < 10
    assert screen.rows == streamed(block, width=40, height=10).rows


def test_each_line_of_code_is_final_and_coloured() -> None:
    screen = streamed("```python\n", "def f():\n", "    return 1\n", "x = ", "2\n```\n")

    assert screen.rows == ["def f():", "    return 1", "x = 2"]
    assert screen.raw.count("return") == 1
    assert re.search(r"\x1b\[[0-9;]*mdef", screen.raw)


def test_code_without_a_closing_fence_is_shown_completely() -> None:
    assert streamed("Look:\n```\nrm", " -rf\n\n", "end").rows == ["Look:", "", "rm -rf", "", "end"]


def test_long_lines_of_code_are_not_wrapped() -> None:
    line = "x" * 150
    assert f"{line}\r\n" in streamed(f"```\n{line}\n```\n", width=60).raw


def test_at_the_end_the_cursor_is_visible_and_no_line_is_left_over() -> None:
    raw = streamed("One", " two").raw
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    assert streamed("One", " two").rows == ["One two"]
    assert streamed("\n", "\n").raw == ""


HOSTILE = "\x1b]52;c;c3Rv\x07\x1b[2J\x9b6n[bold]x[/bold] [/INST] :smile:\u202e &#x1b;]0;t&#7; &#x9b;2J &#x202e;"


@pytest.mark.parametrize(
    "pattern", ["{}", "# {}", "- {}", "`{}`", "```\n{}\n```", "|{}|\n|-|\n|{}|", "[{}](http://x/{})"]
)
def test_an_answer_cannot_steer_the_terminal(pattern: str) -> None:
    """Security checks 28 and 29: escape sequences in model output, raw or as entities, and rich's own markup."""
    raw = streamed(*pattern.replace("{}", HOSTILE), width=200).raw
    ours = re.sub(r"\x1b\[(\?25[lh]|[0-9;]*m|2K|1A)", "", raw)

    assert not set(re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", ours))
    assert "[bold]x[/bold]" in ours
    assert ":smile:" in ours


def test_the_address_of_a_link_is_shown() -> None:
    """A terminal hides the address of a link made with an escape sequence, and some cannot open it."""
    assert streamed("[docs](http://x/y)\n").rows == ["docs (http://x/y)"]


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("a\n\nb", ["paragraph_open", "paragraph_open"]),
        ("- a\n- b\n\n1. c", ["list_item_open", "list_item_open", "list_item_open"]),
        ("```\ncode", ["fence"]),
        ("", []),
    ],
)
def test_a_text_is_split_into_blocks(source: str, kinds: list[str]) -> None:
    assert [block.token.type for block in markdown.blocks(source)] == kinds


@pytest.mark.parametrize("width", [1, 5, 20])
def test_markdown_is_rendered_on_very_narrow_terminals(width: int) -> None:
    console = Console(width=width)
    for block in markdown.blocks(MARKDOWN):
        assert markdown.lines(block, console, width)


@pytest.mark.parametrize(
    "source", ["[" * 3000, "> " * 500 + "x", "- " * 300 + "x", "*a **a " * 2000, "|a" * 2000 + "|\n|-|"]
)
def test_no_answer_takes_long_to_render(source: str) -> None:
    """Endless repetitions of a model must not delay reading or Ctrl+C."""
    assert streamed(source, width=80).rows


LINES = {
    "code": ("```python\n", "    total = number({0}) + {0}  # a comment\n"),
    "json": ("```json\n", '  "key{0}": {{"value": {0}}},\n'),
    "table": ("|a|b|c|\n|-|-|-|\n", "|{0}|name {0}|`value` {0}|\n"),
    "csv": ("", "{0},name,*value* {0}\n"),
    "log": ("", "INFO [x.py:{0}] it_is * open ` {0}\n"),
    "quotation": ("", "> line {0}\n"),
    "code in a list": ("- item\n  ```python\n", "  total = number({0})\n"),
    "nested list": ("- item\n", "  - item {0}\n"),
    "indented": ("", "    total = number({0})\n"),
}


def work_on(head: str, line: str, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many functions are called for an answer with so many lines, on a clock that these calls move."""
    source = head + "".join(line.format(number) for number in range(count))
    calls = 0

    def count_calls(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        del frame, event, argument
        calls += 1

    monkeypatch.setattr(answer, "time", SimpleNamespace(monotonic=lambda: calls / 200_000))
    sys.setprofile(count_calls)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as stream:
            shown = Rendered(stream)
            for piece in re.findall(r"(?s).{1,7}", source):
                shown.write(piece)
            shown.end()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("kind", LINES)
def test_a_line_costs_the_same_whatever_came_before(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work_on(*LINES[kind], 20, monkeypatch)  # imports
    few, many = (work_on(*LINES[kind], count, monkeypatch) for count in (200, 1000))
    assert many / 1000 < 2.5 * few / 200  # it was 5 where each drawing parsed everything
