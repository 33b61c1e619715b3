"""Search the Hugging Face Hub: for similar names, for other forms of a model, for what is not a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pi_cli.hub.hub_question import Question
from pi_cli.hub.repository import REPOSITORY_ID

MAX_NAMES = 500
MAX_FORMS = 100  # the most downloaded ones; popular models have thousands
OTHER_KINDS = {"dataset": "datasets", "space": "spaces"}


@dataclass(frozen=True, slots=True)
class Form:
    """A quantised form of a model, with its tags on the Hub, e.g. `awq` or `gguf`."""

    id: str
    tags: frozenset[str]


def forms(question: Question) -> list[Form]:
    """Return the quantised forms of a model, the most downloaded first."""
    tag = quote(f"base_model:quantized:{question.model}")
    found = _models(question, f"filter={tag}&sort=downloads&limit={MAX_FORMS}")
    return [
        Form(model["id"], frozenset(tag for tag in model.get("tags") or () if isinstance(tag, str))) for model in found
    ]


def other_kind(question: Question) -> str | None:
    """Return what has this name on the Hub if it is not a model: a dataset or a space."""
    from huggingface_hub.errors import HfHubHTTPError

    for kind, path in OTHER_KINDS.items():
        try:
            question.json(f"/api/{path}/{question.model}?expand=tags")
        except HfHubHTTPError:
            continue
        return kind
    return None


def most_similar(question: Question) -> str | None:
    """Return the model of the Hub with the most similar name, of the same owner or else of any owner."""
    import difflib

    owner, _, name = question.model.rpartition("/")
    for query in (f"author={owner}", f"search={name}") if owner else (f"search={name}",):
        found = _models(question, f"{query}&limit={MAX_NAMES}&sort=downloads")
        spellings = {model["id"].lower(): model["id"] for model in found}
        if matches := difflib.get_close_matches(question.model.lower(), spellings, n=1, cutoff=0.75):
            return str(spellings[matches[0]])
    return None


def _models(question: Question, query: str) -> Iterator[dict[str, Any]]:
    for model in question.json(f"/api/models?{query}"):
        if isinstance(model, dict) and REPOSITORY_ID.fullmatch(str(model.get("id"))):
            yield model
