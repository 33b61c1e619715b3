"""The pages of the documentation that pi ships, for `pi help PAGE`: rendered on a terminal, Markdown in a pipe."""

import os
import re
import sys

from pi_cli import hints
from pi_cli.store import paths
from pi_cli.store.pages import PAGES
from pi_cli.view import terminal

WIDEST = 100  # columns: longer lines are hard to read
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
NOT_FOR_A_TERMINAL = re.compile(r"<picture>.*?</picture>\n*|<!--.*?-->\n*", re.DOTALL)


def show(name: str, before: str = "") -> None:
    """Print a page, behind the help of a command of that name; on a terminal that is too low, through a pager."""
    text = markdown(name)
    console = terminal.out()
    if not console.is_terminal:
        _write(f"{before}{text}")
        return
    from rich.markdown import Markdown
    from rich.theme import Theme

    from pi_cli.view.highlighting import THEME

    console.width = min(console.width, WIDEST)
    page = Markdown(text, hyperlinks=False, code_theme=THEME)
    # Only colours of the terminal, on its own background: rich's code is on black.
    with console.use_theme(Theme({"markdown.code": "cyan"})), console.capture() as rendered:
        console.print(page)
    show_text(before + "\n".join(line.rstrip() for line in rendered.get().split("\n")), console.height)


def show_text(text: str, height: int) -> None:
    """Print a text; through the user's pager if it is longer than the screen, and a user is there to turn the pages."""
    if text.count("\n") < height or not sys.stdin.isatty():
        _write(text)
        return
    import pydoc  # finds the pager: PAGER, else less or more

    os.environ["LESS"] = f"{os.environ.get('LESS', '-FX')} -R"  # -R: less shows colours instead of escape sequences
    pydoc.pager(text)


def _write(text: str) -> None:
    """Print a text in an encoding that may lack some of its characters, e.g. latin-1."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def markdown(name: str) -> str:
    """Return the Markdown of a page, with `pi help PAGE` in the place of links to other pages."""
    text = paths.asset(PAGES[name]).read_text(encoding="utf-8")
    return LINK.sub(_without_link, NOT_FOR_A_TERMINAL.sub("", text))


def _without_link(link: re.Match[str]) -> str:
    """Return what stands for a link: links to files lead nowhere once pi is installed.

    >>> LINK.sub(_without_link, "see [docs/ssh.md](ssh.md#keys), [keys](docs/ssh.md), [below](#below), [x](https://x.y)")
    'see `pi help ssh`, keys (`pi help ssh`), below, [x](https://x.y)'
    """
    text, target = link.groups()
    file = target.partition("#")[0]
    if "://" in target:
        return link[0]
    command = _command(file)
    if not command:
        return text
    return f"`{command}`" if text.strip("`").endswith(".md") else f"{text} (`{command}`)"


def _command(file: str) -> str:
    """Return the command that shows a file, named by a link on a page; empty if pi does not ship it as a page."""
    if file.endswith("models.md"):
        return "pi models"
    ending = file.removeprefix("../").removeprefix("docs/")
    found = [name for name, path in PAGES.items() if path.removeprefix("docs/") == ending]
    if ending == "README.md":
        found = ["readme" if file == "../README.md" else "pages"]
    return hints.command("pi", "help", found[0]) if found else ""
