"""Foreign text made safe: what a model, a pod, a file or a log says must never steer a terminal.

On the ground floor, since such text is made safe where it enters: from a pod, from `pods.json`, from a model.
"""

import re
from functools import cache

LONGEST = 4096  # characters held back at most, waiting for the end of a sequence


@cache  # compiled when first needed: most text has nothing in it that acts
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of what must not act, of the beginning of a sequence at the end of a piece, and of colours.

    Escape sequences are as ECMA-48 has them, 7-bit and 8-bit. A string that is never ended hides nothing: only its
    introducer matches then, as a sequence of two characters.
    """
    sequence = re.compile(
        r"""
          (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                                       # CSI: colour, cursor, clearing
        | (?:\x1b\]|\x9d) [^\x07\n\r\x1b\x80-\x9f]* (?:\x07|\x1b\\|\x9c)            # OSC: title, clipboard, links
        | (?:\x1b[PX^_]|[\x90\x98\x9e\x9f]) [^\n\r\x1b\x80-\x9f]* (?:\x1b\\|\x9c)   # DCS, SOS, PM, APC
        | \x1b [ -/]* [0-~]                                                         # everything else behind ESC
        | [\x00-\x08\x0b-\x1f\x7f-\x9f]                                             # what is left of C0 and C1
        | [\u202a-\u202e\u2066-\u2069]                                              # reorders what is read
        | [\ud800-\udfff]                                                           # half a character
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
    """Makes a stream of text safe, however it is cut into pieces.

    Escape sequences go, but for colours if `colour` is set; other control characters are shown as `^G` or `<U+009B>`,
    and so are the characters that reverse the direction of text. A carriage return becomes a new line, unless
    `returns` lets it overwrite the line, as progress bars do.
    """

    def __init__(self, *, colour: bool, returns: bool = False) -> None:
        self._colour = colour
        self._returns = returns
        self._held = ""

    def feed(self, text: str) -> str:
        """Take in the next piece and return what can be shown by now."""
        text = self._held + text
        beginning = _patterns()[1].search(text)
        end = beginning.start() if beginning and len(text) - beginning.start() <= LONGEST else len(text)
        self._held = text[end:]
        return self._made_safe(text[:end])

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return self._made_safe(held)

    def _made_safe(self, text: str) -> str:
        if not self._returns:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return _patterns()[0].sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        found = match[0]
        if found == "\r":
            return found
        if len(found) > 1:
            return found if self._colour and _patterns()[2].fullmatch(found) else ""
        return shown(found)


def shown(character: str) -> str:
    """Spell a character that must not act.

    >>> shown(chr(7)), shown(chr(0x202E))
    ('^G', '<U+202E>')
    """
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"<U+{code:04X}>"


def safe(text: str, *, colour: bool = False, returns: bool = False) -> str:
    """Make a whole text safe for a terminal; see `Sanitizer`."""
    if text.isprintable():
        return text
    sanitizer = Sanitizer(colour=colour, returns=returns)
    return sanitizer.feed(text) + sanitizer.end()


def safe_line(text: str) -> str:
    r"""Make a text safe that belongs on one line: a name, a path, a reason.

    >>> safe_line("q\x1b]0;title\x07wen\n72b")
    'qwen 72b'
    """
    return text if text.isprintable() else " ".join(safe(text).split())
