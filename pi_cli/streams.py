"""What pi writes where stdout or stderr cannot represent a character: the nearest text, never an error."""

import codecs
import sys
import unicodedata

NEAREST = {
    "…": "...", "≈": "~", "→": "->", "←": "<-", "↑": "^", "↓": "v", "✓": "ok", "✔": "ok", "✗": "x", "✘": "x",
    "–": "-", "—": "-", "−": "-", "‑": "-", "·": "-", "•": "*", "×": "x", "≤": "<=", "≥": ">=", "±": "+-",
    "‘": "'", "’": "'", "“": '"', "”": '"', "€": "EUR ", "£": "GBP ", "¥": "JPY ",
}  # fmt: skip
HANDLER = "pi.nearest"
ASCII = "pi_ascii"  # ASCII under another name: where the encoding is called `ascii`, Typer writes UTF-8 all the same


def accept_every_character() -> None:
    """Let the streams accept every character, whatever encoding the terminal, the locale or PYTHONIOENCODING has."""
    if sys.stdin and hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    for stream in (sys.stdout, sys.stderr):
        if not is_unicode(stream.encoding) and hasattr(stream, "reconfigure"):
            codecs.register_error(HANDLER, _nearest)
            codecs.register(_ascii)
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if is_ascii else stream.encoding, errors=HANDLER)


def is_unicode(encoding: str | None) -> bool:
    return "utf" in (encoding or "").lower()


def nearest(character: str) -> str:
    """Return a text in ASCII for a character.

    >>> [nearest(character) for character in "…≈éß漢"]
    ['...', '~', 'e', '?', '?']
    """
    if character in NEAREST:
        return NEAREST[character]
    letters = unicodedata.normalize("NFKD", character)
    return "".join(letter for letter in letters if letter.isascii()) or "?"


def _ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    ascii = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii.encode, ascii.decode, ascii.streamreader, ascii.streamwriter, ascii.incrementalencoder,
        ascii.incrementaldecoder, name=ASCII,
    )  # fmt: skip


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(nearest, error.object[error.start : error.end])), error.end
