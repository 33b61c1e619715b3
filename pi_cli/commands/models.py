"""`pi models`: what the catalogue has, and what of it fits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pi_cli.commands.options import AsJson, OnPod
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.planning.catalogue import Entry
    from pi_cli.planning.gpu_space import GpuSpace
    from pi_cli.planning.verdicts import CatalogueVerdict


def models(
    query: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model, or a part of its name; one alone is explained.")
    ] = None,
    pod: OnPod = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="GPUS", help='GPUs instead of a pod\'s, such as "2x H100".')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which models of the catalogue fit, and how.

    Against the active pod as pi remembers it, another pod, or GPUs that you think of renting. A model "fits" if it
    serves its context to several requests at once, and is "tight" if it serves it to one; of the others the smallest
    reason why not is shown. With MODEL, all that is known of one: the plan, its reasons, what was measured here.

    Other models of Hugging Face start too: see with `pi start MODEL --name NAME --dry-run`.

    \b
    Examples:
      pi models
      pi models qwen3-coder
      pi models --gpu "1x RTX 4090"
      pi models openai/gpt-oss-120b --gpu "2x H100" --json
    """
    if pod and gpu:
        raise BadUsage("`--pod` and `--gpu` exclude each other", hint="give the one whose GPUs you mean")
    entries = _matching(query)
    places = _imagined(gpu) if gpu else _of_pods(_selected(pod))
    if query and len(entries) == 1:
        [(place, spaces)] = places.items()
        _explain(entries[0], place, spaces, pod=pod, is_pod=gpu is None, as_json=as_json)
        return
    _list(places, entries, are_pods=gpu is None, as_json=as_json)


def show_list(where: Mapping[str, Pod], *, as_json: bool = False) -> None:
    """Show what of the catalogue fits some pods, as they are remembered."""
    _list(_of_pods(where), _matching(None), are_pods=True, as_json=as_json)


def suggested_name(model: str) -> str:
    """Make a name of a model's: `Qwen/Qwen3-Coder-30B` → `qwen3-coder-30b`."""
    return re.sub(r"[^a-z0-9.-]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-.") or "q"


def _matching(query: str | None) -> "Sequence[Entry]":
    from pi_cli.planning import catalogue

    if query is None:
        return catalogue.entries()
    if exact := catalogue.find(query):
        return [exact]
    if found := catalogue.search(query):
        return [entry for entry in found if _is_called(entry, query)] or found
    similar = " or ".join(f"`{id}`" for id in catalogue.similar(query))
    hint = fill(
        "any other model of the Hugging Face Hub can be started: `pi start {model} --name {name} --dry-run`",
        model=query,
        name=suggested_name(query),
    )
    raise BadUsage(f"the catalogue has no model `{query}`", hint=f"did you mean {similar}? {hint}" if similar else hint)


def _is_called(entry: "Entry", name: str) -> bool:
    return entry.id.rpartition("/")[2].lower() == name.lower()


def _selected(pod: str | None) -> dict[str, Pod]:
    try:
        return state.load().select([pod] if pod else [])
    except BadUsage as error:
        error.with_hint(f'{error.hint}; or give GPUs, e.g. `pi models --gpu "1x H100"`')
        raise


def _imagined(gpu: str) -> "dict[str, list[GpuSpace]]":
    from pi_cli.planning import gpu_space, gpu_types

    spaces = gpu_space.measure(gpu_types.parse(gpu), {}, {})
    return {gpu_space.kinds(spaces): spaces}


def _of_pods(where: Mapping[str, Pod]) -> "dict[str, list[GpuSpace]]":
    from pi_cli.planning import gpu_space, refusal

    for name, pod in where.items():
        if pod.is_cpu:
            raise BadUsage(
                f"pod `{name}` has no GPUs, and the catalogue is for GPUs",
                hint="start a small model there with `pi start Qwen/Qwen3-0.6B --name q`, "
                'or see what fits GPUs with `pi models --gpu "1x H100"`',
            )
        if not pod.gpus:
            raise refusal.no_gpus(name)
    return {name: gpu_space.recorded(pod) for name, pod in where.items()}


def _list(
    places: "Mapping[str, Sequence[GpuSpace]]", entries: "Sequence[Entry]", *, are_pods: bool, as_json: bool
) -> None:
    from pi_cli.planning import lookup, verdicts
    from pi_cli.store import measurements
    from pi_cli.view import catalogue, terminal

    rows = measurements.load()
    profiles = [lookup.from_catalogue(entry, rows) for entry in entries]
    judged = {
        place: [verdicts.judge(profile, spaces, pod=place) for profile in profiles] for place, spaces in places.items()
    }
    if as_json:
        told = [
            _as_json(place if are_pods else None, places[place], verdict)
            for place in judged
            for verdict in judged[place]
        ]
        terminal.show_json(told)
        return
    for place, spaces in places.items():
        catalogue.show_list(place, spaces, judged[place], is_headed=len(places) > 1)


def _explain(
    entry: "Entry", place: str, spaces: "Sequence[GpuSpace]", *, pod: str | None, is_pod: bool, as_json: bool
) -> None:
    from pi_cli.planning import lookup, refusal, verdicts
    from pi_cli.store import measurements
    from pi_cli.view import catalogue, terminal

    verdict = verdicts.judge(lookup.from_catalogue(entry), spaces, pod=place)
    would_fit = [] if verdict.status != "no" else refusal.would_fit(verdict.profile, verdicts.NO_CONSTRAINTS)
    measured = measurements.load(entry.id)
    if as_json:
        more = {
            "would_fit": would_fit,
            "configurations": [asdict(each) for each in entry.hardware],
            "measured": [asdict(each) | {"error": each.error} for each in measured],
        }
        terminal.show_json([_as_json(place if is_pod else None, spaces, verdict) | more])
        return
    start = ["pi", "start", entry.id, "--name", suggested_name(entry.id), *(["--pod", pod] if pod else [])]
    catalogue.show_model(place, spaces, verdict, would_fit=would_fit, measured=measured, start=start)


def _as_json(pod: str | None, spaces: "Sequence[GpuSpace]", verdict: "CatalogueVerdict") -> dict[str, Any]:
    """Return a verdict as `--json` shows it; `pod` is None for GPUs that are only thought of."""
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
