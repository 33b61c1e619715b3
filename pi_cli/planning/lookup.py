"""Find out what there is to know of a model: in the catalogue without any network, else on the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pi_cli.planning import architecture, catalogue, hub
from pi_cli.planning.catalogue import Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape
from pi_cli.planning.profile import ModelProfile, is_folder
from pi_cli.store import measurements
from pi_cli.store.measurements import Measurement

FP4_KINDS = ("nvfp4", "mxfp4")


async def find(model: str, *, token: str | None, endpoint: str | None) -> ModelProfile:
    """Return what is known of a model; for one that the catalogue does not have, the Hub is asked.

    Raises `ModelNotStarted` when the Hub says no: the model is gated and we have no access, or does not exist.
    """
    entry = catalogue.find(model)
    if entry is not None:
        if entry.gated:
            await _check_access(entry.id, token, endpoint)
        return from_catalogue(entry)
    if is_folder(model):
        return ModelProfile(model, unknown="a folder on the pod")
    try:
        found = await hub.describe(model, token=token, endpoint=endpoint)
    except hub.HubUnreachable as error:
        return ModelProfile(model, unknown=f"{error}, so its size and shape are not known")
    return _from_hub(found)


async def find_for_own_arguments(model: str, *, token: str | None, endpoint: str | None) -> ModelProfile:
    """Return what is known of a model whose arguments the user brings; the Hub is asked for admission only."""
    entry = catalogue.find(model)
    if not is_folder(model) and (entry is None or entry.gated):
        await _check_access(model, token, endpoint)
    return replace(from_catalogue(entry), id=model) if entry else ModelProfile(model)


def from_catalogue(entry: Entry, rows: Sequence[Measurement] | None = None) -> ModelProfile:
    """Return what the catalogue says of a model, and what earlier starts have told: `rows`, or what was kept."""
    shape = ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture)
    measured = _measured(entry.id, rows)
    return ModelProfile(entry.id, entry, shape, entry.tool_call_parser, entry.reasoning_parser, measured=measured)


async def _check_access(model: str, token: str | None, endpoint: str | None) -> None:
    with suppress(hub.HubUnreachable):  # the pod may reach it, or have the model
        await hub.check_access(model, token=token, endpoint=endpoint)


def _from_hub(found: hub.Repository) -> ModelProfile:
    if not found.weights or not found.config:
        lacking = "config.json" if not found.config else "weights whose size can be told"
        return ModelProfile(found.id, unknown=f"its repository has no {lacking}", files=found.files)
    unknown, shape_of = None, None
    try:
        shape_of = architecture.from_config(found.config)
    except ValueError as error:
        unknown = f"the shape of its KV cache is not known: {error}"
    tools, reasoning = _parsers(found.config)
    shape = ModelShape(found.weights, dtype_of(found.config), shape_of)
    return ModelProfile(found.id, None, shape, tools, reasoning, unknown, _measured(found.id), found.files)


def dtype_of(config: Mapping[str, Any]) -> str:
    """Return what the weights are in, by `config.json`: `fp8`, `nvfp4`, `awq`… or the plain type."""
    quantization = config.get("quantization_config") or {}
    method = str(quantization.get("quant_method") or "").lower()
    words = str(quantization).lower()
    for kind in FP4_KINDS:
        if kind in words or kind in method:
            return kind
    if "fp8" in method or "fp8" in words or ("'num_bits': 8" in words and "'type': 'float'" in words):
        return "fp8"
    inner = config.get("text_config") or {}
    plain = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype") or inner.get("torch_dtype")
    return method or str(plain or "bfloat16")


def _parsers(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the parsers on which all models of the catalogue with this architecture agree."""
    names = set(config.get("architectures") or ())
    alike = [entry for entry in catalogue.entries() if entry.architecture and entry.architecture.name in names]
    tools = {entry.tool_call_parser for entry in alike}
    reasoning = {entry.reasoning_parser for entry in alike}
    return tools.pop() if len(tools) == 1 else None, reasoning.pop() if len(reasoning) == 1 else None


def _measured(model: str, rows: Sequence[Measurement] | None = None) -> dict[tuple[str, int], MeasuredMemory]:
    """Return what the last starts told, by kind and number of GPUs."""
    return {
        (row.gpu, row.count): MeasuredMemory(row.not_kv_cache, row.tensor, row.vllm)
        for row in (measurements.load() if rows is None else rows)
        if row.model.lower() == model.lower()
    }
