"""Look up what is known of a model: in the catalogue, without the network, or on the Hugging Face Hub."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pi_cli.errors import BadUsage
from pi_cli.hub import adapters, forms, hub_api, model_kind, servable
from pi_cli.hub.hub_search import Form
from pi_cli.hub.repository import About, Repository, architectures
from pi_cli.hub.servable import Refusal, Target
from pi_cli.planning import architecture, catalogue, inheritance, quantisation, recipes
from pi_cli.planning.architecture import Architecture
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape
from pi_cli.planning.inheritance import Inherited
from pi_cli.planning.profile import KnownModel, ModelProfile, UnknownModel, is_folder
from pi_cli.planning.recipes import Recipe
from pi_cli.store import measurements
from pi_cli.store.measurements import Measurement
from pi_cli.vllm import abilities, vllm_arguments
from pi_cli.vllm.kinds import Kind

FP4_TYPES = ("nvfp4", "mxfp4")
MAX_STEPS = 3  # from a model to those that it was made from, to those that they were made from, …


@dataclass(frozen=True, slots=True)
class _Hub:
    """The Hub for all questions about one model: they have one time limit together."""

    token: str | None = field(repr=False)
    endpoint: str | None
    deadline: float

    @property
    def time_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    async def describe(self, model: str) -> Repository:
        return await hub_api.describe(model, token=self.token, endpoint=self.endpoint, timeout=self.time_left)

    async def about(self, model: str) -> About | None:
        return await hub_api.about(model, token=self.token, endpoint=self.endpoint, timeout=self.time_left)

    async def forms(self, base: str) -> list[Form]:
        return await hub_api.forms(base, token=self.token, endpoint=self.endpoint, timeout=self.time_left)


async def find(model: str, *, token: str | None, endpoint: str | None, target: Target | None = None) -> ModelProfile:
    """Return what is known of a model. The Hub is asked about models that are not in the catalogue.

    Raises `ModelNotStarted` when the Hub refuses: the model is gated and the user has no access, or it does not exist.
    Raises `BadUsage` for a model that the target's vLLM cannot serve.
    """
    entry = catalogue.find(model)
    if entry is not None:
        if entry.gated:
            await _check_access(entry.id, token, endpoint)
        return from_catalogue(entry)
    if is_folder(model):
        return UnknownModel(model, "a folder on the pod", notes=(inheritance.TOOLS_OFF,))
    asked = _Hub(token, endpoint, time.monotonic() + hub_api.HUB_TIMEOUT)
    try:
        found = await asked.describe(model)
    except hub_api.HubUnreachable as error:
        reason = f"{error}, so its size and architecture are not known"
        return UnknownModel(model, reason, notes=(inheritance.TOOLS_OFF,))
    recipe = recipes.find(found.id)  # which says that a vLLM serves it, be it a newer one than is known here
    if recipe is None:
        await _refuse(found, asked, target or Target(), None)
    return await _from_hub(found, asked, target or Target(), recipe)


async def find_for_own_arguments(
    model: str,
    own: Sequence[str] = (),
    *,
    token: str | None,
    endpoint: str | None,
    target: Target | None = None,
) -> ModelProfile:
    """Return the profile for a start with the user's `own` vLLM arguments; refuse what none of them could change."""
    entry = catalogue.find(model)
    if entry is not None:
        if entry.gated:
            await _check_access(entry.id, token, endpoint)
        return replace(from_catalogue(entry), id=model)
    if is_folder(model):
        return UnknownModel(model)
    asked = _Hub(token, endpoint, time.monotonic() + hub_api.HUB_TIMEOUT)
    try:
        found = await asked.describe(model)
    except hub_api.HubUnreachable:  # the pod may reach it, or have the model
        return UnknownModel(model)
    await _refuse(found, asked, target or Target(), own)
    if not found.weights or not found.config or vllm_arguments.value(own, vllm_arguments.REVISION):
        return UnknownModel(model, kind=_kind(found))
    shape, unknown = _shape(found.config, found.weights)
    return KnownModel(model, shape, unknown=unknown, kind=_kind(found))


def from_catalogue(entry: Entry, rows: Sequence[Measurement] | None = None) -> KnownModel:
    """Return a catalogue entry's profile, with what earlier starts measured: `rows`, or `measured.json`."""
    methods = (entry.quantization,) if entry.quantization else ()
    is_sparse = entry.attention == "sparse"
    shape = ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture, methods, is_sparse)
    classes = [entry.architecture.name] if entry.architecture else []
    return KnownModel(
        *(entry.id, shape, entry, entry.tool_call_parser, entry.reasoning_parser),
        measured=_measured(entry.id, rows),
        kind=model_kind.of(entry.id, classes, abilities.shipped()) if entry.kind == "generation" else entry.kind,
    )


async def _check_access(model: str, token: str | None, endpoint: str | None) -> None:
    with suppress(hub_api.HubUnreachable):  # the pod may reach it, or have the model
        await hub_api.check_access(model, token=token, endpoint=endpoint)


def _shape(config: Mapping[str, Any], weights: float) -> tuple[ModelShape, str | None]:
    """Return what a model's memory depends on, and why its KV cache is not known, if it is not."""
    unknown = None
    try:
        its_architecture: Architecture | None = architecture.from_config(config)
    except ValueError as error:
        unknown = f"the size of its KV cache is not known: {error}"
        its_architecture = architecture.without_layers(config)
    methods, is_sparse = quantisation.methods(config), has_sparse_attention(config)
    return ModelShape(weights, dtype_of(config), its_architecture, methods, is_sparse), unknown


async def _refuse(found: Repository, asked: _Hub, target: Target, own: Sequence[str] | None) -> None:
    """Raise `BadUsage` for a repository that vLLM cannot serve; its hint names what works instead."""
    found = await _with_servable_base(found, asked)
    if refused := servable.refusal(found, target, own):
        hint = refused.hint or await _other_forms(refused, asked, target)
        raise BadUsage(f"{target.called} cannot serve `{found.id}`: {refused.reason}", hint=hint)


async def _with_servable_base(found: Repository, asked: _Hub) -> Repository:
    """Name the model that an adapter's base was made from, if vLLM cannot serve that base: many are in bitsandbytes."""
    base = adapters.base(found) if adapters.is_adapter(found) else ""
    if not forms.is_foreign(base):
        return found
    said = await asked.about(base)
    parents = inheritance.parents(said) if said else []
    return adapters.with_base(found, parents[0]) if parents else found


async def _other_forms(refused: Refusal, asked: _Hub, target: Target) -> str:
    listed = await asked.forms(refused.base) if refused.base else []
    chosen = forms.choose(listed, target.vllm, is_small=refused.is_small)
    return forms.hint(chosen, refused.base, target.name)


async def _from_hub(found: Repository, asked: _Hub, target: Target, recipe: Recipe | None) -> ModelProfile:
    kind = _kind(found)
    doubt = servable.note(found, target)
    notes = (doubt,) if doubt else ()
    if not found.weights or not found.config:
        lacking = "config.json" if not found.config else "weights of a known size"
        tools = (inheritance.TOOLS_OFF,) if kind == "generation" else ()
        reason = f"its repository has no {lacking}"
        return UnknownModel(found.id, reason, found.files, kind, (*tools, *notes))
    shape, unknown = _shape(found.config, found.weights)
    has_relatives = kind == "generation" and recipe is None
    inherited = await _inherited(found, shape.dtype, asked) if has_relatives else Inherited("")
    profile = KnownModel(
        found.id,
        shape,
        tool_call_parser=inherited.tool_call_parser,
        reasoning_parser=inherited.reasoning_parser,
        unknown=unknown,
        measured=_measured(found.id),
        files=found.files,
        kind=kind,
        arguments=inherited.arguments,
        environment=inherited.environment,
        min_vllm=inherited.min_vllm,
        notes=tuple(filter(None, (inherited.note, *notes))),
    )
    return _with_recipe(profile, recipe, is_gated=found.is_gated) if recipe else profile


async def _inherited(found: Repository, dtype: str, asked: _Hub) -> Inherited:
    """Return what a model has from one of the catalogue: the models that it was made from come first."""
    if named := inheritance.by_name([found.id]):
        return named
    entries = [entry for entry in catalogue.entries() if entry.kind == "generation"]
    owners = inheritance.owners(entries)
    models = inheritance.parents(found.about)
    for step in range(MAX_STEPS):
        if named := inheritance.by_name(models):
            return named
        if entry := inheritance.relative(models, entries):
            return inheritance.from_entry(found, dtype, entry, "its base model", owners)
        if entry := inheritance.of_family(models, found, entries):
            return inheritance.from_entry(found, dtype, entry, "a model of the same family as its base model", owners)
        if not models or step == MAX_STEPS - 1:
            break
        said = await asked.about(models[0])
        models = inheritance.parents(said) if said else []
    return _by_own_name(found, dtype, entries) or inheritance.by_architecture(found, entries)


def _by_own_name(found: Repository, dtype: str, entries: Sequence[Entry]) -> Inherited | None:
    """Return what a model has from one of the catalogue with the same architecture and, but for sizes, its name."""
    owners = inheritance.owners(entries)
    same = inheritance.relative([found.id], entries)
    if same and same.architecture and same.architecture.name in architectures(found.config):
        return inheritance.from_entry(found, dtype, same, "another form of it by its name", owners)
    if entry := inheritance.of_family([found.id], found, entries):
        return inheritance.from_entry(found, dtype, entry, "a model of the same family by its name", owners)
    return None


def _kind(found: Repository) -> Kind:
    classes = architectures(found.config)
    return model_kind.of(
        found.id, classes, abilities.shipped(), about=found.about, files=found.names, config=found.config
    )


def _with_recipe(profile: KnownModel, recipe: Recipe, *, is_gated: bool) -> KnownModel:
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
        gated=is_gated,
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


def has_sparse_attention(config: Mapping[str, Any]) -> bool:
    """Return whether vLLM runs a model with its sparse backends of MLA: by the key that it looks for itself."""
    inner = config.get("text_config")
    return any(isinstance(part, Mapping) and part.get("index_topk") for part in (config, inner))


def _measured(model: str, rows: Sequence[Measurement] | None = None) -> dict[tuple[str, int], MeasuredMemory]:
    """Return what the last starts of a model measured, by kind and number of GPUs."""
    return {
        (row.gpu, row.count): MeasuredMemory(row.not_kv_cache, row.tensor, row.vllm)
        for row in (measurements.load() if rows is None else rows)
        if row.model.lower() == model.lower()
    }
