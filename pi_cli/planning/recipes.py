"""The vLLM recipes that `pi models update` fetched: what of them pi uses, checked as they enter and again when read.

A recipe is one JSON document of https://recipes.vllm.ai, written by `scripts/build-recipes-api.mjs` of the repository
vllm-project/recipes. Unknown keys are ignored; a value of the wrong type, or an argument that the recipes may not bring
(`recipe_arguments`), refuses the recipe. docs/catalogue.md describes this for users.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage
from pi_cli.planning import recipe_arguments
from pi_cli.planning.recipe_arguments import NotAllowed
from pi_cli.store import paths
from pi_cli.vllm import vllm_arguments

FORMAT = 1
SHIPPED = "2026-08-21"  # the date of the recipes that models.md was written from (vllm-project/recipes 8959cf6)
# The recipes' names of NVIDIA hardware, and ours.
HARDWARE = {
    "a100": "A100",
    "b200": "B200",
    "b300": "B300",
    "dgx_spark_gb10": "DGX Spark",
    "dgx_station_gb300": "GB300",
    "gb200": "GB200",
    "gb300": "GB300",
    "h100": "H100",
    "h200": "H200",
    "l40s": "L40S",
    "rtx_4090_2x": "RTX 4090",
    "rtx_5090": "RTX 5090",
    "rtx_5090_2x": "RTX 5090",
    "rtx_pro_5000": "RTX PRO 5000-72G",
    "rtx_pro_5000_4x": "RTX PRO 5000-72G",
    "rtx_pro_6000": "RTX PRO 6000",
    "rtx_pro_6000_2x": "RTX PRO 6000",
    "rtx_pro_6000_8x": "RTX PRO 6000",
}
MAX_GPUS = 16
MAX_TEXT = 500  # characters of a description
ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
VERSION = re.compile(r"\d{1,4}(?:\.\d{1,4}){1,3}")

Arguments = tuple[str, ...]
Variables = dict[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the recipes run a model: on `count` of a type of GPU, and `general`, what of that is not about these GPUs.

    `page` is the id of the recipe, `updated` its date. `left_out` are options of the recipe that pi leaves out.
    """

    id: str
    page: str
    updated: str
    gpu: str
    count: int
    args: Arguments
    general: Arguments
    env: Variables = field(default_factory=dict)
    general_env: Variables = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    min_vllm: str | None = None
    about: str = ""

    @property
    def source(self) -> str:
        """Return where the arguments come from, for people."""
        return f"vllm-project/recipes, {self.page}, updated {self.updated}"

    @property
    def notes(self) -> str:
        """Return what pi has left out of the recipe, and why."""
        return "; ".join(
            f"its recipe asks for `{option}`, which pi leaves out: {recipe_arguments.LEFT_OUT[option]}"
            for option in self.left_out
            if option in recipe_arguments.LEFT_OUT and option != "--served-model-name"
        )

    def parser(self, option: str) -> str | None:
        """Return the parser that an option names."""
        return vllm_arguments.value(self.general, (option,))


class Malformed(ValueError):
    """A document is not a recipe: a value is missing, or has the wrong type."""


def parse(document: Any) -> Recipe:
    """Parse a document of the recipes. Raises `Malformed` or `NotAllowed`, with the reason."""
    data = _table(document, "the recipe")
    page, meta, model = _id(data, "hf_id"), _table(data.get("meta"), "`meta`"), _table(data.get("model"), "`model`")
    command, hardware, generation = _command(data)
    served, argv = _served(command)
    args, left_out = recipe_arguments.check(argv)
    variables = _variables(command.get("env"), "`env`")
    env = recipe_arguments.check_environment(variables)
    left_out += tuple(name for name in variables if name not in env)
    for_hardware = list(_overrides(data, hardware, generation))
    general = _general(args, [override.get("extra_args", []) for override in for_hardware])
    names = {name for override in for_hardware for name in _variables(override.get("extra_env"), "`extra_env`")}
    variant = _default_variant(data)
    recipe = Recipe(
        id=served,
        page=page,
        updated=_date(meta, "date_updated"),
        gpu=HARDWARE[hardware],
        count=vllm_arguments.gpus_requested(args),
        args=args,
        general=general,
        env=env,
        general_env={name: value for name, value in env.items() if name not in names},
        left_out=left_out,
        min_vllm=_version(variant.get("min_vllm_version") or model.get("min_vllm_version")),
        about=_about(meta.get("description")),
    )
    return check(recipe)


def check(recipe: Recipe) -> Recipe:
    """Return a recipe that passes the rules for our own catalogue, and those for the recipes. Raises `NotAllowed`."""
    if not ID.fullmatch(recipe.id) or not ID.fullmatch(recipe.page):
        raise Malformed("the id of the model is not one of the Hub")
    for arguments in (recipe.args, recipe.general):
        recipe_arguments.check(arguments)
        for argument in arguments:
            if vllm_arguments.set_by_pi(argument):
                raise NotAllowed(f"it sets `{vllm_arguments.name_of(argument)}`, which pi sets itself")
    recipe_arguments.check_environment(recipe.env | recipe.general_env)
    if not 1 <= recipe.count <= MAX_GPUS or vllm_arguments.gpus_requested(recipe.args) != recipe.count:
        raise NotAllowed(f"it uses {recipe.count} GPUs")
    if recipe.gpu not in HARDWARE.values():
        raise Malformed("the type of its GPUs is not known")
    return recipe


def path() -> Path:
    """Return the file of the recipes that were fetched."""
    return paths.config_dir() / "catalogue" / "recipes.json"


def ids() -> list[str]:
    """Return the ids of the models in the fetched recipes."""
    return [stored["id"] for stored in _stored().values()]


def find(model: str) -> Recipe | None:
    """Return the fetched recipe for a model. Raises `BadUsage` if the file is damaged."""
    stored = _stored().get(model.lower())
    if stored is None:
        return None
    try:
        return check(from_json(stored))
    except NotAllowed:  # by the rules of a newer pi
        return None
    except (Malformed, TypeError, ValueError) as error:
        raise _damaged() from error


def newer(model: str) -> Recipe | None:
    """Return the fetched recipe for a model if it is newer than those that models.md was written from."""
    recipe = find(model)
    return recipe if recipe and recipe.updated > SHIPPED else None


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as it is stored."""
    return asdict(recipe)


def from_json(data: Any) -> Recipe:
    """Parse a stored recipe; keys of a newer pi are ignored. Raises `Malformed` or `TypeError`."""
    row = _table(data, "the recipe")
    known = {name.name: row[name.name] for name in fields(Recipe) if name.name in row}
    for key in ("args", "general", "left_out"):
        known[key] = tuple(_texts(known.get(key, []), f"`{key}`"))
    for key in ("env", "general_env"):
        known[key] = _variables(known.get(key), f"`{key}`")
    known["updated"], known["about"] = _date(known, "updated"), _about(known.get("about"))
    known["min_vllm"] = _version(known.get("min_vllm"))
    if not isinstance(known.get("count"), int) or not all(isinstance(known.get(k), str) for k in ("id", "page", "gpu")):
        raise Malformed("a value has the wrong type")
    return Recipe(**known)


def _stored() -> Mapping[str, Any]:
    """Return the stored recipes by id in lower case, unchecked; none if nothing was fetched."""
    file = path()
    try:
        status = file.stat()
    except OSError:
        return {}
    return _read(file, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=2)
def _read(file: Path, *version: int) -> Mapping[str, Any]:
    del version  # a replaced file is another entry of the cache
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        rows = [row["recipe"] for row in data["documents"].values() if row.get("recipe")]
        if data["format"] != FORMAT:
            return {}
        rows.sort(key=lambda row: row["page"].lower() == row["id"].lower())  # a recipe of the same name replaces others
        return {row["id"].lower(): row for row in rows}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged() from error


def _damaged() -> BadUsage:
    return BadUsage(
        f"cannot read `{path()}`, the recipes that were fetched",
        hint="fetch them again with `pi models update`, or remove them with `pi models update --remove`",
    )


def _command(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, str]:
    """Return the command that a recipe recommends, for which hardware, and the generation of that."""
    if data.get("recommended_command") is None:
        raise NotAllowed("it has no command for `vllm serve`")
    command = _table(data["recommended_command"], "`recommended_command`")
    if command.get("deploy_type") != "single_node" or command.get("node_count") != 1:
        raise NotAllowed("it needs several machines")
    profile = _table(command.get("hardware_profile"), "`hardware_profile`")
    if profile.get("brand") != "NVIDIA":
        raise NotAllowed("it is for other GPUs than NVIDIA's")
    hardware = _text(command, "hardware")
    if hardware not in HARDWARE:
        raise NotAllowed(f"it is for the hardware `{hardware[:40]}`, which pi does not know")
    return command, hardware, str(profile.get("generation"))


def _served(command: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the model that a command serves, and the arguments after it."""
    argv = _texts(command.get("argv"), "`argv`")
    if argv[:2] != ["vllm", "serve"] or len(argv) < 3 or not ID.fullmatch(argv[2]):
        raise Malformed("`argv` is not a command of `vllm serve`")
    return argv[2], argv[3:]


def _overrides(data: Mapping[str, Any], hardware: str, generation: str) -> Iterator[Mapping[str, Any]]:
    """Yield what a recipe changes for this hardware, its generation, or all of NVIDIA's."""
    for table in (data.get("hardware_overrides"), _default_variant(data).get("hardware_overrides")):
        for key in (hardware, generation, "nvidia"):
            if isinstance(table, dict) and isinstance(table.get(key), dict):
                yield table[key]


def _default_variant(data: Mapping[str, Any]) -> Mapping[str, Any]:
    variants = data.get("variants")
    variant = variants.get("default") if isinstance(variants, dict) else None
    return variant if isinstance(variant, dict) else {}


def _general(args: Arguments, overrides: list[Any]) -> Arguments:
    """Return the arguments that are about the model and not about the GPUs."""
    for_hardware = {
        vllm_arguments.name_of(argument)
        for override in overrides
        for argument in _texts(override, "`extra_args`")
        if vllm_arguments.is_option(argument)
    }
    groups = vllm_arguments.groups(vllm_arguments.without(args, *vllm_arguments.ABOUT_HARDWARE))
    kept = [group for group in groups if vllm_arguments.name_of(group[0]) not in for_hardware]
    return tuple(argument for group in kept for argument in group)


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is not an object")
    return value


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT:
        raise Malformed(f"`{key}` is not a line of text")
    return value


def _texts(value: Any, what: str) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise Malformed(f"{what} is not a list of texts")
    return list(value)


def _variables(value: Any, what: str) -> Variables:
    value = {} if value is None else value
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise Malformed(f"{what} is not a table of texts")
    return dict(value)


def _id(data: Mapping[str, Any], key: str) -> str:
    value = _text(data, key)
    if not ID.fullmatch(value):
        raise Malformed(f"`{key}` is not the id of a model")
    return value


def _date(data: Mapping[str, Any], key: str) -> str:
    value = _text(data, key)
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise Malformed(f"`{key}` is not a date") from error


def _version(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not VERSION.fullmatch(value):
        raise Malformed("`min_vllm_version` is not a version")
    return value


def _about(value: Any) -> str:
    """Return a description as one line; empty if it is missing."""
    if value is None:
        return ""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not isinstance(value, str) or not text.isprintable():
        raise Malformed("`description` is not a text")
    return text[:MAX_TEXT]
