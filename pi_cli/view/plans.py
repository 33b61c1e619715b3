"""A plan for people: the choices and their reasons, the use of GPU memory, and the command."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from pi_cli import hints
from pi_cli.safe import safe
from pi_cli.view import tables, terminal
from pi_cli.vllm import own_variables, versions
from pi_cli.vllm.kinds import POOLED

if TYPE_CHECKING:
    from pi_cli.planning.fit import Memory, MemoryFit
    from pi_cli.planning.plan import Plan

LABEL_WIDTH = 11  # columns, including the gap after the longest label
MAX_BAR = 40  # columns
MIN_BAR = 8
# The parts of a bar: character, ASCII character and colour. The characters differ, so that colours are not needed.
BAR_PARTS = {
    "weights": ("█", "#", "blue"),
    "KV cache": ("▓", "=", "green"),
    "overhead": ("▒", "+", "magenta"),
    "others": ("░", "x", "yellow"),
    "free": ("·", ".", "dim"),
}


def show_plan(pod: str, plan: "Plan", command: str, additions: Sequence[str], *, vllm: str | None = None) -> None:
    """Print the result of `pi start --dry-run`: the plan, the command on one line, and what the pod adds to it.

    `vllm` is the version that the pod has, if it is known.
    """
    console = terminal.out()
    console.print(Text.assemble((_printable(plan.model, console), "bold"), f" on {pod}"), soft_wrap=True)
    show_choices(console, plan)
    if plan.min_vllm:
        show_row(console, "VLLM", Text(needed_vllm(plan.min_vllm, pod, vllm)))
    console.print(Text("COMMAND", style="bold"))
    console.print(Text(safe(command)), soft_wrap=True)
    show_row(console, "POD ADDS", *(Text(f"- {addition}") for addition in additions))


def needed_vllm(minimum: str, pod: str, installed: str | None) -> str:
    """Write which vLLM a model needs, and if the pod's is too old, the command that installs a newer one."""
    if not versions.is_older(installed, minimum):
        return f"{minimum} or newer"
    older = "{minimum} or newer, and `{pod}` has {installed}: install it with `pi pods setup {pod} --vllm {minimum}`"
    return hints.fill(older, minimum=minimum, pod=pod, installed=installed or "")


def show_choices(console: Console, plan: "Plan") -> None:
    """Print a plan without its command: GPUs, expected capacity, reasons, memory, environment."""
    show_row(console, "GPUS", _gpu_summary(plan))
    show_row(console, "EXPECTED", *_capacity(plan))
    show_row(console, "WHY", *(Text(f"- {reason}") for reason in plan.reasons))
    if plan.fit and plan.gpus:
        show_row(console, "MEMORY", Text(f"in GiB, of {plan.fit.memory.total:.1f} on each GPU{_uncertain(plan.fit)}"))
        _show_bars(console, plan.gpus, plan.fit.memory)
    if plan.environment:
        variables = own_variables.shown(plan.environment)
        show_row(console, "ENV", *(Text(f"{name}={value}") for name, value in variables.items()))


def show_row(console: Console, label: str, *values: Text) -> None:
    """Print a label and its values, each on a line of its own and wrapped if it is long."""
    width = max(console.width - LABEL_WIDTH, 20)
    for value in values:
        text = Text(_printable(value.plain, console), style=value.style)
        indent = "  " if value.plain.startswith("- ") else ""
        for number, line in enumerate(text.wrap(console, width - len(indent))):
            line.rstrip()
            before = " " * (LABEL_WIDTH - len(label)) + (indent if number else "")
            console.print(Text.assemble((label, "bold"), before, line), soft_wrap=True)
            label = ""


def plan_as_json(plan: "Plan") -> dict[str, Any]:
    """Return a plan for `--json`: contexts and KV cache in tokens, memory in GiB per GPU.

    `overhead_error` is by how much the estimate of the overhead may be wrong, 0.0 once it was measured.
    """
    fit = plan.fit
    return {
        "model": plan.model,
        "purpose": plan.purpose,
        "gpus": list(plan.gpus),
        "kind": plan.kind,
        "memory_share": plan.memory,
        "beside": list(plan.beside),
        "arguments": list(plan.arguments),
        "environment": own_variables.shown(plan.environment),
        "min_vllm": plan.min_vllm,
        "reasons": list(plan.reasons),
        "obstacles": list(plan.obstacles),
        "fits": not plan.obstacles if fit else None,
        "tight": plan.is_tight,
        "context": fit.context if fit else None,
        "longest_context": fit.longest if fit else None,
        "kv_cache_tokens": fit.tokens if fit else None,
        "at_once": fit.concurrency if fit else None,
        "measured": fit.is_measured if fit else False,
        "memory": asdict(fit.memory) | {"free": fit.memory.free, "overhead_error": fit.error} if fit else None,
    }


def _gpu_summary(plan: "Plan") -> Text:
    if not plan.gpus:
        return Text("none, it runs on the CPU")
    ids = ", ".join(map(str, plan.gpus))
    share = f", {plan.memory:.0%} of the memory" if plan.memory else ""
    shared = f", shared with {', '.join(f'`{name}`' for name in plan.beside)}" if plan.beside else ""
    return Text(f"{len(plan.gpus)}x {plan.kind} (GPU {ids}){share}{shared}")


def _capacity(plan: "Plan") -> list[Text]:
    """Return the context and how many requests of that length are served at once, and the size of the KV cache."""
    fit = plan.fit
    if fit is None:
        return [Text("memory fit unknown; vLLM will determine it")]
    if plan.obstacles:
        return [Text(f"vLLM will not start: {obstacle}", style="red") for obstacle in plan.obstacles]
    if plan.purpose in POOLED:
        longest = f"texts of up to {fit.context:,} tokens" if fit.context else "it fits"
        return [Text(longest, style="green")]
    if fit.context is None or fit.concurrency is None or fit.tokens is None:
        if fit.memory.kv_cache <= 0:
            return [Text("the catalogue says that it fits; how much context is not known")]
        left = f"about {fit.memory.kv_cache:.1f} GiB of each GPU are left for its KV cache"
        return [Text(f"it fits; {left}; how much context fits there is not known")]
    capacity = f"{fit.context:,} tokens of context, {fit.concurrency:.1f} such requests at once"
    source = "from the memory measured here" if fit.is_measured else "estimated"
    cache = Text(f"{fit.tokens:,} tokens in the KV cache, {source}")
    if plan.is_tight:
        return [Text(f"tight: {capacity}", style="yellow"), cache]
    return [Text(capacity, style="green"), cache]


def _uncertain(fit: "MemoryFit") -> str:
    if not fit.error:
        return ""
    return f"; the overhead is an estimate until a start measures it, and may differ by {fit.error:.1f}"


def _show_bars(console: Console, gpus: Sequence[int], memory: "Memory") -> None:
    """Print a bar for each GPU, followed by the numbers."""
    sizes = {
        "weights": memory.weights, "KV cache": memory.kv_cache, "overhead": memory.overhead,
        "others": memory.taken, "free": memory.free,
    }  # fmt: skip
    if memory.taken < 0.05:  # GiB, shown as 0.0
        del sizes["others"]
    is_ascii = tables.wants_ascii(console.encoding)
    characters = {name: BAR_PARTS[name][is_ascii] for name in sizes}
    headings = {name: f"{characters[name]} {name}" for name in sizes}
    gpu_names = [f"GPU {id}" for id in gpus]
    name_width = max(map(len, gpu_names)) + 2
    width_left = console.width - 2 - name_width - sum(len(heading) + 2 for heading in headings.values()) - 1
    length = min(MAX_BAR, width_left)
    bar = _bar(sizes, characters, length) if length >= MIN_BAR else Text()
    blank = " " * (2 + name_width + bar.cell_len)
    legend = [(f"  {heading}", BAR_PARTS[name][2]) for name, heading in headings.items()]
    console.print(Text.assemble(blank, *legend), soft_wrap=True)
    numbers = "".join(f"  {sizes[name]:{len(heading)}.1f}" for name, heading in headings.items())
    for gpu_name in gpu_names:
        console.print(Text.assemble("  ", gpu_name.ljust(name_width), bar, numbers), soft_wrap=True)


def _bar(sizes: dict[str, float], characters: dict[str, str], length: int) -> Text:
    """Draw the parts in proportion; each ends at the rounded sum up to it, so that rounding errors do not add up."""
    total = sum(sizes.values()) or 1.0
    bar, so_far = Text(), 0.0
    for name, size in sizes.items():
        begin, so_far = round(so_far / total * length), so_far + size
        bar.append(characters[name] * (round(so_far / total * length) - begin), style=BAR_PARTS[name][2])
    return bar


def _printable(text: str, console: Console) -> str:
    """Make foreign text safe, and replace what the terminal's encoding does not have."""
    return safe(text).encode(console.encoding, "replace").decode(console.encoding)
