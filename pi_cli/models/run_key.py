"""A key that is good at one local port only, which swaps it for the model's key in the heads of requests.

What a program sends to other servers, logs or writes to disk is then worth nothing there. Only heads are read and
written anew; bodies, answers, and everything after a change of protocol pass unchanged and at once.
"""

import hmac
import secrets

import h11

from pi_cli.ssh.forwarding import NotPassed

PREFIX = "pi-run-"  # tells what it is to those who find one in a log
MAX_HEAD = 65536  # bytes; uvicorn, in front of vLLM, accepts no more
CHUNKED_PIECE = 4096  # bytes; each chunk costs a copy of what comes after it in the same piece
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nhost: pod\r\ntransfer-encoding: chunked\r\n\r\n"
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def new() -> str:
    """Return a new key of 32 random bytes."""
    return PREFIX + secrets.token_urlsafe(32)


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)


class KeySwap:
    """The requests on one connection. `feed` takes what the client sends, and returns what goes to the model."""

    def __init__(self, run_key: str, key: str) -> None:
        self.awaits_answer = False
        """The client asks for another protocol, and what comes next depends on the answer (see `answered`)."""
        self._run_key, self._key = run_key.encode(), key.encode()
        self._parser = _parser()
        self._left: int | None = 0  # bytes of the body; None: it is chunked
        self._asks_for_upgrade = False
        self._is_raw = False  # the protocol has changed
        self._later = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now. Raises `NotPassed` for what is not HTTP/1.1."""
        data, self._later = self._later + data, b""
        passed: list[bytes] = []
        while data and not self.awaits_answer:
            if self._is_raw:
                passed.append(data)
                data = b""
            elif self._left:
                body, data = data[: self._left], data[self._left :]
                self._left -= len(body)
                passed.append(body)
            elif self._left is None:
                data = self._read_chunks(data[:CHUNKED_PIECE], passed) + data[CHUNKED_PIECE:]
            else:
                data = self._read_head(data, passed)
            self.awaits_answer = self._asks_for_upgrade and self._left == 0
        self._later = data
        return b"".join(passed)

    def answered(self, first: bytes) -> bytes:
        """Take the beginning of the answer to a change of protocol; return what can be passed on now."""
        self.awaits_answer = self._asks_for_upgrade = False
        self._is_raw = first.startswith(b"HTTP/1.1 101")
        return self.feed(b"")

    def _read_head(self, data: bytes, passed: list[bytes]) -> bytes:
        """Read until the end of a head; return what comes after it."""
        event = self._next(data)
        if not isinstance(event, h11.Request):
            return b""  # the parser keeps an incomplete head
        rest, _ = self._parser.trailing_data
        headers = [(name, self._swapped(name, value)) for name, value in event.headers.raw_items()]
        first = b"%s %s HTTP/%s\r\n" % (event.method, event.target, event.http_version)
        passed.append(first + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n")
        names = {name.lower(): value for name, value in event.headers}
        self._asks_for_upgrade = b"upgrade" in names or event.method == b"CONNECT"
        self._parser, self._left = _parser(), int(names.get(b"content-length", b"0"))
        if b"transfer-encoding" in names:
            self._left = None
            self._parser.receive_data(CHUNKED_HEAD)
            self._parser.next_event()
        return rest

    def _read_chunks(self, data: bytes, passed: list[bytes]) -> bytes:
        """Pass on a chunked body; return what comes after it."""
        event = self._next(data)
        while event is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                rest, _ = self._parser.trailing_data
                passed.append(data[: len(data) - len(rest)])
                self._parser, self._left = _parser(), 0
                return rest
            event = self._next(b"")
        passed.append(data)
        return b""

    def _next(self, data: bytes) -> object:
        try:
            if data:
                self._parser.receive_data(data)
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise NotPassed(BAD_REQUEST) from error

    def _swapped(self, name: bytes, value: bytes) -> bytes:
        match name.lower():
            case b"authorization":
                kind, _, given = value.partition(b" ")
                is_ours = kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._run_key)
                return b"Bearer " + self._key if is_ours else value
            case b"x-api-key":
                return self._key if hmac.compare_digest(value, self._run_key) else value
        return value
