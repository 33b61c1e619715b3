"""Look up what is known of a model: in the catalogue, without the network, or on the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pi_cli.planning import architecture, catalogue, hub, recipes
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape
from pi_cli.planning.profile import KnownModel, ModelProfile, UnknownModel, is_folder
from pi_cli.planning.recipes import Recipe
from pi_cli.store import measurements
from pi_cli.store.measurements import Measurement

FP4_TYPES = ("nvfp4", "mxfp4")


async def find(model: str, *, token: str | None, endpoint: str | None) -> ModelProfile:
    """Return what is known of a model. The Hub is asked about models that are not in the catalogue.

    Raises `ModelNotStarted` when the Hub refuses: the model is gated and the user has no access, or it does not exist.
    """
    entry = catalogue.find(model)
    if entry is not None:
        if entry.gated:
            await _check_access(entry.id, token, endpoint)
        return from_catalogue(entry)
    if is_folder(model):
        return UnknownModel(model, "a folder on the pod")
    try:
        repository = await hub.describe(model, token=token, endpoint=endpoint)
    except hub.HubUnreachable as error:
        return UnknownModel(model, f"{error}, so its size and architecture are not known")
    profile, recipe = _from_hub(repository), recipes.find(repository.id)
    return _with_recipe(profile, recipe, repository) if recipe and isinstance(profile, KnownModel) else profile


async def find_for_own_arguments(model: str, *, token: str | None, endpoint: str | None) -> ModelProfile:
    """Return the profile for a start with the user's own vLLM arguments; the Hub is asked only for access."""
    entry = catalogue.find(model)
    if not is_folder(model) and (entry is None or entry.gated):
        await _check_access(model, token, endpoint)
    return replace(from_catalogue(entry), id=model) if entry else UnknownModel(model)


def from_catalogue(entry: Entry, rows: Sequence[Measurement] | None = None) -> KnownModel:
    """Return a catalogue entry's profile, with what earlier starts measured: `rows`, or `measured.json`."""
    shape = ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture)
    measured = _measured(entry.id, rows)
    return KnownModel(entry.id, shape, entry, entry.tool_call_parser, entry.reasoning_parser, measured=measured)


async def _check_access(model: str, token: str | None, endpoint: str | None) -> None:
    with suppress(hub.HubUnreachable):  # the pod may reach it, or have the model
        await hub.check_access(model, token=token, endpoint=endpoint)


def _from_hub(repository: hub.Repository) -> ModelProfile:
    if not repository.weights or not repository.config:
        lacking = "config.json" if not repository.config else "weights of a known size"
        return UnknownModel(repository.id, f"its repository has no {lacking}", repository.files)
    unknown, its_architecture = None, None
    try:
        its_architecture = architecture.from_config(repository.config)
    except ValueError as error:
        unknown = f"the size of its KV cache is not known: {error}"
    return KnownModel(
        repository.id,
        ModelShape(repository.weights, dtype_of(repository.config), its_architecture),
        None,
        *_parsers(repository.config),
        unknown,
        _measured(repository.id),
        repository.files,
    )


def _with_recipe(profile: KnownModel, recipe: Recipe, repository: hub.Repository) -> KnownModel:
    """Return the profile of a model that only the fetched recipes have: their arguments, and what the Hub says."""
    row = Configuration(
        (recipe.gpu,), recipe.count, recipe.args, dict(recipe.env), recipe.notes, recipe.source, is_fetched=True
    )
    tools, reasoning = recipe.parser("--tool-call-parser"), recipe.parser("--reasoning-parser")
    entry = Entry(
        profile.id,
        (row,),
        round(profile.shape.weights / 1e9, 1),
        dtype=profile.shape.dtype,
        min_vllm=recipe.min_vllm,
        tool_call_parser=tools,
        reasoning_parser=reasoning,
        gated=repository.is_gated,
        architecture=profile.shape.architecture,
        name=profile.id.rpartition("/")[2],
        about=recipe.about,
        general=replace(row, gpus=("any",), args=recipe.general, env=dict(recipe.general_env)),
        origin=f"arguments: {recipe.source}; weights and architecture: the Hugging Face Hub",
    )
    return replace(profile, entry=entry, tool_call_parser=tools, reasoning_parser=reasoning)


def dtype_of(config: Mapping[str, Any]) -> str:
    """Return the type of the weights according to `config.json`: `fp8`, `nvfp4`, `awq`… or the plain type."""
    quantization = config.get("quantization_config") or {}
    method = str(quantization.get("quant_method") or "").lower()
    settings = str(quantization).lower()
    for kind in FP4_TYPES:
        if kind in settings or kind in method:
            return kind
    if "fp8" in method or "fp8" in settings or ("'num_bits': 8" in settings and "'type': 'float'" in settings):
        return "fp8"
    inner = config.get("text_config") or {}
    plain = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    return method or str(plain or "bfloat16")


def _parsers(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the tool-call and reasoning parser that all catalogue models of this architecture share."""
    names = set(config.get("architectures") or ())
    similar = [entry for entry in catalogue.entries() if entry.architecture and entry.architecture.name in names]
    tools = {entry.tool_call_parser for entry in similar}
    reasoning = {entry.reasoning_parser for entry in similar}
    return tools.pop() if len(tools) == 1 else None, reasoning.pop() if len(reasoning) == 1 else None


def _measured(model: str, rows: Sequence[Measurement] | None = None) -> dict[tuple[str, int], MeasuredMemory]:
    """Return what the last starts of a model measured, by kind and number of GPUs."""
    return {
        (row.gpu, row.count): MeasuredMemory(row.not_kv_cache, row.tensor, row.vllm)
        for row in (measurements.load() if rows is None else rows)
        if row.model.lower() == model.lower()
    }
