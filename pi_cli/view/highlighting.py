"""Colours code line after line, at a cost that does not grow with the lines before."""

from collections.abc import Iterator
from typing import Any

from pygments.lexer import ExtendedRegexLexer, LexerContext, RegexLexer
from rich.syntax import Syntax
from rich.text import Text

from pi_cli.safe import safe

THEME = "ansi_dark"  # the terminal's own colours, on its own background
TAB_SIZE = 4


def highlighted(code: str, language: str) -> Text:
    """Return code in colour; in plain text if the language has no name."""
    if not language:
        return Text(safe(code))
    text = Syntax("", language, theme=THEME, background_color="default").highlight(safe(code))
    text.rstrip()
    return text


class Highlighter:
    """The lines of one piece of code, which arrive one after the other.

    What a line needs of those before it is the state of the lexer, for example that a docstring is open. Lexers that
    cannot be continued (JSON, YAML, consoles) colour each line on its own.
    """

    def __init__(self, language: str) -> None:
        self._lexer: Any = Syntax("", language, tab_size=TAB_SIZE).lexer if language else None
        self._stack = ["root"]
        self._is_continued = isinstance(self._lexer, RegexLexer) and (
            not isinstance(self._lexer, ExtendedRegexLexer)
            or type(self._lexer).get_tokens_unprocessed is ExtendedRegexLexer.get_tokens_unprocessed
        )

    def line(self, line: str) -> Text:
        """Return a complete line in colour; the next one continues it."""
        coloured, self._stack = self._coloured(line)
        return coloured

    def preview(self, line: str) -> Text:
        """Return the next line in colour while it may still grow."""
        return self._coloured(line)[0]

    def _coloured(self, line: str) -> tuple[Text, list[str]]:
        """Return the line in colour, and the state of the lexer behind it."""
        if self._lexer is None:
            return Text(safe(line)), self._stack
        context = LexerContext(safe(line).expandtabs(TAB_SIZE) + "\n", 0, list(self._stack))
        theme = Syntax.get_theme(THEME)
        text = Text()
        text.append_tokens((value, theme.get_style_for_token(kind)) for kind, value in self._tokens(context))
        text.rstrip()
        return text, context.stack

    def _tokens(self, context: LexerContext) -> Iterator[tuple[Any, str]]:
        if self._is_continued:
            try:
                tokens = list(ExtendedRegexLexer.get_tokens_unprocessed(self._lexer, context=context))
            except TypeError:  # a lexer with actions that take no context, for example that of Markdown
                self._is_continued = False
        if not self._is_continued:
            tokens = self._lexer.get_tokens_unprocessed(context.text)
        for _, kind, value in tokens:
            yield kind, value
