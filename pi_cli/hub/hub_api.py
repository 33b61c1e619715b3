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
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pi_cli import waits
from pi_cli.errors import BadUsage, ModelNotStarted, PiError
from pi_cli.hub import hub_search, repository, weight_files
from pi_cli.hub.hub_question import Question
from pi_cli.hub.hub_search import Form
from pi_cli.hub.repository import About, Repository

if TYPE_CHECKING:
    from httpx2 import Response
    from huggingface_hub.errors import HfHubHTTPError

HUB_URL = "https://huggingface.co"
TOKENS_URL = "https://huggingface.co/settings/tokens"
HUB_TIMEOUT = 10.0  # seconds for all requests about one model together
MAX_JSON = 32_000_000  # bytes; larger files are not the kind of JSON that is needed here
COMMIT = re.compile("[0-9a-f]{40}")
MAX_HEADER = 25_000_000  # bytes, the limit of safetensors
ADAPTER_CONFIG = "adapter_config.json"
FIRST_PART = 100_000  # bytes, which contain nearly every safetensors header

T = TypeVar("T")


class HubUnreachable(PiError):
    """The Hub gives no answer: no connection, a time-out, a failure, a rate limit. pi can plan without it."""

    def __init__(self, site: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"cannot query the Hugging Face Hub at {site}: {reason}",
            hint=hint or "check this machine's network and, if they are set, HF_ENDPOINT and HTTPS_PROXY",
        )
        self.reason = reason


async def describe(model: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> Repository:
    """Return the Hub's description of a model, within `timeout` seconds.

    Raises `ModelNotStarted` if the user has no access (gated, missing, bad token), or `HubUnreachable`.
    """
    return await _in_time(_question(model, token, endpoint, timeout), _describe)


async def check_access(model: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> None:
    """Return if the user may download a model; with fewer requests than `describe`, but the same errors."""
    await _in_time(_question(model, token, endpoint, timeout), _check_access)


async def forms(base: str, *, token: str | None, endpoint: str | None, timeout: float) -> list[Form]:
    """Return the quantised forms of a model, the most downloaded first; none if the Hub does not list them in time."""
    return await _optional(_question(base, token, endpoint, timeout), hub_search.forms) or []


async def commit(model: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> str | None:
    """Return the latest commit of a model; None if the Hub does not say it in time."""
    return await _optional(_question(model, token, endpoint, timeout), _commit)


def _commit(question: Question) -> str | None:
    info = question.json(f"/api/models/{question.model}?expand=sha")
    sha = info.get("sha") if isinstance(info, dict) else None
    return sha if isinstance(sha, str) and COMMIT.fullmatch(sha) else None


async def get_json(path: str, *, token: str | None, endpoint: str | None, timeout: float = HUB_TIMEOUT) -> Any:
    """Return the Hub's JSON at a path that is not about one model; errors as `describe`."""
    return await _in_time(_question("models", token, endpoint, timeout), lambda question: question.json(path))


async def about(model: str, *, token: str | None, endpoint: str | None, timeout: float) -> About | None:
    """Return what the Hub says of a model beside its files; None if it has no such model or does not say so in time."""
    return await _optional(_question(model, token, endpoint, timeout), _about)


def _about(question: Question) -> About:
    path = f"/api/models/{question.model}?expand=cardData&expand=tags&expand=pipeline_tag&expand=library_name"
    info = question.json(path)
    if not isinstance(info, dict):
        raise ValueError("not a model's description")
    return repository.about(info)


async def _optional(question: Question, ask: Callable[[Question], T]) -> T | None:
    """Return the answer to a question that only explains, or None."""
    try:
        return await _in_time(question.hurried, _quiet(ask))
    except PiError:
        return None


def _quiet(ask: Callable[[Question], T]) -> Callable[[Question], T | None]:
    """Return the same question, but with None for a refusal: no search for similar names follows."""

    def quietly(question: Question) -> T | None:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return ask(question)
        except HfHubHTTPError:
            return None

    return quietly


def _question(model: str, token: str | None, endpoint: str | None, timeout: float) -> Question:
    return Question(model, (endpoint or HUB_URL).rstrip("/"), time.monotonic() + timeout, token)


async def _in_time(question: Question, ask: Callable[[Question], T]) -> T:
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
            with waits.on("asking the Hugging Face Hub at", question.site):
                return await asyncio.wrap_future(answer)
    except TimeoutError as error:
        raise HubUnreachable(question.site, "it did not answer in time") from error


def _answer(question: Question, ask: Callable[[Question], T]) -> T:
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


def _describe(question: Question) -> Repository:
    info = _checked(question.json(f"/api/models/{question.model}?blobs=true"))
    sizes: dict[str, int | None] = {file["rfilename"]: file.get("size") for file in info["siblings"]}
    files = f"/{info['id']}/resolve/{quote(str(info.get('sha') or 'main'))}"
    config = _config(question, files, sizes, "config.json")
    adapter = _config(question, files, sizes, ADAPTER_CONFIG) if ADAPTER_CONFIG in sizes and config is None else None
    loaded = _loaded(question, files, sizes)
    dtypes = _reported_dtypes(info) or _read_dtypes(question.hurried, files, loaded)
    gated = bool(info.get("gated"))
    total = weight_files.total_size
    return Repository(
        *(info["id"], config, total(sizes, loaded), dtypes, total(sizes, sizes), gated),
        names=frozenset(sizes),
        about=repository.about(info),
        adapter=adapter,
    )


def _check_access(question: Question) -> None:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(**question.request(f"/api/models/{question.model}/auth-check"))
    if response.status_code == 404 and "X-Error-Code" not in response.headers:
        # A mirror without this endpoint. Redirects are not followed: the token would not be sent to their target.
        path = f"/{question.model}/resolve/main/config.json"
        response = get_session().head(**question.request(path, follow_redirects=False))
    if response.headers.get("X-Error-Code") != "EntryNotFound":
        hf_raise_for_status(response)


def _checked(info: Any) -> dict[str, Any]:
    """Return a model's description from the Hub. Raises `ValueError` if it is something else."""
    files = info.get("siblings") if isinstance(info, dict) and isinstance(info.get("id"), str) else None
    if not isinstance(files, list) or not all(
        isinstance(file, dict) and isinstance(file.get("rfilename"), str) for file in files
    ):
        raise ValueError("not a model's description")
    return dict(info)


def _config(question: Question, files: str, sizes: Mapping[str, int | None], name: str) -> dict[str, Any] | None:
    """Return a JSON file; None if it is missing or invalid. It is requested even if it is not listed.

    The request for config.json comes first: a gated repository refuses it.
    """
    if (sizes.get(name, MAX_JSON) or 0) >= MAX_JSON:
        return None
    try:
        config = question.json(f"{files}/{name}")
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def _loaded(question: Question, files: str, sizes: Mapping[str, int | None]) -> list[str]:
    """Return the files that vLLM loads: with an index of safetensors files, those that it lists."""
    names = weight_files.choose(sizes)
    if weight_files.count_sets(names) < 2:
        return names
    kind = "consolidated" if names[0].startswith("consolidated") else "model"
    index = f"{kind}.safetensors.index.json"
    if not names[0].endswith(".safetensors") or (sizes.get(index, MAX_JSON) or 0) >= MAX_JSON:
        return names
    content = question.json(f"{files}/{index}")
    listed = content.get("weight_map") if isinstance(content, dict) else None
    return [name for name in names if name in set(listed.values())] if isinstance(listed, dict) else names


def _reported_dtypes(info: Mapping[str, Any]) -> dict[str, int]:
    safetensors = info.get("safetensors")
    parameters = safetensors.get("parameters") if isinstance(safetensors, dict) else None
    return dict(parameters) if isinstance(parameters, dict) else {}


def _read_dtypes(question: Question, files: str, names: Sequence[str]) -> dict[str, int]:
    """Count parameters from the headers of safetensors files; empty if one of them cannot be read in time."""
    counts: Counter[str] = Counter()
    for name in names:
        header = _header(question, f"{files}/{quote(name)}") if name.endswith(".safetensors") else None
        if header is None:
            return {}
        counts += header
    return dict(counts)


def _header(question: Question, path: str) -> Counter[str] | None:
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


def _part(question: Question, path: str, start: int, stop: int) -> bytes:
    """Return a part of a file; empty if the server would send the whole file."""
    from huggingface_hub import get_session

    request = question.request(path, headers={"Range": f"bytes={start}-{stop - 1}"})
    with get_session().stream("GET", **request) as response:
        return response.read() if response.status_code == 206 else b""


def _refusal(question: Question, error: "HfHubHTTPError") -> PiError:
    from huggingface_hub.errors import GatedRepoError

    message = _message(error.response)
    if isinstance(error, GatedRepoError):
        return _gated(question, message)
    return _absent(question, message)


def _failure(question: Question, response: "Response") -> PiError:
    """Return the error for a response that is not about the repository."""
    message = _message(response)
    if response.status_code == 401 and question.token:
        return _bad_token(question, message)
    if response.status_code == 401:  # the answer to anonymous users, for private and for missing repositories
        return _absent(question, message)
    if response.status_code == 403 and "X-Error-Message" in response.headers:
        if "gated" in message:
            return _gated(question, message)
        return _cannot(question, "the Hugging Face Hub refuses access", f"see {question.page}", message)
    if response.status_code == 429:
        return HubUnreachable(question.site, "rate limit exceeded", hint="wait a few minutes, then try again")
    return HubUnreachable(question.site, f"it answered {response.status_code} {response.reason_phrase}".strip())


def _gated(question: Question, message: str) -> ModelNotStarted:
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


def _bad_token(question: Question, message: str) -> ModelNotStarted:
    hint = f"create a token at {TOKENS_URL} and `export HF_TOKEN=…`"
    return _cannot(question, "the Hugging Face Hub does not accept HF_TOKEN", hint, message)


def _absent(question: Question, message: str) -> PiError:
    """Return the error for a name that no model has: a dataset may have it, or a model one that is similar."""
    if kind := _if_in_time(question, hub_search.other_kind):
        return BadUsage(
            f"`{question.model}` is a {kind} of the Hugging Face Hub, not a model", hint="`pi models` lists models"
        )
    return _missing(question, message, _if_in_time(question, hub_search.most_similar))


def _missing(question: Question, message: str, similar: str | None = None) -> ModelNotStarted:
    reason = f"there is no model `{question.model}` on the Hugging Face Hub, or it is private"
    hint = "check the name, and that HF_TOKEN may read it"
    return _cannot(question, reason, f"did you mean `{similar}`? If not, {hint}" if similar else hint, message)


def _cannot(question: Question, reason: str, hint: str, message: str) -> ModelNotStarted:
    return ModelNotStarted(f"cannot download `{question.model}`: {reason}", hint=hint, log=message)


def _message(response: "Response") -> str:
    """Return the Hub's own message, unless it complains about credentials that were never sent."""
    message = str(response.headers.get("X-Error-Message") or "")
    return message if message != "Invalid username or password." else ""


def _if_in_time(question: Question, search: Callable[[Question], str | None]) -> str | None:
    """Return what a search finds, if it finds it in time."""
    try:
        return _answer(question.hurried, _quiet(search))
    except PiError:
        return None


def _innermost(error: BaseException) -> str:
    """Return the message of the original failure: the system's own message, if there is one."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
