"""A connection to the port of a model over a held link: the same methods as of asyncssh's reader and writer."""

from collections.abc import Callable

from pi_cli.hold.conversation import Conversation


class Reader:
    """What comes from the pod; `on_lost` is called when the link is lost before everything has come."""

    def __init__(self, talk: Conversation, on_lost: Callable[[], None]) -> None:
        self._talk, self._on_lost = talk, on_lost
        self._rest = b""
        self._is_at_end = False

    async def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end. Raises `ConnectionResetError` if the link is lost."""
        if not self._rest and not self._is_at_end:
            try:
                self._rest = await self._talk.next()
            except ConnectionResetError:
                self._on_lost()
                raise
            self._is_at_end = not self._rest
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Writer:
    """What goes to the pod; `channel` can be closed at once."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.channel = self

    def write(self, data: bytes) -> None:
        self._talk.writer.write(data)

    async def drain(self) -> None:
        await self._talk.writer.drain()

    def write_eof(self) -> None:
        self._talk.writer.write_eof()

    def abort(self) -> None:
        self._talk.close()
