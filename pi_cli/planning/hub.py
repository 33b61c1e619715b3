"""Ask the Hugging Face Hub what a model is made of, and whether the user may have it; weights are never transferred.

Everything goes through huggingface_hub, so that its settings count (proxies, certificates, HF_HUB_OFFLINE), and nothing
into its cache. It is imported where it is used: importing its client takes as long as a quick command of pi.
"""

import asyncio
import fnmatch
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pi_cli.errors import ModelNotStarted, PiError

if TYPE_CHECKING:
    from httpx2 import Response
    from huggingface_hub.errors import HfHubHTTPError

HUB = "https://huggingface.co"
TOKENS = "https://huggingface.co/settings/tokens"
TIMEOUT = 10.0  # seconds for all questions about one model together
RESERVE = 0.5  # seconds of them kept from what is only nice to know
LARGEST_JSON = 32_000_000  # bytes; what is larger is not the kind of JSON we look for
LARGEST_HEADER = 25_000_000  # bytes, as safetensors has it
FIRST_PART = 100_000  # bytes, in which nearly every safetensors header is complete
MOST_NAMES = 500

# What vLLM 0.32 looks for at the top of a repository, and takes the first that is there (`DefaultModelLoader`).
WEIGHTS = ("consolidated*.safetensors", "*.safetensors", "*.bin", "*.pt", "*.gguf")
NO_WEIGHTS = {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repository:
    """What the Hub says about a model: `id` is its canonical spelling, sizes are in bytes.

    `config` is config.json, None where there is none that can be read. `weights` is what vLLM would load, None if it
    cannot be told (no such files, or GGUF in several quantisations). `dtypes` are numbers of parameters by safetensors
    dtype, such as `{"BF16": 32_000_000_000}`, empty if they cannot be told. `files` is the whole download.
    """

    id: str
    config: dict[str, Any] | None
    weights: int | None
    dtypes: dict[str, int]
    files: int | None
    is_gated: bool


class HubUnreachable(PiError):
    """The Hub does not tell: no connection, no answer in time, a failure, a limited rate. One can do without it."""

    def __init__(self, site: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"cannot ask the Hugging Face Hub at {site}: {reason}",
            hint=hint or "check this machine's network and, if they are set, HF_ENDPOINT and HTTPS_PROXY",
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Question:
    """Whom we ask about what, and until when by the monotonic clock."""

    model: str
    endpoint: str
    deadline: float
    token: str | None = field(repr=False)

    @property
    def site(self) -> str:
        """Return the endpoint without a password that may stand in it."""
        return re.sub("//[^/]*@", "//", self.endpoint)

    @property
    def time_left(self) -> float:
        """Return the seconds until the deadline, and a moment when it has passed."""
        return max(0.01, self.deadline - time.monotonic())

    @property
    def hurried(self) -> "_Question":
        """Return the same with less time, for what is only nice to know."""
        return replace(self, deadline=self.deadline - RESERVE)

    def request(self, path: str, **options: Any) -> dict[str, Any]:
        """Return what an HTTP client needs to know of a request; the token is not sent on to another host."""
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported on first use

        headers = build_hf_headers(token=self.token or False, library_name="pi") | options.pop("headers", {})
        return {"url": self.endpoint + path, "headers": headers, "timeout": self.time_left} | options


async def describe(model: str, *, token: str | None, endpoint: str | None, timeout: float = TIMEOUT) -> Repository:
    """Return what the Hub says about a model, within `timeout` seconds.

    Raises `ModelNotStarted` where the user cannot have it (gated, missing, bad token) and `HubUnreachable`.
    """
    return await _in_time(_question(model, token, endpoint, timeout), _describe)


async def check_access(model: str, *, token: str | None, endpoint: str | None, timeout: float = TIMEOUT) -> None:
    """Return if the user may download a model. Raises as `describe` does, and asks less."""
    await _in_time(_question(model, token, endpoint, timeout), _check_access)


def _question(model: str, token: str | None, endpoint: str | None, timeout: float) -> _Question:
    return _Question(model, (endpoint or HUB).rstrip("/"), time.monotonic() + timeout, token)


async def _in_time(question: _Question, ask: Callable[[_Question], T]) -> T:
    """Return the answer or raise `HubUnreachable` at the deadline, whatever holds it up.

    It is asked in a thread that nobody waits for, neither here nor at exit (as asyncio does for its own): looking up a
    name can neither be bounded nor interrupted, and an answer may come a byte at a time.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # from here on, who stops waiting does not disturb who works

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
    """Ask the Hub and turn every way in which that can fail into an error of ours."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported on first use

    if question.token and not re.fullmatch("[!-~]+", question.token):
        raise _bad_token(question, "")  # here already: errors about a header that cannot be sent would quote it
    try:
        validate_repo_id(question.model)
        return ask(question)
    except HFValidationError as error:
        raise _missing(question, str(error)) from error
    except RepositoryNotFoundError as error:  # of which a gated one is a kind
        raise _refusal(question, error) from error
    except HfHubHTTPError as error:
        raise _failure(question, error.response) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable(question.site, "HF_HUB_OFFLINE is set", hint="`unset HF_HUB_OFFLINE`") from error
    except httpx2.TimeoutException as error:
        raise HubUnreachable(question.site, "it did not answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ImportError) as error:  # httpx2 lacks SOCKS: ImportError
        raise HubUnreachable(question.site, _innermost(error)) from error
    except ValueError as error:  # no JSON, or another one
        raise HubUnreachable(question.site, "it does not answer as a Hub does") from error


def _describe(question: _Question) -> Repository:
    info = _described(_json(question, f"/api/models/{question.model}?blobs=true"))
    sizes: dict[str, int | None] = {each["rfilename"]: each.get("size") for each in info["siblings"]}
    files = f"/{info['id']}/resolve/{quote(str(info.get('sha') or 'main'))}"
    config = _config(question, files, sizes)
    loaded = _loaded(question, files, sizes)
    dtypes = _told_dtypes(info) or _read_dtypes(question.hurried, files, loaded)
    gated = bool(info.get("gated"))
    return Repository(info["id"], config, _total(sizes, loaded), dtypes, _total(sizes, sizes), gated)


def _check_access(question: _Question) -> None:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(**question.request(f"/api/models/{question.model}/auth-check"))
    if response.status_code == 404 and "X-Error-Code" not in response.headers:
        # A mirror that does not know this question. Redirects lead to where our token would not be sent.
        path = f"/{question.model}/resolve/main/config.json"
        response = get_session().head(**question.request(path, follow_redirects=False))
    if response.headers.get("X-Error-Code") != "EntryNotFound":
        hf_raise_for_status(response)


def _json(question: _Question, path: str) -> Any:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(**question.request(path))
    hf_raise_for_status(response)
    return json.loads(response.content)


def _described(info: Any) -> dict[str, Any]:
    """Return what the Hub told about a model. Raises `ValueError` if it is nothing that a Hub tells."""
    files = info.get("siblings") if isinstance(info, dict) and isinstance(info.get("id"), str) else None
    if not isinstance(files, list) or not all(isinstance(each, dict) and "rfilename" in each for each in files):
        raise ValueError("not a model's description")
    return dict(info)


def _config(question: _Question, files: str, sizes: Mapping[str, int | None]) -> dict[str, Any] | None:
    """Return config.json, None where it is missing or broken. Asked for first: a gated repository refuses here."""
    if (sizes.get("config.json", LARGEST_JSON) or 0) >= LARGEST_JSON:
        return None
    try:
        config = _json(question, f"{files}/config.json")
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def _loaded(question: _Question, files: str, sizes: Mapping[str, int | None]) -> list[str]:
    """Return the files that vLLM loads: of safetensors, if there is an index, those that it lists."""
    found = weight_files(sizes)
    if _series(found) < 2 or found[0].endswith(".gguf"):
        return [] if _series(found) > 1 else found
    kind = "consolidated" if found[0].startswith("consolidated") else "model"
    index = f"{kind}.safetensors.index.json"
    if not found[0].endswith(".safetensors") or (sizes.get(index, LARGEST_JSON) or 0) >= LARGEST_JSON:
        return found
    read = _json(question, f"{files}/{index}")
    listed = read.get("weight_map") if isinstance(read, dict) else None
    return [name for name in found if name in set(listed.values())] if isinstance(listed, dict) else found


def weight_files(names: Iterable[str]) -> list[str]:
    """Return the files at the top of a repository in which vLLM looks for weights.

    >>> weight_files(["config.json", "model.safetensors", "pytorch_model.bin", "original/model.safetensors"])
    ['model.safetensors']
    """
    top = [name for name in names if "/" not in name and name not in NO_WEIGHTS and not name.startswith("mmproj")]
    return next((found for pattern in WEIGHTS if (found := fnmatch.filter(top, pattern))), [])


def _series(names: Sequence[str]) -> int:
    """Count the sets of files that belong together: `model-00001-of-00002.safetensors` and the like are one."""
    return len({re.sub(r"\d+-of-", "", name) for name in names})


def _total(sizes: Mapping[str, int | None], names: Iterable[str]) -> int | None:
    """Return the sum of file sizes, None if there is no file or one whose size is not told."""
    found = [sizes[name] for name in names]
    known = [size for size in found if isinstance(size, int)]
    return sum(known) if known and len(known) == len(found) else None


def _told_dtypes(info: Mapping[str, Any]) -> dict[str, int]:
    told = info.get("safetensors")
    parameters = told.get("parameters") if isinstance(told, dict) else None
    return dict(parameters) if isinstance(parameters, dict) else {}


def _read_dtypes(question: _Question, files: str, names: Sequence[str]) -> dict[str, int]:
    """Count parameters from the headers of safetensors files; nothing if one of them cannot be read in time."""
    counts: Counter[str] = Counter()
    for name in names:
        header = _header(question, f"{files}/{quote(name)}") if name.endswith(".safetensors") else None
        if header is None:
            return {}
        counts += header
    return dict(counts)


def _header(question: _Question, path: str) -> Counter[str] | None:
    """Count parameters from a file's header: 8 bytes that tell its length, then JSON. None if it cannot be had."""
    import httpx2

    try:
        part = _part(question, path, 0, FIRST_PART)
        length = int.from_bytes(part[:8], "little")
        if length > LARGEST_HEADER:
            return None
        header = part[8 : 8 + length] if len(part) >= 8 + length else _part(question, path, 8, 8 + length)
        return count_parameters(json.loads(header))
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return None


def count_parameters(header: Mapping[str, Any]) -> Counter[str]:
    """Count the elements of the tensors that a safetensors header describes, by dtype.

    >>> count_parameters({"w": {"dtype": "BF16", "shape": [3, 4]}, "b": {"dtype": "F32", "shape": [4]}})
    Counter({'BF16': 12, 'F32': 4})
    """
    counts: Counter[str] = Counter()
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[tensor["dtype"]] += math.prod(tensor["shape"])
    return counts


def _part(question: _Question, path: str, start: int, stop: int) -> bytes:
    """Get a part of a file; nothing from a server that would send the whole of it."""
    from huggingface_hub import get_session

    request = question.request(path, headers={"Range": f"bytes={start}-{stop - 1}"})
    with get_session().stream("GET", **request) as response:
        return response.read() if response.status_code == 206 else b""


def _refusal(question: _Question, error: "HfHubHTTPError") -> ModelNotStarted:
    from huggingface_hub.errors import GatedRepoError

    said = _said(error.response)
    if isinstance(error, GatedRepoError):
        return _gated(question, said)
    return _missing(question, said, _similar(question))


def _failure(question: _Question, response: "Response") -> PiError:
    """Return the error for an answer that says nothing of the repository."""
    said = _said(response)
    if response.status_code == 401 and question.token:
        return _bad_token(question, said)
    if response.status_code == 401:  # what the Hub says anonymous users of private and of missing repositories
        return _missing(question, said, _similar(question))
    if response.status_code == 403 and "X-Error-Message" in response.headers:
        page = f"{question.site}/{question.model}"
        return (
            _gated(question, said) if "gated" in said else _cannot(question, "the Hub refuses it", f"see {page}", said)
        )
    if response.status_code == 429:
        return HubUnreachable(question.site, "it limits our rate", hint="wait a few minutes, then try again")
    return HubUnreachable(question.site, f"it answered {response.status_code} {response.reason_phrase}".strip())


def _gated(question: _Question, said: str) -> ModelNotStarted:
    page = f"{question.site}/{question.model}"
    words = "the model is gated and HF_TOKEN has no access to it"
    hint = f"request access at {page} with the account of your HF_TOKEN"
    if not question.token:
        words = "the model is gated and there is no HF_TOKEN"
        hint = f"request access at {page}, then `export HF_TOKEN=…` of that account"
    elif "fine-grained" in said:
        hint = f"let the token read public gated repositories at {TOKENS}; request access at {page}"
    elif "awaiting" in said:
        hint = f"its authors have not yet accepted your request; see {page}"
    return _cannot(question, words, hint, said)


def _bad_token(question: _Question, said: str) -> ModelNotStarted:
    hint = f"create a token at {TOKENS} and `export HF_TOKEN=…`"
    return _cannot(question, "the Hugging Face Hub does not accept HF_TOKEN", hint, said)


def _missing(question: _Question, said: str, similar: str | None = None) -> ModelNotStarted:
    words = f"there is no model `{question.model}` on the Hugging Face Hub, or it is private"
    hint = "check the name, and that HF_TOKEN may read it"
    return _cannot(question, words, f"did you mean `{similar}`? If not, {hint}" if similar else hint, said)


def _cannot(question: _Question, words: str, hint: str, said: str) -> ModelNotStarted:
    return ModelNotStarted(f"cannot download `{question.model}`: {words}", hint=hint, log=said)


def _said(response: "Response") -> str:
    said = str(response.headers.get("X-Error-Message") or "")
    return said if said != "Invalid username or password." else ""  # to who gave neither, and lacks something else


def _similar(question: _Question) -> str | None:
    """Return the Hub's model whose name comes nearest, of the same owner or else of anybody."""
    try:
        return _answer(question.hurried, _nearest)
    except PiError:
        return None


def _nearest(question: _Question) -> str | None:
    import difflib

    from huggingface_hub import get_session

    owner, _, name = question.model.rpartition("/")
    for wanted in (f"author={owner}", f"search={name}") if owner else (f"search={name}",):
        path = f"/api/models?{wanted}&limit={MOST_NAMES}&sort=downloads"
        listed = get_session().get(**question.request(path)).raise_for_status().json()
        names = {str(each["id"]).lower(): str(each["id"]) for each in listed if isinstance(each, dict) and "id" in each}
        if near := difflib.get_close_matches(question.model.lower(), names, n=1, cutoff=0.75):
            return names[near[0]]
    return None


def _innermost(error: BaseException) -> str:
    """Say what was at the bottom of a failure: the system's own words, where there are some."""
    while cause := error.__cause__ or error.__context__:
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
