"""`pi models`: the models of the catalogue, and which of them fit."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pi_cli import interrupts
from pi_cli.commands import options
from pi_cli.commands.names import complete_catalogue, complete_gpus
from pi_cli.commands.options import AsJson, NamesOnly, OnPod, Wide
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.planning.gpu_space import GpuSpace
    from pi_cli.planning.profile import KnownModel
    from pi_cli.planning.verdicts import CatalogueVerdict
    from pi_cli.vllm.abilities import Vllm

MAX_SUGGESTED = 15  # models that `pi start` names on a terminal


class Judged(NamedTuple):
    """How the models of the catalogue fit a target: a pod, or GPUs given with `--gpu`."""

    target: str
    spaces: "Sequence[GpuSpace]"
    verdicts: "Sequence[CatalogueVerdict]"


def models(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model, or part of its name; a single match is explained.",
            autocompletion=complete_catalogue,
        ),
    ] = None,
    pod: OnPod = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            metavar="GPUS",
            help='GPUs to use instead of a pod, e.g. "2x H100".',
            autocompletion=complete_gpus,
        ),
    ] = None,
    fits: Annotated[bool, typer.Option("--fits", help="Leave out the models that do not fit.")] = False,
    wide: Wide = False,
    quiet: NamesOnly = False,
    as_json: AsJson = False,
) -> None:
    """Show which models of the catalogue fit your GPUs, and how.

    Uses the GPUs of the active pod as pi has recorded them, of another pod, or GPUs that you consider renting. A model
    "fits" if several requests can use its whole context at once, and is "tight" if only one can. For a model that does
    not fit, the reason is shown, below those that fit. With MODEL: the plan for one model, the reasons for it, and what
    was measured here.

    Other models of the Hugging Face Hub can be started too: try `pi start MODEL --name NAME --dry-run`. If the
    catalogue has no model of the name, those that the Hub has are shown.

    \b
    Examples:
      pi models
      pi models qwen3-coder
      pi models --gpu "1x RTX 4090" --fits
      pi models openai/gpt-oss-120b --gpu "2x H100" --json
    """
    if pod and gpu:
        raise BadUsage("`--pod` and `--gpu` exclude each other", hint="leave one of them out")
    ids = _matches(query)
    if query and not ids:
        _show_found(query, as_json=as_json)
        return
    targets = _described(gpu) if gpu else _on_pods(_selected(pod))
    if query and len(ids) == 1 and not (fits or quiet):
        [(target, spaces)] = targets.items()
        _explain(_profile(ids[0]), target, spaces, pod=pod, is_pod=gpu is None, as_json=as_json)
        return
    judged = _judge(targets, ids, are_pods=gpu is None)
    if quiet:
        _show_ids(judged, ids, only_fitting=fits, as_json=as_json)
        return
    _list(judged, ids, are_pods=gpu is None, only_fitting=fits, is_wide=wide, as_json=as_json)


def suggest(pods: Mapping[str, Pod], *, as_json: bool = False) -> None:
    """Show some models of the catalogue that fit the recorded GPUs of pods; as JSON, all models."""
    ids = _matches(None)
    judged = _judge(_on_pods(pods), ids, are_pods=True)
    most = MAX_SUGGESTED if sys.stdout.isatty() else None
    _list(judged, ids, are_pods=True, only_fitting=not as_json, is_wide=False, most=most, as_json=as_json)


def suggested_name(model: str) -> str:
    """Derive a name from a model's id: `Qwen/Qwen3-Coder-30B` → `qwen3-coder-30b`."""
    return re.sub(r"[^a-z0-9.-]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-.") or "q"


def _matches(query: str | None) -> Sequence[str]:
    """Return the ids of the catalogue and the fetched recipes that a query is about; none if there is no such model."""
    from pi_cli.planning import names

    if query is None:
        return names.ids()
    return names.matching(names.without_address(query, options.hub_endpoint()))


def _profile(model: str) -> "KnownModel":
    """Return a model's profile; for one that only the fetched recipes have, the Hub is asked for its size."""

    from pi_cli.planning import catalogue, lookup
    from pi_cli.planning.profile import UnknownModel

    if entry := catalogue.find(model):
        return lookup.from_catalogue(entry)
    token, endpoint = options.hub_settings()
    profile = interrupts.run(lookup.find(model, token=token, endpoint=endpoint))
    if isinstance(profile, UnknownModel):
        hint = "plan it with `pi start {model} --name {name} --dry-run`"
        raise PiError(
            f"`{model}` of the fetched recipes cannot be sized: {profile.reason}",
            hint=fill(hint, model=model, name=suggested_name(model)),
        )
    return profile


def _show_found(query: str, *, as_json: bool) -> None:
    """Show the models of this name that the Hub has and the catalogue does not."""

    from pi_cli.hub import hub_names
    from pi_cli.planning import names
    from pi_cli.view import catalogue, terminal

    token, endpoint = options.hub_settings()
    name = names.without_address(query, endpoint)
    try:
        found = interrupts.run(hub_names.find(names.short(name), token=token, endpoint=endpoint))
    except PiError as error:
        raise names.not_found(query, name, error) from error
    if not found:
        raise names.not_found(query, name)
    if as_json:
        reason = "not in the catalogue; the Hugging Face Hub has it"
        terminal.show_json([_unsized_as_json(model.id, reason) for model in found])
        return
    catalogue.show_found(query, found, suggested_name(found[0].id))


def _unsized_as_json(model: str, reason: str) -> dict[str, Any]:
    """Return a model that was not judged, with the keys of `_as_json`."""
    return dict.fromkeys(("pod", "hardware", "plan")) | {"model": model, "status": "not sized", "reason": reason}


def _selected(pod: str | None) -> dict[str, Pod]:
    try:
        return state.load().select([pod] if pod else [])
    except BadUsage as error:
        also = " Or" if str(error.hint).endswith("?") else "; or"
        error.with_hint(f'{error.hint}{also} give GPUs, e.g. `pi models --gpu "1x H100"`')
        raise


def _described(gpu: str) -> "dict[str, list[GpuSpace]]":
    from pi_cli.planning import gpu_space, gpu_types

    spaces = gpu_space.measure(gpu_types.parse(gpu), {}, {})
    return {gpu_space.kinds(spaces): spaces}


def _on_pods(pods: Mapping[str, Pod]) -> "dict[str, list[GpuSpace]]":
    from pi_cli.planning import gpu_space, refusal

    for name, pod in pods.items():
        if pod.is_cpu:
            raise BadUsage(
                f"pod `{name}` has no GPUs, and the catalogue is for GPUs",
                hint="start a small model there with `pi start Qwen/Qwen3-0.6B --name q`, "
                'or see what fits other GPUs with `pi models --gpu "1x H100"`',
            )
        if not pod.gpus:
            raise refusal.no_gpus(name)
    return {name: gpu_space.recorded(pod) for name, pod in pods.items()}


def _vllm(target: str, is_pod: bool) -> "Vllm":
    """Return the vLLM of a pod as it is recorded; for GPUs without a pod, the release."""
    from pi_cli.vllm import abilities

    if not is_pod:
        return abilities.Vllm()
    pod = state.load().pod(target)
    return abilities.of(pod.vllm, pod.abilities)


def _judge(targets: "Mapping[str, Sequence[GpuSpace]]", ids: Sequence[str], *, are_pods: bool) -> "list[Judged]":
    """Judge the models of the catalogue among `ids` for each target: a pod, or GPUs given with `--gpu`."""
    from pi_cli.planning import catalogue as entries
    from pi_cli.planning import lookup, verdicts
    from pi_cli.store import measurements

    measured = measurements.load()
    by_id = {entry.id: entry for entry in entries.entries()}
    profiles = [lookup.from_catalogue(by_id[model], measured) for model in ids if model in by_id]
    return [
        Judged(
            target,
            spaces,
            [verdicts.judge(profile.on(_vllm(target, are_pods)), spaces, pod=target) for profile in profiles],
        )
        for target, spaces in targets.items()
    ]


def _unsized(ids: Sequence[str]) -> list[str]:
    """Return the models that only the fetched recipes have."""
    from pi_cli.planning import catalogue

    known = {entry.id for entry in catalogue.entries()}
    return [model for model in ids if model not in known]


def _show_ids(judged: "Sequence[Judged]", ids: Sequence[str], *, only_fitting: bool, as_json: bool) -> None:
    from pi_cli.view import catalogue

    choose = catalogue.fitting if only_fitting else catalogue.in_order
    names = [verdict.model for each in judged for verdict in choose(each.verdicts)]
    options.show_names(dict.fromkeys([*names, *([] if only_fitting else _unsized(ids))]), as_json=as_json)


def _list(
    judged: "Sequence[Judged]",
    ids: Sequence[str],
    *,
    are_pods: bool,
    only_fitting: bool,
    is_wide: bool,
    as_json: bool,
    most: int | None = None,
) -> None:
    from pi_cli.view import catalogue, terminal

    others = [] if only_fitting else _unsized(ids)
    if as_json:
        rows = [
            _as_json(each.target if are_pods else None, each.spaces, verdict)
            for each in judged
            for verdict in (catalogue.fitting(each.verdicts) if only_fitting else each.verdicts)
        ]
        reason = "from the fetched recipes; its size is looked up on the Hugging Face Hub when you name it"
        terminal.show_json([*rows, *(_unsized_as_json(model, reason) for model in others)])
        return
    for each in judged:
        if each.verdicts:
            catalogue.show_list(
                each.target,
                each.spaces,
                each.verdicts,
                is_headed=len(judged) > 1,
                is_wide=is_wide,
                only_fitting=only_fitting,
                most=most,
            )
    catalogue.show_others(others)


def _explain(
    profile: "KnownModel", target: str, spaces: "Sequence[GpuSpace]", *, pod: str | None, is_pod: bool, as_json: bool
) -> None:
    from pi_cli.planning import refusal, verdicts
    from pi_cli.store import measurements
    from pi_cli.view import catalogue, terminal

    entry = profile.entry
    assert entry is not None
    verdict = verdicts.judge(profile.on(_vllm(target, is_pod)), spaces, pod=target)
    would_fit = [] if verdict.status != "no" else refusal.would_fit(verdict.profile, verdicts.NO_CONSTRAINTS, spaces)
    measured = measurements.load(entry.id)
    if as_json:
        details = {
            "kind": entry.kind,
            "speculative": entry.speculative or None,
            "would_fit": would_fit,
            "configurations": [asdict(configuration) for configuration in entry.hardware],
            "origin": entry.origin or None,
            "measured": [asdict(measurement) | {"error": measurement.error} for measurement in measured],
        }
        terminal.show_json([_as_json(target if is_pod else None, spaces, verdict) | details])
        return
    start = ["pi", "start", entry.id, "--name", suggested_name(entry.id), *(["--pod", pod] if pod else [])]
    vllm = state.load().pod(target).vllm if is_pod else None
    catalogue.show_model(target, spaces, verdict, would_fit=would_fit, measured=measured, start=start, vllm=vllm)


def _as_json(pod: str | None, spaces: "Sequence[GpuSpace]", verdict: "CatalogueVerdict") -> dict[str, Any]:
    """Return a verdict as `--json` shows it; `pod` is None for GPUs given with `--gpu`."""
    from pi_cli.planning import gpu_space
    from pi_cli.view import plans

    return {
        "pod": pod,
        "hardware": gpu_space.kinds(spaces),
        "model": verdict.model,
        "status": verdict.status,
        "reason": verdict.reason or None,
        "plan": plans.plan_as_json(verdict.plan) if verdict.plan else None,
    }
