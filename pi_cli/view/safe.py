"""Foreign text made safe for a terminal: what a model, a pod or a log says must never steer it."""

import re

# Escape sequences as ECMA-48 has them, 7-bit and 8-bit. A string that is never ended hides nothing: only its
# introducer matches then, as a sequence of two characters.
SEQUENCE = re.compile(
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

# The beginning of a sequence at the end of a piece; the rest of it may come with the next.
BEGINNING = re.compile(
    r"""
    (?: (?:\x1b\[|\x9b) [0-?]* [ -/]*
      | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]) [^\x07\n\r\x1b\x80-\x9f]* \x1b?
      | \x1b [ -/]*
      | \r
    ) \Z
    """,
    re.VERBOSE,
)
LONGEST = 4096  # held back at most, waiting for the end of a sequence

COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


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
        beginning = BEGINNING.search(text)
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
        return SEQUENCE.sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        found = match[0]
        if found == "\r":
            return found
        if len(found) > 1:
            return found if self._colour and COLOUR.fullmatch(found) else ""
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
    sanitizer = Sanitizer(colour=colour, returns=returns)
    return sanitizer.feed(text) + sanitizer.end()
