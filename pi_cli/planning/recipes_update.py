"""Fetch the published vLLM recipes, from their site, a mirror of it, or a file; compare them and store them.

The site has an index, `models.json`, and a JSON document for each model at `/OWNER/NAME.json`. Each has an ETag, which
is stored, so that only what has changed is sent again. No token is sent. Sizes and times are bounded, every document is
checked by `recipes.parse`, and the file is replaced only when all of them are there.
"""

import asyncio
import functools
import json
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pi_cli import __version__
from pi_cli.errors import BadUsage, PiError
from pi_cli.planning import catalogue, recipes
from pi_cli.planning.recipe_arguments import NotAllowed
from pi_cli.planning.recipes import Malformed, Recipe
from pi_cli.store import files

if TYPE_CHECKING:
    import httpx2

SITE = "https://recipes.vllm.ai"
INDEX = "models.json"
TIMEOUT = 120.0  # seconds for all documents together
REQUEST_TIMEOUT = 10.0  # seconds to connect, and between two parts of an answer
AT_ONCE = 8  # requests
MAX_REDIRECTS = 3
MAX_INDEX = 2_000_000  # bytes; the site's had 76,499 for 332 models in August 2026
MAX_DOCUMENT = 1_000_000  # bytes; the largest had 59,287
MAX_FILE = 64_000_000  # bytes of a file for `--from`
MAX_MODELS = 3000
PATH = re.compile(r"/[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*\.json", re.ASCII)
ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')
GONE = (403, 404, 410)  # of one document: its model is left out


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the recipes: its recipe, or the reason why pi cannot use it."""

    page: str
    recipe: Recipe | None = None
    refused: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a snapshot brings, as ids of models: against the last update, or else against our own catalogue."""

    new: list[str]
    changed: list[str]
    same: list[str]
    gone: list[str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All documents of a site by their paths, as they were at one time; `etag` is that of the index."""

    source: str
    documents: Mapping[str, Document] = field(default_factory=dict)
    etag: str = ""

    @property
    def by_model(self) -> dict[str, Recipe]:
        """Return the recipes by the id of the model in lower case; a recipe of the same name comes first."""
        found = [document.recipe for document in self.documents.values() if document.recipe]
        found.sort(key=lambda recipe: recipe.page.lower() == recipe.id.lower())
        return {recipe.id.lower(): recipe for recipe in found}

    @property
    def refused(self) -> dict[str, str]:
        """Return why models are left out, by the id of the recipe."""
        return {each.page: each.refused for each in self.documents.values() if each.recipe is None}

    @property
    def updated(self) -> str:
        """Return the date of the newest recipe."""
        return max((recipe.updated for recipe in self.by_model.values()), default="")


class NotFetched(PiError):
    """The recipes could not be fetched; what was fetched before stays."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot fetch the recipes from {_without_password(source)}: {reason}",
            hint="nothing was changed; check this machine's network, or give a mirror or a file with "
            "`pi models update --from`",
        )


async def fetch(source: str, previous: Snapshot | None) -> Snapshot:
    """Return what a site publishes now; unchanged documents are taken from the previous snapshot of the same site.

    Raises `NotFetched`, or `BadUsage` for an address that is not one of HTTP.
    """
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadUsage(
            f"`{source}` is neither an address of the web nor a file", hint="for example: `--from recipes.json`"
        )
    known = previous if previous and previous.source == source else Snapshot(source)
    return await _in_thread(lambda: _fetch(source.rstrip("/"), known), source)


def read(file: Path) -> Snapshot:
    """Return the recipes in a folder laid out as the site, or in a file: documents of the site, or what pi stored.

    Raises `BadUsage` for what is neither.
    """
    try:
        if file.is_dir():
            index = _parsed(_bounded(file / INDEX))
            documents = {path: _document(page, _read_json(file / path.lstrip("/"))) for page, path in _listed(index)}
            return Snapshot(str(file), documents)
        data = _parsed(_bounded(file))
        if isinstance(data, dict) and data.get("format") == recipes.FORMAT:
            return _from_json(data)
        rows = data if isinstance(data, list) else [data]
        pages = [str(row.get("hf_id"))[:200] for row in rows if isinstance(row, dict) and "recommended_command" in row]
        if len(pages) != len(rows) or len(rows) > MAX_MODELS:
            raise ValueError("it has no recipes in it")
        return Snapshot(
            str(file), {f"/{page}.json": _document(page, row) for page, row in zip(pages, rows, strict=True)}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadUsage(
            f"cannot read recipes from `{file}`: {reason}",
            hint="give a folder with the site's `models.json`, a document of a model, a list of such documents, or the "
            "`catalogue/recipes.json` of another pi",
        ) from error


def compare(previous: Snapshot | None, now: Snapshot) -> Changes:
    """Compare a snapshot with the last update; models that this one did not have, with our catalogue."""
    before, after = previous.by_model if previous else {}, now.by_model
    ours = {model.lower() for model in catalogue.ids()}
    changes = Changes([], [], [], [before[model].id for model in before if model not in after])
    for model, recipe in sorted(after.items()):
        if model in before:
            (changes.same if before[model] == recipe else changes.changed).append(recipe.id)
        elif model in ours:
            (changes.changed if recipe.updated > recipes.SHIPPED else changes.same).append(recipe.id)
        else:
            changes.new.append(recipe.id)
    return changes


def stored() -> Snapshot | None:
    """Return what was stored by the last update; None if there is nothing, or it cannot be read."""
    try:
        return _from_json(json.loads(recipes.path().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def store(snapshot: Snapshot) -> None:
    """Replace the stored recipes."""
    path = recipes.path()
    with files.locked(path):
        files.replace(path, json.dumps(_as_json(snapshot), ensure_ascii=False, indent=1) + "\n")


def remove() -> str | None:
    """Remove the stored recipes, and return their date; None if there are none."""
    path = recipes.path()
    if not path.exists():
        return None
    previous = stored()
    with files.locked(path):
        path.unlink(missing_ok=True)
    return previous.updated if previous else ""


async def _fetch(source: str, known: Snapshot) -> Snapshot:
    import httpx2

    timeout = httpx2.Timeout(REQUEST_TIMEOUT)
    headers = {"user-agent": f"pi/{__version__}", "accept": "application/json"}
    async with httpx2.AsyncClient(timeout=timeout, headers=headers) as client:
        ask = functools.partial(_get, client, source)
        etag = known.etag if known.documents else ""
        with _translated(source):
            answer = await ask(f"/{INDEX}", etag, MAX_INDEX)
            listed = [(each.page, path) for path, each in known.documents.items()]
            if answer is not None:
                listed, etag = _listed(_parsed(answer.body)), answer.etag
        turn = asyncio.Semaphore(AT_ONCE)

        async def document(page: str, path: str) -> Document:
            async with turn:
                with _translated(source):
                    return await _fetch_document(ask, page, path, known.documents.get(path))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {path: group.create_task(document(page, path)) for page, path in listed}
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return Snapshot(source, {path: task.result() for path, task in tasks.items()}, etag)


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    etag: str


class _Refused(Exception):
    """The site's answer is not a document: another status than 200 and 304, too large, or a redirect to elsewhere."""

    def __init__(self, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.is_gone = is_gone


async def _fetch_document(
    ask: Callable[[str, str, int], Awaitable[_Answer | None]], page: str, path: str, known: Document | None
) -> Document:
    try:
        answer = await ask(path, known.etag if known else "", MAX_DOCUMENT)
    except _Refused as refusal:
        if refusal.is_gone:
            return Document(page, None, "the site does not have it")
        raise
    if answer is None:
        assert known is not None
        return known
    try:
        return _document(page, _parsed(answer.body), answer.etag)
    except ValueError as error:
        return Document(page, None, str(error), answer.etag)


async def _get(client: "httpx2.AsyncClient", source: str, path: str, etag: str, limit: int) -> _Answer | None:
    """Return what is at a path of the site; None if it has not changed since it had this ETag."""
    url = source + path
    for _ in range(MAX_REDIRECTS + 1):
        async with client.stream("GET", url, headers={"if-none-match": etag} if etag else {}) as response:
            if response.status_code == 304 and etag:
                return None
            if not response.is_redirect:
                return await _read_answer(response, path, limit)
            target = str(response.url.join(response.headers.get("location", "")))
            if urlsplit(target).scheme != urlsplit(url).scheme:
                raise _Refused(f"{path} redirects to another scheme than {urlsplit(url).scheme}")
            url = target
    raise _Refused(f"{path} redirects more than {MAX_REDIRECTS} times")


async def _read_answer(response: "httpx2.Response", path: str, limit: int) -> _Answer:
    if response.status_code != 200:
        raise _Refused(f"it answered {response.status_code} for {path}", is_gone=response.status_code in GONE)
    body = bytearray()
    async for part in response.aiter_bytes():
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


def _listed(index: Any) -> list[tuple[str, str]]:
    """Return (id of the recipe, path of its document) for each model of an index."""
    rows = index if isinstance(index, list) else []
    listed = {
        path: str(row.get("hf_id"))[:200]
        for row in rows
        if isinstance(row, dict) and isinstance(path := row.get("json"), str) and PATH.fullmatch(path)
    }
    if not listed or len(listed) > MAX_MODELS:
        raise ValueError(f"{INDEX} is not the index of the recipes")
    return [(page, path) for path, page in listed.items()]


def _document(page: str, data: Any, etag: str = "") -> Document:
    try:
        recipe = recipes.parse(data)
    except (NotAllowed, Malformed) as error:
        return Document(page, None, str(error), etag)
    return Document(page, recipe, "", etag)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not valid JSON") from error


def _bounded(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE:
        raise ValueError(f"it has more than {MAX_FILE:,} bytes")
    return file.read_bytes()


def _read_json(file: Path) -> Any:
    """Return the JSON in a file of a folder; None, which is not a recipe, if there is none."""
    try:
        return _parsed(_bounded(file))
    except (OSError, ValueError):
        return None


def _as_json(snapshot: Snapshot) -> dict[str, Any]:
    documents = {
        path: {
            "page": document.page,
            "etag": document.etag,
            "recipe": recipes.as_json(document.recipe) if document.recipe else None,
            "refused": document.refused,
        }
        for path, document in snapshot.documents.items()
    }
    return {
        "format": recipes.FORMAT,
        "pi": __version__,
        "source": snapshot.source,
        "updated": snapshot.updated,
        "etag": snapshot.etag,
        "documents": documents,
    }


def _from_json(data: Mapping[str, Any]) -> Snapshot:
    """Parse a stored snapshot. Without ETags if another version of pi, with other rules, has written it."""
    if data["format"] != recipes.FORMAT:
        raise ValueError("it is of another version of pi")
    is_ours = data.get("pi") == __version__
    documents = {}
    for path, row in data["documents"].items():
        page, refused = str(row["page"]), str(row.get("refused", ""))
        etag = str(row.get("etag", "")) if is_ours and ETAG.fullmatch(str(row.get("etag", ""))) else ""
        recipe = None
        if row.get("recipe"):
            try:
                recipe = recipes.check(recipes.from_json(row["recipe"]))
            except (NotAllowed, Malformed) as error:
                refused = str(error)
        documents[str(path)] = Document(page, recipe, refused, etag)
    etag = str(data.get("etag", ""))
    return Snapshot(str(data.get("source", "")), documents, etag if is_ours and ETAG.fullmatch(etag) else "")


async def _in_thread(work: Callable[[], Coroutine[Any, Any, Snapshot]], source: str) -> Snapshot:
    """Return the snapshot, or raise `NotFetched` after `TIMEOUT`.

    The requests run in a daemon thread, which is not joined: a name lookup can be neither bounded nor interrupted.
    """
    answer: Future[Snapshot] = Future()
    answer.set_running_or_notify_cancel()  # from now on, cancelling the wait does not affect the thread

    def follow() -> None:
        try:
            answer.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=follow, name="recipes", daemon=True).start()
    try:
        async with asyncio.timeout(TIMEOUT):
            return await asyncio.wrap_future(answer)
    except TimeoutError as error:
        raise NotFetched(source, f"it took longer than {TIMEOUT:.0f} seconds") from error


def _innermost(error: BaseException) -> str:
    """Return the message of the original failure: the system's own message, if there is one."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _without_password(source: str) -> str:
    return re.sub("//[^/]*@", "//", source)
