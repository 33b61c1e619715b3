"""Ask the Hugging Face Hub about a model, and whether the user has access; weights are never downloaded.

All requests go through huggingface_hub, so that its settings apply (proxies, certificates, HF_HUB_OFFLINE); its cache
is not used. It is imported where it is used: importing its client takes as long as a quick command of pi.
"""

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pi_cli.errors import ModelNotStarted, PiError
from pi_cli.planning import weight_files

if TYPE_CHECKING:
    from httpx2 import Response
    from huggingface_hub.errors import HfHubHTTPError

HUB_URL = "https://huggingface.co"
TOKENS_URL = "https://huggingface.co/settings/tokens"
HUB_TIMEOUT = 10.0  # seconds for all requests about one model together
RESERVED_TIME = 0.5  # seconds of them that optional requests may not use
MAX_JSON = 32_000_000  # bytes; larger files are not the kind of JSON that is needed here
MAX_HEADER = 25_000_000  # bytes, the limit of safetensors
FIRST_PART = 100_000  # bytes, which contain nearly every safetensors header
MAX_NAMES = 500
REPOSITORY_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repository:
    """The Hub's description of a model: `id` is its canonical spelling, sizes are in bytes.

    `config` is config.json, None if it is missing or invalid. `weights` is what vLLM would load, None if that is not
    known (no such files, or GGUF in several quantisations). `dtypes` are numbers of parameters by safetensors dtype,
    e.g. `{"BF16": 32_000_000_000}`, empty if they are not known. `files` is the whole download.
    """

    id: str
    config: dict[str, Any] | None
    weights: int | None
    dtypes: dict[str, int]
    files: int | None
    is_gated: bool


class HubUnreachable(PiError):
    """The Hub gives no answer: no connection, a time-out, a failure, a rate limit. pi can plan without it."""

    def __init__(self, site: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"cannot query the Hugging Face Hub at {site}: {reason}",
            hint=hint or "check this machine's network and, if they are set, HF_ENDPOINT and HTTPS_PROXY",
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked about a model, where, and until when by the monotonic clock."""

    model: str
    endpoint: str
    deadline: float
    token: str | None = field(repr=False)

    @property
    def site(self) -> str:
        """Return the endpoint without any password in it."""
        return re.sub("//[^/]*@", "//", self.endpoint)

    @property
    def page(self) -> str:
        """Return the address of the model's page."""
        return f"{self.site}/{self.model}"

    @property
    def time_left(self) -> float:
        """Return the seconds until the deadline, at least 0.01."""
        return max(0.01, self.deadline - time.monotonic())

    @property
    def hurried(self) -> "_Question":
        """Return the same question with less time, for optional requests."""
        return replace(self, deadline=self.deadline - RESERVED_TIME)

    def request(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the arguments of a request for an HTTP client; the token is not sent on to another host."""
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported on first use

        headers = build_hf_headers(token=self.token or False, library_name="pi") | options.pop("headers", {})
        return {"url": self.endpoint + path, "headers": headers, "timeout": self.time_left} | options


async def describe(model: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> Repository:
    """Return the Hub's description of a model, within `timeout` seconds.

    Raises `ModelNotStarted` if the user has no access (gated, missing, bad token), or `HubUnreachable`.
    """
    return await _in_time(_question(model, token, endpoint, timeout), _describe)


async def check_access(model: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> None:
    """Return if the user may download a model; with fewer requests than `describe`, but the same errors."""
    await _in_time(_question(model, token, endpoint, timeout), _check_access)


async def get_json(path: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> Any:
    """Return the Hub's JSON at a path that is not about one model; errors as `describe`."""
    return await _in_time(_question("models", token, endpoint, timeout), lambda question: _json(question, path))


def _question(model: str, token: str | None, endpoint: str | None, timeout: float) -> _Question:
    return _Question(model, (endpoint or HUB_URL).rstrip("/"), time.monotonic() + timeout, token)


async def _in_time(question: _Question, ask: Callable[[_Question], T]) -> T:
    """Return the answer, or raise `HubUnreachable` at the deadline.

    The requests run in a daemon thread that is joined neither here nor at exit, whereas asyncio joins its own threads:
    a name lookup can be neither bounded nor interrupted, and an answer may arrive a byte at a time.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # from now on, cancelling the wait does not affect the thread

    def work() -> None:
        try:
            answer.set_result(_answer(question, ask))
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=work, name="hub question", daemon=True).start()
    try:
        async with asyncio.timeout(question.time_left):
            return await asyncio.wrap_future(answer)
    except TimeoutError as error:
        raise HubUnreachable(question.site, "it did not answer in time") from error


def _answer(question: _Question, ask: Callable[[_Question], T]) -> T:
    """Ask the Hub, and turn every failure into a `PiError`."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported on first use

    if question.token and not re.fullmatch("[!-~]+", question.token):
        raise _bad_token(question, "")  # before any request: an error about an invalid header would quote the token
    try:
        validate_repo_id(question.model)
        return ask(question)
    except HFValidationError as error:
        raise _missing(question, str(error)) from error
    except RepositoryNotFoundError as error:  # GatedRepoError is a subclass
        raise _refusal(question, error) from error
    except HfHubHTTPError as error:
        raise _failure(question, error.response) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable(question.site, "HF_HUB_OFFLINE is set", hint="`unset HF_HUB_OFFLINE`") from error
    except httpx2.TimeoutException as error:
        raise HubUnreachable(question.site, "it did not answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ImportError) as error:  # httpx2 lacks SOCKS: ImportError
        raise HubUnreachable(question.site, _innermost(error)) from error
    except ValueError as error:  # not JSON, or not the expected one
        raise HubUnreachable(question.site, "its answer is not that of a Hub") from error


def _describe(question: _Question) -> Repository:
    info = _checked(_json(question, f"/api/models/{question.model}?blobs=true"))
    sizes: dict[str, int | None] = {file["rfilename"]: file.get("size") for file in info["siblings"]}
    files = f"/{info['id']}/resolve/{quote(str(info.get('sha') or 'main'))}"
    config = _config(question, files, sizes)
    loaded = _loaded(question, files, sizes)
    dtypes = _reported_dtypes(info) or _read_dtypes(question.hurried, files, loaded)
    gated = bool(info.get("gated"))
    total = weight_files.total_size
    return Repository(info["id"], config, total(sizes, loaded), dtypes, total(sizes, sizes), gated)


def _check_access(question: _Question) -> None:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(**question.request(f"/api/models/{question.model}/auth-check"))
    if response.status_code == 404 and "X-Error-Code" not in response.headers:
        # A mirror without this endpoint. Redirects are not followed: the token would not be sent to their target.
        path = f"/{question.model}/resolve/main/config.json"
        response = get_session().head(**question.request(path, follow_redirects=False))
    if response.headers.get("X-Error-Code") != "EntryNotFound":
        hf_raise_for_status(response)


def _json(question: _Question, path: str) -> Any:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(**question.request(path))
    hf_raise_for_status(response)
    return json.loads(response.content)


def _checked(info: Any) -> dict[str, Any]:
    """Return a model's description from the Hub. Raises `ValueError` if it is something else."""
    files = info.get("siblings") if isinstance(info, dict) and isinstance(info.get("id"), str) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) and "rfilename" in file for file in files):
        raise ValueError("not a model's description")
    return dict(info)


def _config(question: _Question, files: str, sizes: Mapping[str, int | None]) -> dict[str, Any] | None:
    """Return config.json; None if it is missing or invalid. This request comes first: a gated repository refuses it."""
    if (sizes.get("config.json", MAX_JSON) or 0) >= MAX_JSON:
        return None
    try:
        config = _json(question, f"{files}/config.json")
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def _loaded(question: _Question, files: str, sizes: Mapping[str, int | None]) -> list[str]:
    """Return the files that vLLM loads: with an index of safetensors files, those that it lists."""
    names = weight_files.choose(sizes)
    sets = weight_files.count_sets(names)
    if sets < 2 or names[0].endswith(".gguf"):
        return [] if sets > 1 else names
    kind = "consolidated" if names[0].startswith("consolidated") else "model"
    index = f"{kind}.safetensors.index.json"
    if not names[0].endswith(".safetensors") or (sizes.get(index, MAX_JSON) or 0) >= MAX_JSON:
        return names
    content = _json(question, f"{files}/{index}")
    listed = content.get("weight_map") if isinstance(content, dict) else None
    return [name for name in names if name in set(listed.values())] if isinstance(listed, dict) else names


def _reported_dtypes(info: Mapping[str, Any]) -> dict[str, int]:
    safetensors = info.get("safetensors")
    parameters = safetensors.get("parameters") if isinstance(safetensors, dict) else None
    return dict(parameters) if isinstance(parameters, dict) else {}


def _read_dtypes(question: _Question, files: str, names: Sequence[str]) -> dict[str, int]:
    """Count parameters from the headers of safetensors files; empty if one of them cannot be read in time."""
    counts: Counter[str] = Counter()
    for name in names:
        header = _header(question, f"{files}/{quote(name)}") if name.endswith(".safetensors") else None
        if header is None:
            return {}
        counts += header
    return dict(counts)


def _header(question: _Question, path: str) -> Counter[str] | None:
    """Count parameters from a file's header: 8 bytes for its length, then JSON. None if it cannot be read."""
    import httpx2

    try:
        part = _part(question, path, 0, FIRST_PART)
        length = int.from_bytes(part[:8], "little")
        if length > MAX_HEADER:
            return None
        header = part[8 : 8 + length] if len(part) >= 8 + length else _part(question, path, 8, 8 + length)
        return weight_files.count_parameters(json.loads(header))
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _part(question: _Question, path: str, start: int, stop: int) -> bytes:
    """Return a part of a file; empty if the server would send the whole file."""
    from huggingface_hub import get_session

    request = question.request(path, headers={"Range": f"bytes={start}-{stop - 1}"})
    with get_session().stream("GET", **request) as response:
        return response.read() if response.status_code == 206 else b""


def _refusal(question: _Question, error: "HfHubHTTPError") -> ModelNotStarted:
    from huggingface_hub.errors import GatedRepoError

    message = _message(error.response)
    if isinstance(error, GatedRepoError):
        return _gated(question, message)
    return _missing(question, message, _similar(question))


def _failure(question: _Question, response: "Response") -> PiError:
    """Return the error for a response that is not about the repository."""
    message = _message(response)
    if response.status_code == 401 and question.token:
        return _bad_token(question, message)
    if response.status_code == 401:  # the answer to anonymous users, for private and for missing repositories
        return _missing(question, message, _similar(question))
    if response.status_code == 403 and "X-Error-Message" in response.headers:
        if "gated" in message:
            return _gated(question, message)
        return _cannot(question, "the Hugging Face Hub refuses access", f"see {question.page}", message)
    if response.status_code == 429:
        return HubUnreachable(question.site, "rate limit exceeded", hint="wait a few minutes, then try again")
    return HubUnreachable(question.site, f"it answered {response.status_code} {response.reason_phrase}".strip())


def _gated(question: _Question, message: str) -> ModelNotStarted:
    reason = "the model is gated and HF_TOKEN has no access to it"
    hint = f"request access at {question.page} with the account of your HF_TOKEN"
    if not question.token:
        reason = "the model is gated and there is no HF_TOKEN"
        hint = f"request access at {question.page}, then `export HF_TOKEN=…` of that account"
    elif "fine-grained" in message:
        hint = f"allow the token to read public gated repositories at {TOKENS_URL}; request access at {question.page}"
    elif "awaiting" in message:
        hint = f"its authors have not yet accepted your request; see {question.page}"
    return _cannot(question, reason, hint, message)


def _bad_token(question: _Question, message: str) -> ModelNotStarted:
    hint = f"create a token at {TOKENS_URL} and `export HF_TOKEN=…`"
    return _cannot(question, "the Hugging Face Hub does not accept HF_TOKEN", hint, message)


def _missing(question: _Question, message: str, similar: str | None = None) -> ModelNotStarted:
    reason = f"there is no model `{question.model}` on the Hugging Face Hub, or it is private"
    hint = "check the name, and that HF_TOKEN may read it"
    return _cannot(question, reason, f"did you mean `{similar}`? If not, {hint}" if similar else hint, message)


def _cannot(question: _Question, reason: str, hint: str, message: str) -> ModelNotStarted:
    return ModelNotStarted(f"cannot download `{question.model}`: {reason}", hint=hint, log=message)


def _message(response: "Response") -> str:
    """Return the Hub's own message, unless it complains about credentials that were never sent."""
    message = str(response.headers.get("X-Error-Message") or "")
    return message if message != "Invalid username or password." else ""


def _similar(question: _Question) -> str | None:
    """Return the model of the Hub with the most similar name, of the same owner or else of any owner."""
    try:
        return _answer(question.hurried, _most_similar)
    except PiError:
        return None


def _most_similar(question: _Question) -> str | None:
    import difflib

    from huggingface_hub import get_session

    owner, _, name = question.model.rpartition("/")
    for query in (f"author={owner}", f"search={name}") if owner else (f"search={name}",):
        path = f"/api/models?{query}&limit={MAX_NAMES}&sort=downloads"
        models = get_session().get(**question.request(path)).raise_for_status().json()
        ids = [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
        spellings = {id.lower(): id for id in ids if REPOSITORY_ID.fullmatch(id)}
        if matches := difflib.get_close_matches(question.model.lower(), spellings, n=1, cutoff=0.75):
            return spellings[matches[0]]
    return None


def _innermost(error: BaseException) -> str:
    """Return the message of the original failure: the system's own message, if there is one."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
