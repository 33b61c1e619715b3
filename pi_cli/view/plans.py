"""A plan as people see it: the choices and why, where the memory goes, and the command."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from pi_cli.safe import safe
from pi_cli.view import checklist, terminal

if TYPE_CHECKING:
    from pi_cli.planning.fit import Memory, MemoryFit
    from pi_cli.planning.plan import Plan

LABELS = 11  # columns, the gap behind the longest label included
LONGEST_BAR = 40
SHORTEST_BAR = 8
# What a bar is made of: its sign, the same in ASCII, and its colour. Signs differ, so that colours are not needed.
PARTS = {
    "weights": ("█", "#", "blue"),
    "KV cache": ("▓", "=", "green"),
    "overhead": ("▒", "+", "magenta"),
    "others": ("░", "x", "yellow"),
    "free": ("·", ".", "dim"),
}


def show_plan(pod: str, plan: "Plan", command: str) -> None:
    """Print what `pi start --dry-run` has found: all that is shown, and the command on one line, to be pasted."""
    console = terminal.out()
    console.print(Text.assemble((_sayable(plan.model, console), "bold"), f" on {pod}"), soft_wrap=True)
    show_choices(console, plan)
    if plan.min_vllm:
        show_row(console, "VLLM", Text(f"{plan.min_vllm} or newer"))
    console.print(Text("COMMAND", style="bold"))
    console.print(Text(safe(command)), soft_wrap=True)


def show_choices(console: Console, plan: "Plan") -> None:
    """Print a plan without its command: GPUs, what is expected of them, reasons, memory, environment."""
    show_row(console, "GPUS", _gpus(plan))
    show_row(console, "EXPECTED", *_expected(plan))
    show_row(console, "WHY", *(Text(f"- {reason}") for reason in plan.reasons))
    if plan.fit and plan.gpus:
        show_row(console, "MEMORY", Text(f"in GiB, of {plan.fit.memory.total:.1f} on each GPU"))
        _show_bars(console, plan.gpus, plan.fit.memory)
    if plan.environment:
        show_row(console, "ENV", *(Text(f"{name}={value}") for name, value in plan.environment.items()))


def show_row(console: Console, label: str, *values: Text) -> None:
    """Print a label and what belongs to it, each value on a line of its own, folded where it is long."""
    width = max(console.width - LABELS, 20)
    for value in values:
        text = Text(_sayable(value.plain, console), style=value.style)
        indent = "  " if value.plain.startswith("- ") else ""
        for at, line in enumerate(text.wrap(console, width - len(indent))):
            line.rstrip()
            before = " " * (LABELS - len(label)) + (indent if at else "")
            console.print(Text.assemble((label, "bold"), before, line), soft_wrap=True)
            label = ""


def plan_as_json(plan: "Plan", command: str | None = None) -> dict[str, Any]:
    """Return a plan as `--json` shows it: contexts and KV cache in tokens, memory in GiB per GPU."""
    found = plan.fit
    return {
        "model": plan.model,
        "gpus": list(plan.gpus),
        "kind": plan.kind,
        "memory_share": plan.memory,
        "beside": list(plan.beside),
        "arguments": list(plan.arguments),
        "environment": plan.environment,
        "min_vllm": plan.min_vllm,
        "reasons": list(plan.reasons),
        "fits": found.is_enough if found else None,
        "tight": plan.is_tight,
        "context": found.context if found else None,
        "longest_context": found.longest if found else None,
        "kv_cache_tokens": found.tokens if found else None,
        "at_once": found.concurrency if found else None,
        "measured": found.is_measured if found else False,
        "memory": asdict(found.memory) | {"free": found.memory.free} if found else None,
        **({"command": command} if command is not None else {}),
    }


def _gpus(plan: "Plan") -> Text:
    if not plan.gpus:
        return Text("none: it runs on the CPU")
    ids = ", ".join(map(str, plan.gpus))
    share = f", {plan.memory:.0%} of the memory" if plan.memory else ""
    beside = f", beside {', '.join(f'`{name}`' for name in plan.beside)}" if plan.beside else ""
    return Text(f"{len(plan.gpus)}x {plan.kind} (GPU {ids}){share}{beside}")


def _expected(plan: "Plan") -> list[Text]:
    """Say which context is served to how many at once."""
    found = plan.fit
    if found is None:
        return [Text("nobody can tell how much fits: vLLM will say")]
    if not found.is_enough:
        return [Text(f"vLLM will not start: {_lack(found)}", style="red")]
    if found.context is None or found.concurrency is None or found.tokens is None:
        return [Text("it fits; what its KV cache holds is not known, as its architecture is not")]
    served = f"{found.context:,} tokens of context, {found.concurrency:.1f} requests of it at once"
    told = "as measured here" if found.is_measured else "estimated"
    cache = Text(f"{found.tokens:,} tokens in the KV cache, {told}")
    if plan.is_tight:
        return [Text(f"tight: {served}", style="yellow"), cache]
    return [Text(served, style="green"), cache]


def _lack(found: "MemoryFit") -> str:
    if found.memory.kv_cache <= 0:
        return "nothing is left for its KV cache"
    return f"{found.context or 0:,} tokens of context are too many, {found.longest or 0:,} would fit"


def _show_bars(console: Console, gpus: Sequence[int], memory: "Memory") -> None:
    """Print a bar for each GPU, with the figures beside it."""
    sizes = {
        "weights": memory.weights, "KV cache": memory.kv_cache, "overhead": memory.overhead,
        "others": memory.taken, "free": memory.free,
    }  # fmt: skip
    if memory.taken < 0.05:  # GiB: what one decimal shows as nothing
        del sizes["others"]
    is_ascii = checklist.wants_ascii(console.encoding)
    signs = {name: PARTS[name][is_ascii] for name in sizes}
    heads = {name: f"{signs[name]} {name}" for name in sizes}
    names = [f"GPU {id}" for id in gpus]
    first = max(map(len, names)) + 2
    room = console.width - 2 - first - sum(len(head) + 2 for head in heads.values()) - 1
    length = min(LONGEST_BAR, room)
    drawn = _bar(sizes, signs, length) if length >= SHORTEST_BAR else Text()
    blank = " " * (2 + first + drawn.cell_len)
    legend = [(f"  {head}", PARTS[name][2]) for name, head in heads.items()]
    console.print(Text.assemble(blank, *legend), soft_wrap=True)
    figures = "".join(f"  {sizes[name]:{len(head)}.1f}" for name, head in heads.items())
    for name in names:
        console.print(Text.assemble("  ", name.ljust(first), drawn, figures), soft_wrap=True)


def _bar(sizes: dict[str, float], signs: dict[str, str], length: int) -> Text:
    """Draw parts of a whole in proportion; each ends where the sum up to it does, so that errors do not add up."""
    whole = sum(sizes.values()) or 1.0
    bar, so_far = Text(), 0.0
    for name, size in sizes.items():
        begin, so_far = round(so_far / whole * length), so_far + size
        bar.append(signs[name] * (round(so_far / whole * length) - begin), style=PARTS[name][2])
    return bar


def _sayable(text: str, console: Console) -> str:
    """Make foreign text fit for this terminal: harmless, and in its encoding."""
    return safe(text).encode(console.encoding, "replace").decode(console.encoding)
