"""Make foreign text safe: text from a model, a pod, a file or a log must never steer the terminal.

On the ground floor, because such text is made safe where it enters: from a pod, from `pods.json`, from a model.
"""

import re
from functools import cache

MAX_BUFFERED = 4096  # characters of an unfinished sequence that are buffered until its end arrives


@cache  # compiled when first needed: most text has no control characters
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return three patterns: unsafe text, a sequence that starts at the end of a piece, and a colour sequence.

    Escape sequences follow ECMA-48, 7-bit and 8-bit. A string sequence without an end hides nothing: then only its
    introducer matches, as a sequence of two characters.
    """
    sequence = re.compile(
        r"""
          (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                                       # CSI: colour, cursor, clearing
        | (?:\x1b\]|\x9d) [^\x07\n\r\x1b\x80-\x9f]* (?:\x07|\x1b\\|\x9c)            # OSC: title, clipboard, links
        | (?:\x1b[PX^_]|[\x90\x98\x9e\x9f]) [^\n\r\x1b\x80-\x9f]* (?:\x1b\\|\x9c)   # DCS, SOS, PM, APC
        | \x1b [ -/]* [0-~]                                                         # every other ESC sequence
        | [\x00-\x08\x0b-\x1f\x7f-\x9f]                                             # the rest of C0 and C1
        | [\u202a-\u202e\u2066-\u2069]                                              # reorders the text that follows
        | [\ud800-\udfff]                                                           # lone surrogates
        """,
        re.VERBOSE,
    )
    beginning = re.compile(
        r"""
        (?: (?:\x1b\[|\x9b) [0-?]* [ -/]*
          | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]) [^\x07\n\r\x1b\x80-\x9f]* \x1b?
          | \x1b [ -/]*
          | \r
        ) \Z
        """,
        re.VERBOSE,
    )
    return sequence, beginning, re.compile(r"\x1b\[[0-9;:]*m")


class Sanitizer:
    """Makes a stream of text safe, however it is split into pieces.

    Escape sequences are removed, except colours if `colour` is set. Other control characters, and those that reverse
    the direction of text, are shown as `^G` or `<U+202E>`. A carriage return becomes a newline, unless `returns` lets
    it overwrite the line, as progress bars do.
    """

    def __init__(self, *, colour: bool, returns: bool = False) -> None:
        self._colour = colour
        self._returns = returns
        self._buffer = ""

    def feed(self, text: str) -> str:
        """Add the next piece and return the text that can be shown now."""
        if not self._buffer and _is_plain(text):
            return text
        text = self._buffer + text
        beginning = _patterns()[1].search(text)
        end = beginning.start() if beginning and len(text) - beginning.start() <= MAX_BUFFERED else len(text)
        self._buffer = text[end:]
        return self._made_safe(text[:end])

    def end(self) -> str:
        """Return the text that is still buffered."""
        text, self._buffer = self._buffer, ""
        return self._made_safe(text)

    def _made_safe(self, text: str) -> str:
        if not self._returns:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return _patterns()[0].sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        unsafe = match[0]
        if unsafe == "\r":
            return unsafe
        if len(unsafe) > 1:
            return unsafe if self._colour and _patterns()[2].fullmatch(unsafe) else ""
        return visible(unsafe)


def _is_plain(text: str) -> bool:
    """Return whether nothing in a text acts: so is nearly all of a log, and the patterns take forty times as long."""
    return text.replace("\n", " ").replace("\t", " ").isprintable()


def visible(character: str) -> str:
    """Return a visible name of a control character.

    >>> visible(chr(7)), visible(chr(0x202E))
    ('^G', '<U+202E>')
    """
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"<U+{code:04X}>"


def safe(text: str, *, colour: bool = False, returns: bool = False) -> str:
    """Make a complete text safe for a terminal; see `Sanitizer`."""
    if _is_plain(text):
        return text
    sanitizer = Sanitizer(colour=colour, returns=returns)
    return sanitizer.feed(text) + sanitizer.end()


def safe_line(text: str) -> str:
    r"""Make a text safe and put it on one line, for example a name, a path or a reason.

    >>> safe_line("q\x1b]0;title\x07wen\n72b")
    'qwen 72b'
    """
    return text if text.isprintable() else " ".join(safe(text).split())
