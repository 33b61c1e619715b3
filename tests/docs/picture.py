"""Write what pi prints for the quick start: docs/picture.svg and a block of README.md. `python -m tests.docs.picture`.

A file whose text says the same, but for times and ports, is left as it is: what is written does not change by itself.
"""

import html
import io
import os
import re
import sys
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.docs import recording
from tests.docs.recording import COLUMNS, README, Step
from tests.forkserver import FORKSERVER

PICTURE = README.parent / "docs" / "picture.svg"
IN_THE_PICTURE = ("start", "prompt")
BLOCK = re.compile(r"(?<=<!-- recorded: written by `make picture` -->\n).*?(?=<!-- end of recorded -->)", re.DOTALL)
RUN = re.compile(r'<text [^>]*?y="([\d.]+)"[^>]*>(.*?)</text>', re.DOTALL)

LIGHT = TerminalTheme(
    (255, 255, 255), (31, 35, 40),
    [(36, 41, 47), (207, 34, 46), (17, 99, 41), (122, 78, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131),
     (90, 96, 104)],
)  # fmt: skip
DARK = TerminalTheme(
    (13, 17, 23), (230, 237, 243),
    [(139, 148, 158), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
)  # fmt: skip

# No font is fetched: the widths come from rich, which gives each run of letters its length.
FORMAT = """\
<svg class="rich-terminal" viewBox="-9 -9 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
.window {{ fill: #ffffff; stroke: #8b949e; stroke-width: 2px; }}
{styles}
DARK-STYLES
</style>
<rect class="window" x="-9" y="-9" width="100%" height="100%" rx="8"/>
<defs>
{lines}
</defs>
<g>
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw(steps: list[Step]) -> str:
    """Return the picture, in the colours of the reader's system: light or dark."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for number, step in enumerate(step for step in steps if step.line.split()[1] in IN_THE_PICTURE):
        console.print(*[""] * (number > 0), Text.assemble(("$ ", "bold green"), (step.line, "bold")), sep="\n")
        for row in step.screen.coloured:
            console.print(Text.from_ansi(row), soft_wrap=True)
    dark = console.export_svg(theme=DARK, clear=False, unique_id="pi", code_format="{styles}")
    picture = console.export_svg(theme=LIGHT, unique_id="pi", code_format=FORMAT)
    media = f"@media (prefers-color-scheme: dark) {{\n.window {{ fill: #0d1117; }}\n{dark}\n}}"
    return picture.replace("DARK-STYLES", media)


def text(picture: str) -> str:
    """Return the text in a picture, row by row."""
    rows = groupby(RUN.findall(picture), key=itemgetter(0))
    lines = ["".join(html.unescape(run) for _, run in row) for _, row in rows]
    return "".join(line.replace("\N{NO-BREAK SPACE}", " ").rstrip() + "\n" for line in lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as home, recording.machine() as pod:
        for name in [name for name in os.environ if name.startswith(("PI_", "HF_", "OPENAI_", "NO_COLOR"))]:
            del os.environ[name]
        os.environ |= {"HOME": home, "PI_CONFIG_DIR": f"{home}/.pi", "TERM": "xterm-256color"}
        steps = list(recording.walk(pod, {}))
    FORKSERVER.close()
    if failed := [step for step in steps if step.code]:
        sys.exit("\n".join([failed[0].line, *failed[0].screen.rows]))
    readme = README.read_text(encoding="utf-8")
    before, after = BLOCK.findall(readme)[0], recording.transcript(steps)
    if recording.normal(before) != recording.normal(after):
        README.write_text(BLOCK.sub(lambda _: after, readme), encoding="utf-8")
    keep(PICTURE, draw(steps))


def keep(file: Path, picture: str) -> None:
    """Write a picture, unless the file differs in numbers only."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if recording.normal(before) != recording.normal(picture):
        file.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
