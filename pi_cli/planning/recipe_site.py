"""Fetch the published vLLM recipes from their site, or from a mirror of it.

The site has an index, `models.json`, and a JSON document for each model at `/OWNER/NAME.json`. Each has an ETag, which
is stored, so that only what has changed is sent again. No token is sent; sizes and times are bounded.
"""

import asyncio
import collections
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pi_cli import __version__, waits
from pi_cli.errors import BadUsage, PiError
from pi_cli.planning import recipe_snapshot
from pi_cli.planning.recipe_snapshot import ETAG, INDEX, Document, Snapshot

if TYPE_CHECKING:
    import httpx2

SITE = "https://recipes.vllm.ai"
TIMEOUT = 120.0  # seconds for all documents together
REQUEST_TIMEOUT = 10.0  # seconds to connect, and between two parts of an answer
AT_ONCE = 8  # requests
MAX_REDIRECTS = 3
MAX_INDEX = 2_000_000  # bytes; the site's had 76,499 for 332 models in August 2026
MAX_DOCUMENT = 1_000_000  # bytes; the largest had 59,287
GONE = (403, 404, 410)  # of one document: its model is left out


class NotFetched(PiError):
    """The recipes could not be fetched; what was fetched before stays."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot fetch the recipes from {_without_password(source)}: {reason}",
            hint="nothing was changed; check this machine's network, or give a mirror or a file with "
            "`pi models update --from`",
        )


async def fetch(source: str, previous: Snapshot | None, *, timeout: float = TIMEOUT) -> Snapshot:
    """Return what a site publishes now; unchanged documents are taken from the previous snapshot of the same site.

    Raises `NotFetched`, or `BadUsage` for an address that is not one of HTTP.
    """
    if not re.match(r"https?://[^/?#]", source) or "[" in source:
        raise BadUsage(
            f"`{source}` is neither an address of the web nor a file", hint="for example: `--from recipes.json`"
        )
    source = source.rstrip("/")
    name = _without_password(source)
    known = previous if previous and previous.source == name else Snapshot(name)
    with waits.on("fetching the recipes of", name):
        return await _in_thread(lambda: _fetch(source, known), source, timeout)


def _fetch(source: str, known: Snapshot) -> Snapshot:
    import httpx2

    headers = {"user-agent": f"pi/{__version__}", "accept": "application/json"}
    with httpx2.Client(timeout=httpx2.Timeout(REQUEST_TIMEOUT), headers=headers) as client:
        ask = functools.partial(_get, client, source)
        etag = known.etag if known.documents else ""
        with _translated(source):
            answer = ask(f"/{INDEX}", etag, MAX_INDEX)
            listed = [(each.page, path) for path, each in known.documents.items()]
            if answer is not None:
                listed, etag = recipe_snapshot.listed(recipe_snapshot.parsed(answer.body)), answer.etag
        return Snapshot(known.source, _fetch_all(ask, source, listed, known), etag)


def _fetch_all(ask: "Ask", source: str, listed: Sequence[tuple[str, str]], known: Snapshot) -> dict[str, Document]:
    """Return all documents by path; several are asked for at once, and the first failure ends all."""
    found: dict[str, Document] = {}
    errors: list[BaseException] = []
    waiting = collections.deque(listed)

    def work() -> None:
        while not errors:
            try:
                page, path = waiting.popleft()
            except IndexError:
                return
            try:
                with _translated(source):
                    found[path] = _fetch_document(ask, page, path, known.documents.get(path))
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

    threads = [threading.Thread(target=work, name="recipes", daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {path: found[path] for _, path in listed}


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    etag: str


class _Refused(Exception):
    """The site's answer is not a document: another status than 200 and 304, too large, or a redirect to elsewhere."""

    def __init__(self, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.is_gone = is_gone


Ask = Callable[[str, str, int], _Answer | None]  # path, ETag, limit in bytes


def _fetch_document(ask: Ask, page: str, path: str, known: Document | None) -> Document:
    try:
        answer = ask(path, known.etag if known else "", MAX_DOCUMENT)
    except _Refused as refusal:
        if refusal.is_gone:
            return Document(page, None, "the site does not have it")
        raise
    if answer is None:
        assert known is not None
        return known
    try:
        return recipe_snapshot.document(page, recipe_snapshot.parsed(answer.body), answer.etag)
    except ValueError as error:
        return Document(page, None, str(error), answer.etag)


def _get(client: "httpx2.Client", source: str, path: str, etag: str, limit: int) -> _Answer | None:
    """Return what is at a path of the site; None if it has not changed since it had this ETag."""
    url = source + path
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("GET", url, headers={"if-none-match": etag} if etag else {}) as response:
            if response.status_code == 304 and etag:
                return None
            if not response.has_redirect_location:
                return _read_answer(response, path, limit)
            target = str(response.url.join(response.headers["location"]))
            if urlsplit(target).scheme != urlsplit(url).scheme:
                raise _Refused(f"{path} redirects to another scheme than {urlsplit(url).scheme}")
            url = target
    raise _Refused(f"{path} redirects more than {MAX_REDIRECTS} times")


def _read_answer(response: "httpx2.Response", path: str, limit: int) -> _Answer:
    if response.status_code != 200:
        raise _Refused(f"it answered {response.status_code} for {path}", is_gone=response.status_code in GONE)
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > limit:
            raise _Refused(f"{path} has more than {limit:,} bytes")
    etag = response.headers.get("etag", "")
    return _Answer(bytes(body), etag if ETAG.fullmatch(etag) else "")


@contextmanager
def _translated(source: str) -> Iterator[None]:
    """Turn every failure of a request into `NotFetched`."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise NotFetched(source, "it did not answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ImportError) as error:  # httpx2 lacks SOCKS: ImportError
        raise NotFetched(source, _innermost(error)) from error
    except (_Refused, ValueError) as error:
        raise NotFetched(source, str(error)) from error


async def _in_thread(work: Callable[[], Snapshot], source: str, timeout: float) -> Snapshot:
    """Return the snapshot, or raise `NotFetched` after `timeout` seconds.

    The requests run in daemon threads, not joined at exit: a name lookup can be neither bounded nor interrupted.
    """
    answer: Future[Snapshot] = Future()
    answer.set_running_or_notify_cancel()  # from now on, cancelling the wait does not affect the thread

    def follow() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=follow, name="recipes", daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(answer)
    except TimeoutError as error:
        raise NotFetched(source, f"it took longer than {timeout:g} seconds") from error


def _innermost(error: BaseException) -> str:
    """Return the message of the original failure: the system's own message, if there is one."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    if isinstance(error, ConnectionError) and error.errno:  # asyncio's message has the address instead of the reason
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _without_password(source: str) -> str:
    return re.sub("//[^/]*@", "//", source)
