"""Remote logs: on a terminal without control sequences but colour, elsewhere byte for byte."""

import sys
from collections.abc import Callable


def sink() -> Callable[[bytes], None]:
    """Return where to put the bytes of a log."""
    if not sys.stdout.isatty():
        return _write_bytes
    import codecs

    from pi_cli.view.safe import Sanitizer

    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    sanitizer = Sanitizer(colour=True)

    def write_safely(chunk: bytes) -> None:
        sys.stdout.write(sanitizer.feed(decode(chunk)))
        sys.stdout.flush()

    return write_safely


def _write_bytes(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
