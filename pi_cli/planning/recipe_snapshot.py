"""The published recipes as they were at one time: read from a file, compared with the last update, and stored."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_cli import __version__
from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue, recipes
from pi_cli.planning.recipe_arguments import NotAllowed
from pi_cli.planning.recipes import Malformed, Recipe
from pi_cli.store import files

INDEX = "models.json"
MAX_FILE = 64_000_000  # bytes of a file for `--from`
MAX_MODELS = 3000
PATH = re.compile(r"/[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*\.json", re.ASCII)
ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')


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


def read(file: Path) -> Snapshot:
    """Return the recipes in a folder laid out as the site, or in a file: documents of the site, or what pi stored.

    Raises `BadUsage` for what is neither.
    """
    try:
        if file.is_dir():
            index = parsed(_bounded(file / INDEX))
            documents = {path: document(page, _read_json(file / path.lstrip("/"))) for page, path in listed(index)}
            return Snapshot(str(file), documents)
        data = parsed(_bounded(file))
        if isinstance(data, dict) and data.get("format") == recipes.FORMAT:
            return _from_json(data)
        rows = data if isinstance(data, list) else [data]
        pages = [str(row.get("hf_id"))[:200] for row in rows if isinstance(row, dict) and "recommended_command" in row]
        if len(pages) != len(rows) or len(rows) > MAX_MODELS:
            raise ValueError("it has no recipes in it")
        return Snapshot(
            str(file), {f"/{page}.json": document(page, row) for page, row in zip(pages, rows, strict=True)}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        is_explained = isinstance(error, OSError | ValueError)
        reason = getattr(error, "strerror", None) or (str(error) if is_explained else "it has no recipes in it")
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


def listed(index: Any) -> list[tuple[str, str]]:
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


def document(page: str, data: Any, etag: str = "") -> Document:
    try:
        recipe = recipes.parse(data)
    except (NotAllowed, Malformed) as error:
        return Document(page, None, str(error), etag)
    return Document(page, recipe, "", etag)


def parsed(body: bytes) -> Any:
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
        return parsed(_bounded(file))
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
