"""How the models of the catalogue fit given GPUs: one line per model, or the details of one."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pi_cli import hints, units
from pi_cli.planning import gpu_space
from pi_cli.view import plans, terminal
from pi_cli.view.plans import show_row
from pi_cli.vllm import kinds

if TYPE_CHECKING:
    from pi_cli.hub.hub_names import Found
    from pi_cli.planning.catalogue import Configuration, Entry
    from pi_cli.planning.gpu_space import GpuSpace
    from pi_cli.planning.verdicts import CatalogueVerdict
    from pi_cli.store.measurements import Measurement

STYLES = {"fits": "green", "tight": "yellow", "no room": "yellow", "no": "red"}
WORDS = {
    "fits": "fits",
    "tight": "fits tightly",
    "no room": "fits, but its memory is in use",
    "no": "does not fit",
}
GAP = "  "
COLUMNS = ("MODEL", "FITS", "ON", "CONTEXT", "AT ONCE")
NUMERIC = ("CONTEXT", "AT ONCE")
MAX_OTHERS = 5
MIN_REASON_WIDTH = 24  # columns that a reason gets at least


def show_list(
    target: str, spaces: "Sequence[GpuSpace]", verdicts: "Sequence[CatalogueVerdict]", *, is_headed: bool = False
) -> None:
    """Print a line for each model: how it fits, or why not. On narrow terminals with less detail, or on two lines."""
    console = terminal.out()
    if is_headed:
        console.print(Text(f"{target}: {gpu_space.kinds(spaces)}", style="bold"), soft_wrap=True)
    is_one_kind = len({space.kind for space in spaces}) == 1
    for is_full in (True, False) if is_one_kind else (True,):
        rows = [_cells(verdict, is_full=is_full) for verdict in verdicts]
        widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in COLUMNS}
        if sum(widths.values()) + len(GAP) * (len(widths) - 1) <= console.width:
            _show_lines(console, verdicts, rows, widths)
            break
    else:
        _show_pairs(console, verdicts)
    counts = [sum(verdict.status == status for verdict in verdicts) for status in ("fits", "tight")]
    against = target if target == gpu_space.kinds(spaces) else f"`{target}` has {gpu_space.kinds(spaces)}"
    terminal.note(
        f"{against}: {counts[0]} of {len(verdicts)} fit, {counts[1]} more tightly; details of one: `pi models MODEL`"
    )


def show_model(
    target: str,
    spaces: "Sequence[GpuSpace]",
    verdict: "CatalogueVerdict",
    *,
    would_fit: Sequence[str],
    measured: "Sequence[Measurement]",
    start: Sequence[str],
    vllm: str | None = None,
) -> None:
    """Print the details of a model: what it is, how it fits, its other configurations, what was measured here.

    `vllm` is the version that the pod has, if it is known.
    """
    entry = verdict.profile.entry
    assert entry is not None
    console = terminal.out()
    console.print(Text(entry.id, style="bold"), soft_wrap=True)
    for label, value in _about(entry, target, vllm):
        show_row(console, label, Text(value))
    on = target if target == gpu_space.kinds(spaces) else f"{target} ({gpu_space.kinds(spaces)})"
    show_row(console, "ON", Text(f"{on}: {WORDS[verdict.status]}", style=STYLES[verdict.status]))
    if verdict.plan:
        plans.show_choices(console, verdict.plan)
    else:
        show_row(console, "WHY", Text(f"- {verdict.reason}"))
        if verdict.status == "no":
            show_row(console, "WOULD FIT", Text(", ".join(would_fit) or "none of the commonly rented GPUs"))
    _show_configurations(console, entry, spaces)
    _show_measured(console, measured)
    if verdict.plan:
        console.print(Text("START IT", style="bold"))
        for argv in ([*start, "--dry-run"], start):
            console.print(Text(hints.command(*argv)), soft_wrap=True)
        if entry.speculative:
            console.print(Text.assemble(("FASTER", "bold"), ("  speculative decoding: see above", "dim")))
            arguments = (*verdict.plan.arguments, "--speculative-config", entry.speculative)
            console.print(Text(hints.command(*start, "--vllm", *arguments)), soft_wrap=True)


def show_found(query: str, found: "Sequence[Found]", name: str) -> None:
    """Print models of the Hub that the catalogue does not have, and how to plan one of them."""
    console = terminal.out()
    terminal.note(f"the catalogue has no model `{query}`; these are on the Hugging Face Hub")
    width = max(len(model.id) for model in found)
    console.print(Text(f"{'MODEL'.ljust(width)}{GAP}DOWNLOADS", style="bold"), soft_wrap=True)
    for model in found:
        downloads = "-" if model.downloads is None else f"{model.downloads:,}"
        console.print(Text(f"{model.id.ljust(width)}{GAP}{downloads.rjust(len('DOWNLOADS'))}"), soft_wrap=True)
    start = hints.fill("see what pi makes of one: `pi start {id} --name {name} --dry-run`", id=found[0].id, name=name)
    terminal.note(start)


def show_others(models: Sequence[str]) -> None:
    """Name models that only the fetched recipes have: what they need is known when the Hub was asked about one."""
    if not models:
        return
    named = ", ".join(f"`{model}`" for model in models[:MAX_OTHERS])
    more = f" and {len(models) - MAX_OTHERS} more" if len(models) > MAX_OTHERS else ""
    terminal.note(f"also in the fetched recipes, and sized when named: {named}{more}")


def _cells(verdict: "CatalogueVerdict", *, is_full: bool) -> dict[str, str]:
    """Return the cells of a row; without `is_full`, ON has only the number of GPUs, and CONTEXT not the maximum."""
    plan = verdict.plan
    cells = {"MODEL": verdict.model, "FITS": verdict.status}
    if plan is None:
        return cells
    fit = plan.fit
    context = fit.context if fit else None
    longest = verdict.profile.max_context
    of_longest = f" of {units.tokens(longest)}" if is_full and context and longest and context < longest else ""
    at_once = fit.concurrency if fit else None
    return cells | {
        "ON": f"{len(plan.gpus)}x {plan.kind}" if is_full else f"{len(plan.gpus)}x",
        "CONTEXT": f"{units.tokens(context)}{of_longest}",
        "AT ONCE": "?" if at_once is None else f"{at_once:.1f}" if at_once < 100 else f"{at_once:.0f}",
    }


def _show_lines(
    console: Console, verdicts: "Sequence[CatalogueVerdict]", rows: Sequence[dict[str, str]], widths: dict[str, int]
) -> None:
    heads = [name.rjust(widths[name]) if name in NUMERIC else name.ljust(widths[name]) for name in COLUMNS]
    console.print(Text(GAP.join(heads).rstrip(), style="bold"), soft_wrap=True)
    for verdict, row in zip(verdicts, rows, strict=True):
        model = row["MODEL"].ljust(widths["MODEL"]) + GAP
        status = Text(verdict.status, style=STYLES[verdict.status])
        if verdict.plan is None:
            before = Text.assemble(model, status, GAP)
            _show_reason(console, before, verdict.brief)
            continue
        status.append(" " * (widths["FITS"] - len(verdict.status)))
        cells = [
            row[name].rjust(widths[name]) if name in NUMERIC else row[name].ljust(widths[name]) for name in COLUMNS
        ]
        console.print(Text.assemble(model, status, GAP, GAP.join(cells[2:])), soft_wrap=True)


def _show_reason(console: Console, before: Text, reason: str) -> None:
    """Print a reason after the model's name, wrapped and indented if the terminal is narrow."""
    width = max(console.width - before.cell_len, MIN_REASON_WIDTH)
    for line in Text(reason, style="dim").wrap(console, width):
        line.rstrip()
        console.print(Text.assemble(before, line), soft_wrap=True)
        before = Text(" " * before.cell_len)


def _show_pairs(console: Console, verdicts: "Sequence[CatalogueVerdict]") -> None:
    """Print two lines for each model, for terminals that are too narrow for one."""
    for verdict in verdicts:
        console.print(Text(verdict.model), soft_wrap=True)
        status = Text.assemble(GAP, (verdict.status, STYLES[verdict.status]), GAP)
        if verdict.plan is None:
            _show_reason(console, status, verdict.brief)
            continue
        cells = _cells(verdict, is_full=True)
        details = [cells["ON"], f"{cells['CONTEXT']} of context", f"{cells['AT ONCE']} requests at once"]
        console.print(Text.assemble(status, ", ".join(details)), soft_wrap=True)


def _about(entry: "Entry", target: str, vllm: str | None) -> Iterator[tuple[str, str]]:
    if entry.about:
        yield "ABOUT", entry.about
    parameters = f"{entry.params_b:g} billion parameters" if entry.params_b else ""
    if parameters and entry.active_params_b and entry.active_params_b != entry.params_b:
        parameters += f", {entry.active_params_b:g} billion active per token"
    yield "SIZE", "; ".join(filter(None, [f"{entry.weights_gb:g} GB of weights in {entry.dtype or '?'}", parameters]))
    if entry.architecture:
        yield (
            "CONTEXT",
            f"at most {entry.architecture.max_context:,} tokens ({units.tokens(entry.architecture.max_context)})",
        )
    if entry.kind == "generation":
        parser = entry.tool_call_parser
        yield "TOOLS", f"--tool-call-parser {parser}" if parser else "no tool-call parser"
    else:
        yield "KIND", f"{entry.kind}: {kinds.described(entry.kind)}"
    if entry.reasoning_parser:
        yield "THINKING", f"--reasoning-parser {entry.reasoning_parser}"
    if entry.speculative:
        yield "DRAFTS", f"--speculative-config {hints.command(entry.speculative)}"
        yield "", "off unless you add it: faster for few requests, but drafting takes memory from the KV cache"
    if entry.min_vllm:
        yield "VLLM", plans.needed_vllm(entry.min_vllm, target, vllm)
    if entry.gated:
        yield "LICENCE", f"accept it at https://huggingface.co/{entry.id} with the account of HF_TOKEN"
    if entry.origin:
        yield "FROM", entry.origin
    yield (
        "VERIFIED",
        "tested with pi" if entry.is_verified else "not tested with pi, but likely to work: see the sources below",
    )


def _show_configurations(console: Console, entry: "Entry", spaces: "Sequence[GpuSpace]") -> None:
    """Print the catalogue's configurations, with `*` before those for these GPUs."""
    gpus = [space.gpu for space in spaces]
    are_marked = any(configuration.suits(gpus) for configuration in entry.hardware)
    console.print(Text.assemble(("CONFIGURATIONS", "bold"), ("  * for these GPUs" if are_marked else "", "dim")))
    for configuration in entry.hardware:
        mark = "*" if configuration.suits(gpus) else " "
        environment = [f"{name}={hints.command(value)}" for name, value in configuration.env.items()]
        arguments = " ".join([*environment, hints.command(*configuration.args)])
        lines = filter(None, [arguments, configuration.notes, f"source: {configuration.source}"])
        names = Text(_gpu_names(configuration), style="bold")
        show_row(console, f"{mark} {configuration.count}x", names, *map(Text, lines))


def _show_measured(console: Console, measured: "Sequence[Measurement]") -> None:
    """Print the KV cache measured at earlier starts beside the predictions for them."""
    if not measured:
        return
    console.print(Text.assemble(("MEASURED", "bold"), ("  tokens of KV cache at earlier starts", "dim")))
    rows = [("GPUS", "VLLM", "PREDICTED", "REAL", "ERROR")]
    for start in measured:
        predicted = f"{start.predicted_tokens:,}" if start.predicted_tokens else "-"
        error = f"{start.error:+.1%}" if start.error is not None else "-"
        rows.append((f"{start.count}x {start.gpu}", start.vllm or "?", predicted, f"{start.tokens:,}", error))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        console.print(Text(GAP + GAP.join(cells)), soft_wrap=True)


def _gpu_names(configuration: "Configuration") -> str:
    return ", ".join("any GPU" if name == "any" else name for name in configuration.gpus)
