"""How the models of the catalogue fit given GPUs: one line per model, or the details of one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pi_cli import hints, units
from pi_cli.planning import gpu_space
from pi_cli.view import columns, plans, terminal
from pi_cli.view.columns import GAP, Cell, Column
from pi_cli.view.plans import show_row
from pi_cli.vllm import kinds

if TYPE_CHECKING:
    from pi_cli.hub.hub_names import Found
    from pi_cli.planning.catalogue import Configuration, Entry
    from pi_cli.planning.gpu_space import GpuSpace
    from pi_cli.planning.plan import Plan
    from pi_cli.planning.verdicts import CatalogueVerdict
    from pi_cli.store.measurements import Measurement

STYLES = {"fits": "green", "tight": "yellow", "no room": "yellow", "no": "red"}
WORDS = {
    "fits": "fits",
    "tight": "fits tightly",
    "no room": "fits, but its memory is in use",
    "no": "does not fit",
}
COLUMNS = (
    Column("MODEL"),  # the name without its owner is enough for `pi start`
    Column("FITS"),
    Column("ON", 1),
    Column("CONTEXT", 2, is_right=True),
    Column("AT ONCE", 3, is_right=True),
)
MAX_OTHERS = 5
MIN_REASON_WIDTH = 24  # columns that a reason gets at least


def show_list(
    target: str,
    spaces: "Sequence[GpuSpace]",
    verdicts: "Sequence[CatalogueVerdict]",
    *,
    is_headed: bool = False,
    is_wide: bool = False,
    only_fitting: bool = False,
    most: int | None = None,
) -> None:
    """Print a line for each model: those that fit with how, below them the others with the reason.

    `only_fitting` leaves out the others; `most` is the number of models that are shown.
    """
    console = terminal.out()
    if is_headed:
        console.print(Text(f"{target}: {gpu_space.kinds(spaces)}", style="bold"), soft_wrap=True)
    width = columns.UNLIMITED if is_wide else console.width
    listed = fitting(verdicts) if only_fitting else in_order(verdicts)
    shown = listed[:most]
    is_whole = _show_fitting(console, [verdict for verdict in shown if verdict.plan], width)
    _show_others(console, [verdict for verdict in shown if not verdict.plan], width)
    counts = [sum(verdict.status == status for verdict in verdicts) for status in ("fits", "tight")]
    against = target if target == gpu_space.kinds(spaces) else f"`{target}` has {gpu_space.kinds(spaces)}"
    summary = [f"{against}: {counts[0]} of {len(verdicts)} fit, {counts[1]} more tightly"]
    if len(shown) < len(listed):
        summary.append(f"the first {len(shown)} are shown, all with `pi models --fits`")
    if any(verdict.plan and _context(verdict.plan) is None for verdict in shown):
        summary.append("where it is unknown, vLLM decides at the start how much context fits")
    if not is_whole:
        summary.append("more columns: `pi models --wide`")
    terminal.note("; ".join([*summary, "details of one: `pi models MODEL`"]))


def in_order(verdicts: "Sequence[CatalogueVerdict]") -> "list[CatalogueVerdict]":
    """Return the models that fit before those that fit tightly, and those before the others."""
    order = list(STYLES)
    return sorted(verdicts, key=lambda verdict: order.index(verdict.status))


def fitting(verdicts: "Sequence[CatalogueVerdict]") -> "list[CatalogueVerdict]":
    """Return the models that can be started now."""
    return [verdict for verdict in in_order(verdicts) if verdict.plan]


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


def _context(plan: "Plan") -> int | None:
    """Return how many tokens of context fit; None if only vLLM can say it."""
    return plan.fit.context if plan.fit else None


def _cells(verdict: "CatalogueVerdict", plan: "Plan") -> dict[str, Cell]:
    fit = plan.fit
    context = _context(plan)
    longest = verdict.profile.max_context
    at_once = fit.concurrency if fit else None
    if context is None:
        contexts = Cell(f"up to {units.tokens(longest)}" if longest else "unknown")
    elif longest and context < longest:
        most = units.tokens(longest)
        contexts = Cell(f"{units.tokens(context)} of {most}", short=f"{units.tokens(context)}/{most}")
    else:
        contexts = Cell(units.tokens(context))
    return {
        "MODEL": Cell(verdict.model, short=verdict.model.rpartition("/")[2]),
        "FITS": Cell(verdict.status, STYLES[verdict.status]),
        "ON": Cell(f"{len(plan.gpus)}x {plan.kind}"),
        "CONTEXT": contexts,
        "AT ONCE": Cell("unknown" if at_once is None else f"{at_once:.1f}" if at_once < 100 else f"{at_once:.0f}"),
    }


def _show_fitting(console: Console, verdicts: "Sequence[CatalogueVerdict]", width: int) -> bool:
    """Print the models that fit, on two lines each if the terminal is very narrow; return whether all was shown."""
    rows = [_cells(verdict, verdict.plan) for verdict in verdicts if verdict.plan]
    if not rows:
        return True
    table = columns.laid_out(COLUMNS, rows, width)
    if table.width > width or not {"ON", "CONTEXT"} <= table.widths.keys():
        _show_pairs(console, verdicts, rows)
        return True
    for line in (table.head, *table.lines):
        console.print(Text.assemble(*line), soft_wrap=True)
    return len(table.widths) == len(COLUMNS)


def _show_others(console: Console, verdicts: "Sequence[CatalogueVerdict]", width: int) -> None:
    """Print the models that do not fit, each with the reason, on a line below it if the terminal is very narrow."""
    names = max([0, *(len(verdict.model) for verdict in verdicts)])
    statuses = max([0, *(len(verdict.status) for verdict in verdicts)])
    reasons = min(max([0, *(len(verdict.brief) for verdict in verdicts)]), MIN_REASON_WIDTH)
    is_narrow = width < names + statuses + 2 * len(GAP) + reasons
    for verdict in verdicts:
        status = Text(verdict.status.ljust(statuses), style=STYLES[verdict.status])
        if is_narrow:
            console.print(Text(verdict.model), soft_wrap=True)
            _show_reason(console, Text.assemble(GAP, status, GAP), verdict.brief, width)
        else:
            before = Text.assemble(verdict.model.ljust(names), GAP, status, GAP)
            _show_reason(console, before, verdict.brief, width)


def _show_reason(console: Console, before: Text, reason: str, width: int) -> None:
    """Print a reason after the model's name, wrapped and indented if the terminal is narrow."""
    for line in Text(reason, style="dim").wrap(console, max(width - before.cell_len, MIN_REASON_WIDTH)):
        line.rstrip()
        console.print(Text.assemble(before, line), soft_wrap=True)
        before = Text(" " * before.cell_len)


def _show_pairs(console: Console, verdicts: "Sequence[CatalogueVerdict]", rows: Sequence[Mapping[str, Cell]]) -> None:
    """Print two lines for each model, for terminals that are too narrow for one."""
    for verdict, row in zip(verdicts, rows, strict=True):
        console.print(Text(verdict.model), soft_wrap=True)
        details = [row["ON"].text, f"{row['CONTEXT'].text} of context", f"{row['AT ONCE'].text} requests at once"]
        if verdict.plan and _context(verdict.plan) is None:
            details[1:] = ["context unknown"]
        status = (verdict.status, STYLES[verdict.status])
        console.print(Text.assemble(GAP, status, GAP, ", ".join(details)), soft_wrap=True)


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
