"""Which of pi's own arguments a vLLM knows: its options and its parsers differ between versions."""

from collections.abc import Collection, Sequence

from pi_cli.hints import fill
from pi_cli.vllm import versions, vllm_arguments
from pi_cli.vllm.abilities import Abilities, Vllm, shipped

PARSERS = {"--tool-call-parser": "tool calls are off", "--reasoning-parser": "the reasoning is part of the answer"}
WITH_TOOLS = "--enable-auto-tool-choice"  # refused without a parser


def known(arguments: Sequence[str], vllm: Vllm, pod: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments without those that would keep this vLLM from starting, and a remark about each of these."""
    if not vllm.is_certain:
        return tuple(arguments), ()
    names = vllm.abilities.option_names
    is_old = versions.is_older(vllm.version, shipped().version)
    newer = fill("; get a newer one with `pi pods setup {pod} --vllm release`", pod=pod) if is_old else ""
    kept: list[tuple[str, ...]] = []
    remarks: list[str] = []
    without_tools = False
    for group in vllm_arguments.groups(arguments):
        lacking = _lacking(group, vllm.abilities, names)
        if lacking is None:
            kept.append(group)
            continue
        without_tools = without_tools or group[0] == "--tool-call-parser"
        remarks.append(f"vLLM {vllm.version} on `{pod}` has no {lacking}{newer}")
    if without_tools:
        kept = [group for group in kept if group[0] != WITH_TOOLS]
    return tuple(argument for group in kept for argument in group), tuple(remarks)


def _lacking(group: Sequence[str], abilities: Abilities, options: Collection[str]) -> str | None:
    """Return what a vLLM lacks for an option with its values; None if it has it, or if that is not known."""
    name = vllm_arguments.name_of(group[0])
    parsers = {"--tool-call-parser": abilities.tool_call_parsers, "--reasoning-parser": abilities.reasoning_parsers}
    value = vllm_arguments.value(group, [name])
    if (known_parsers := parsers.get(name)) and value not in known_parsers:
        return f"parser `{value}` for `{name}`, so {PARSERS[name]}"
    # `--kernel-config.NAME=VALUE` is a key of the JSON that `--kernel-config` takes.
    return None if not options or name.partition(".")[0] in options else f"option `{name}`"
