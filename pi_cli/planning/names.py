"""Find out which model a user means: an id, a short name, an address of the Hugging Face Hub, a folder on the pod."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.hub import hub_names
from pi_cli.planning import catalogue, recipes
from pi_cli.planning.profile import is_folder

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
OTHER_PAGES = ("datasets", "spaces", "papers", "collections", "docs", "blog", "buckets", "kernels", "organizations")
OF_A_REVISION = ("tree", "blob", "raw", "resolve", "commit", "commits")  # the segment before a revision
REVISION_OF_THE_PAGE = "main"
ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
SEPARATORS = re.compile(r"[\s:_-]+")  # `:` is ollama's, as in `qwen3:8b`
# What pages say to type for a model; the model is the first word after it that is not an option.
OF_OTHER_PROGRAMS = re.compile(r"(?:(?:hf|huggingface-cli) download|vllm serve|ollama (?:run|pull)|git clone)\s+(?=\S)")
MAX_OFFERED = 5


@dataclass(frozen=True, slots=True)
class Meaning:
    """The id of the model that was meant; `note` says so if the id is not what was typed."""

    id: str
    note: str = ""


async def resolve(typed: str, *, token: str | None, endpoint: str | None) -> Meaning:
    """Return the model that a user means. What has an owner, and folders, are taken as typed.

    The whole short name of exactly one model of the catalogue is taken for that model. Otherwise the models that may be
    meant are offered in a `BadUsage`: those of the catalogue, and if it has none, those that the Hub finds by name.
    """
    if is_folder(typed):
        return Meaning(typed)
    name = without_address(typed, endpoint)
    if matches := called(name):
        if len(matches) > 1:
            raise _several(typed, matches)
        [id] = matches
        return Meaning(id, "" if typed.lower() == id.lower() else f"`{typed}` is `{id}`")
    if ID.fullmatch(name):
        return Meaning(name, "" if typed == name else f"`{typed}` is `{name}`")
    if not name.strip() or "/" in name:
        hint = _offer(similar(name)) or "an id of the Hub is OWNER/NAME, for example Qwen/Qwen3-32B"
        raise BadUsage(f"`{typed}` is not the id of a model", hint=hint)
    if parts := containing(name):
        raise BadUsage(f"`{typed}` is not the whole name of a model", hint=_offer(parts))
    raise await _unknown(typed, name, token, endpoint)


def without_address(typed: str, endpoint: str | None = None) -> str:
    """Return the id or the name in an address of the Hub, or in a command that downloads or serves a model.

    What is neither is returned unchanged.

    >>> without_address("https://huggingface.co/Qwen/Qwen3-32B/blob/main/config.json")
    'Qwen/Qwen3-32B'
    >>> without_address("hf download Qwen/Qwen3-32B --local-dir .")
    'Qwen/Qwen3-32B'

    Raises `BadUsage` for the address of a revision, of something other than a model, or of another site.
    """
    text = typed.strip()
    if command := OF_OTHER_PROGRAMS.match(text):
        words = [word for word in text[command.end() :].split() if not word.startswith("-")]
        text = words[0] if words else text
    if text.startswith("hf://"):
        path = text.removeprefix("hf://").removeprefix("models/")
    elif (host := _host(text)) is None:
        path = text
    elif host in (*HUB_HOSTS, _host(endpoint or "")):
        path = urlsplit(text if "://" in text else f"https://{text}").path.removeprefix("/api/models")
    else:
        raise BadUsage(
            f"`{typed}` is not an address of the Hugging Face Hub", hint="give the id of the model, e.g. Qwen/Qwen3-32B"
        )
    owner, *others = path.strip("/").split("/")
    if path == text and not others:
        return text
    if owner in OTHER_PAGES and others:
        raise BadUsage(f"`{typed}` is not the address of a model", hint="give the id of a model, e.g. Qwen/Qwen3-32B")
    name, _, revision = (others[0] if others else owner).partition("@")
    if len(others) > 2 and others[1] in OF_A_REVISION:
        # A revision with a slash is encoded (`refs%2Fpr%2F1`), or it is a pull request's.
        is_request = others[2:4] == ["refs", "pr"] and len(others) > 4
        revision = "/".join(others[2:5]) if is_request else unquote(others[2])
    elif len(others) > 1 and path == text:
        return path
    id = f"{owner}/{name}" if others else name
    if revision and revision != REVISION_OF_THE_PAGE:
        hint = "start it with `pi start {model} --name NAME --vllm --revision {revision}`"
        raise BadUsage(f"`{typed}` names a revision of `{id}`", hint=fill(hint, model=id, revision=revision))
    return id


def ids() -> list[str]:
    """Return the ids of the catalogue, and after them those of the fetched recipes for other models."""
    return list({each.lower(): each for each in reversed([*catalogue.ids(), *recipes.ids()])}.values())[::-1]


def called(name: str) -> list[str]:
    """Return the ids of the catalogue that are this name, or whose short name it is; case and separators do not count.

    >>> called("GPT oss_20b")
    ['openai/gpt-oss-20b']
    """
    key = _key(name)
    if "/" not in name:
        return [id for id in ids() if _key(short(id)) == key]
    is_id = ID.fullmatch(name) is not None  # then another separator is another model
    return [id for id in ids() if (id.lower() == name.lower() if is_id else _key(id) == key)]


def containing(name: str) -> list[str]:
    """Return the ids of the catalogue that contain every word of a name, the most similar first."""
    key = _key(name)
    words = key.split("-") if " " in name.strip() else [key]
    found = [id for id in ids() if all(word in _key(id) for word in words)]
    return sorted(found, key=lambda model: (not _key(short(model)).startswith(key), len(short(model))))


def matching(name: str) -> list[str]:
    """Return the ids of the catalogue that a name is about: those called so, or those that have it in id or family."""
    found = [entry.id for entry in catalogue.search(name)]
    return called(name) or list(dict.fromkeys([*found, *containing(name)]))


def similar(name: str) -> list[str]:
    """Return the ids of the catalogue that a shortened or misspelt name may mean, the likeliest first."""
    known = ids()
    spellings = {_key(short(id)): id for id in reversed(known)} | {_key(id): id for id in known}
    close = difflib.get_close_matches(_key(name), spellings, n=6)
    parts = containing(name) if name.strip() else []
    return list(dict.fromkeys([*parts, *(spellings[spelling] for spelling in close)]))[:MAX_OFFERED]


def short(id: str) -> str:
    """Return an id without its owner."""
    return id.rpartition("/")[2]


def not_found(typed: str, name: str, why_not_searched: PiError | None = None) -> BadUsage:
    """Return the error for a name that the catalogue does not have, and the Hub does not have or could not be asked."""
    near = _offer(similar(name))
    if why_not_searched is None:
        elsewhere = "`pi models` shows the catalogue; a model of the Hub is given as `OWNER/NAME`"
        return BadUsage(f"neither the catalogue nor the Hugging Face Hub has a model `{typed}`", hint=near or elsewhere)
    reason = getattr(why_not_searched, "reason", why_not_searched)
    owner = fill("write it with its owner, as on the Hub: `OWNER/{name}`", name=short(name))
    message = f"the catalogue has no model `{typed}`, and the Hugging Face Hub was not searched: {reason}"
    return BadUsage(message, hint=f"{near} Otherwise {owner}" if near else owner)


async def _unknown(typed: str, name: str, token: str | None, endpoint: str | None) -> BadUsage:
    """Return the error for a name without an owner that the catalogue does not have, with what the Hub has."""
    try:
        found = await hub_names.find(name, token=token, endpoint=endpoint)
    except PiError as error:
        return not_found(typed, name, error)
    if not found:
        return not_found(typed, name)
    ids = [model.id for model in found]
    return BadUsage(f"the catalogue has no model `{typed}`, and an id of the Hub has an owner", hint=_offer(ids))


def _several(typed: str, ids: Sequence[str]) -> BadUsage:
    return BadUsage(f"`{typed}` is the name of several models", hint=f"choose one of {_listed(ids, len(ids))}")


def _offer(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    more = len(ids) - MAX_OFFERED
    also = f", or one of {more} more" if more > 0 else ""
    return f"did you mean {_listed(ids, MAX_OFFERED)}{also}?"


def _listed(ids: Sequence[str], most: int) -> str:
    quoted = [fill("`{id}`", id=id) for id in ids[:most]]
    return " or ".join(quoted) if len(quoted) < 3 else ", ".join(quoted)


def _key(name: str) -> str:
    """Return a name in lower case, its separators as hyphens.

    >>> _key("Qwen3_32B ")
    'qwen3-32b'
    """
    return SEPARATORS.sub("-", name.strip().lower())


def _host(text: str) -> str | None:
    """Return the host of an address; None if a text is not an address. Without a scheme, only the Hub's own is one."""
    if "://" in text:
        try:
            return urlsplit(text).hostname or ""
        except ValueError:  # an incomplete IPv6 address
            return ""
    first = text.partition("/")[0].lower()
    return first if first in HUB_HOSTS and "/" in text else None
