"""What a model that is not in the catalogue has in common with one that is: parsers, arguments, the least vLLM. Pure.

The Hub names the models that a model was made from; a quantised form or a fine-tune speaks and calls tools as they do.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pi_cli.hub.repository import About, Repository, architectures
from pi_cli.planning import candidates
from pi_cli.planning.catalogue import Entry
from pi_cli.vllm import vllm_arguments

# How closely a model follows the one that it was made from: where it names several, the first of these counts.
RELATIONS = ("quantized", "finetune", "", "merge")
# What names add that does not change how a model speaks: its quantisation.
QUANTISED_NAME = re.compile(
    r"[-_.](?:fp8(?:[-_](?:dynamic|block))?|nvfp4|mxfp[48]|awq|gptq|bf16|int[48]|w\d+a\d+|[48]bit|autoround"
    r"|quantized)(?=$|[-_.])",
    re.IGNORECASE,
)
SIZE = re.compile(r"[-_.][ae]?\d+(?:\.\d+)?[bm](?=$|[-_.])", re.IGNORECASE)  # of a name: `-30B-A3B`
# Models whose own name says how they speak, whatever they were made from: (name, tool-call parser, reasoning parser).
# DeepSeek's distills think as R1 does and were not trained to call tools; QwQ calls them as Qwen2.5 does
# (vLLM's documentation, features/reasoning_outputs and features/tool_calling).
BY_NAME: tuple[tuple[re.Pattern[str], str | None, str | None], ...] = (
    (re.compile(r"R1[-_]Distill|DeepSeek-R1[-_.\d]*-Qwen3", re.IGNORECASE), None, "deepseek_r1"),
    (re.compile(r"(?:^|[-_])QwQ-", re.IGNORECASE), "hermes", "deepseek_r1"),
)
# The arguments of a catalogue entry that are about the model and hold for its other forms too.
INHERITED = frozenset(
    {
        *("--block-size", "--chat-template", "--chat-template-content-format", "--config-format"),
        *("--default-chat-template-kwargs", "--generation-config", "--hf-overrides", "--language-model-only"),
        *("--limit-mm-per-prompt", "--load-format", "--mamba-cache-mode", "--mamba-ssm-cache-dtype"),
        *("--mm-processor-kwargs", "--reasoning-config", "--tokenizer-mode"),
    }
)
# Files without which a format that an entry asks for cannot be loaded.
MISTRAL_FILES = {
    "--config-format": re.compile(r"params\.json"),
    "--load-format": re.compile(r"consolidated.*\.safetensors"),
    "--tokenizer-mode": re.compile(r"tekken\.json|tokenizer\.model.*"),
}
TRUST = "--trust-remote-code"
CODE_WITHHELD = "code of its repository is not run: if vLLM asks for that, give `--vllm --trust-remote-code`"
TOOLS_OFF = (
    "tool calls are off: which parser the model needs is not known; give "
    "`--vllm --enable-auto-tool-choice --tool-call-parser NAME` if you know it"
)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a model has from others; `note` says from which, a line for the plan."""

    note: str = TOOLS_OFF
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    min_vllm: str | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def parents(about: About) -> list[str]:
    """Return the models that one was made from, the closest first."""
    bases = [base for base in about.bases if base.relation in RELATIONS]
    return [base.id for base in sorted(bases, key=lambda base: RELATIONS.index(base.relation))]


def relative(models: Sequence[str], entries: Sequence[Entry]) -> Entry | None:
    """Return the entry for the first of these models that has one, or for another form of it."""
    exact = {entry.id.lower(): entry for entry in reversed(entries)}
    forms = {_unquantised(entry.id): entry for entry in reversed(entries)}
    found = (exact.get(model.lower()) or forms.get(_unquantised(model)) for model in models)
    return next((entry for entry in found if entry), None)


def of_family(models: Sequence[str], found: Repository, entries: Sequence[Entry]) -> Entry | None:
    """Return the entry for another size of one of these models, if all its sizes speak in the same way.

    The architecture must be the same too, since only names say that models are of one family.
    """
    classes = architectures(found.config)
    for family in map(_family, models):
        sizes = [
            entry
            for entry in entries
            if _family(entry.id) == family and entry.architecture and entry.architecture.name in classes
        ]
        if len({(entry.tool_call_parser, entry.reasoning_parser) for entry in sizes}) == 1:
            return sizes[0]
    return None


def owners(entries: Sequence[Entry]) -> frozenset[str]:
    """Return the owners of these models, in lower case."""
    return frozenset(entry.id.partition("/")[0].lower() for entry in entries)


def by_name(models: Sequence[str]) -> Inherited | None:
    """Return what the name of a model, or of one that it was made from, says about how it speaks."""
    for model in models:
        for name, tools, reasoning in BY_NAME:
            if name.search(model.rpartition("/")[2]):
                note = f"reasoning parser `{reasoning}`, by its name"
                if tools:
                    return Inherited(f"{note}; tools as `{tools}`", tools, reasoning)
                return Inherited(f"{note}; tool calls are off", None, reasoning)
    return None


def from_entry(found: Repository, dtype: str, entry: Entry, link: str, owners: Collection[str]) -> Inherited:
    """Return what a repository with weights of this type has in common with an entry of the catalogue.

    `link` says what the entry is to it, e.g. `its base model`. Code of a repository runs for these `owners` only.
    """
    arguments, environment = candidates.common(entry.hardware)
    inherited = [group for group in vllm_arguments.groups(arguments) if _holds(found, group, owners)]
    withheld = any(TRUST in group for group in vllm_arguments.groups(arguments) if group not in inherited)
    return Inherited(
        f"{_common_to(entry)} as for `{entry.id}`, {link}" + (f"; {CODE_WITHHELD}" if withheld else ""),
        entry.tool_call_parser,
        entry.reasoning_parser,
        entry.min_vllm,
        tuple(argument for group in inherited for argument in group),
        environment if dtype == entry.dtype else {},
    )


def by_architecture(found: Repository, entries: Sequence[Entry]) -> Inherited:
    """Return what all models of the catalogue with the same architecture have in common."""
    names = architectures(found.config)
    similar = [each for each in entries if each.architecture and each.architecture.name in names]
    tools = {entry.tool_call_parser for entry in similar}
    reasoning = {entry.reasoning_parser for entry in similar}
    tool_call_parser = tools.pop() if len(tools) == 1 else None
    reasoning_parser = reasoning.pop() if len(reasoning) == 1 else None
    if not tool_call_parser:
        return Inherited(TOOLS_OFF, None, reasoning_parser)
    kinds = "tools and reasoning" if reasoning_parser else "tools"
    note = f"{kinds} as for all models of the catalogue with the architecture `{names[0]}`"
    return Inherited(note, tool_call_parser, reasoning_parser)


def _unquantised(model: str) -> str:
    """Return a model's name without its owner and its quantisation.

    >>> _unquantised("nvidia/Qwen3.6-27B-NVFP4"), _unquantised("Qwen/Qwen3-30B-A3B-GPTQ-Int4")
    ('qwen3.6-27b', 'qwen3-30b-a3b')
    """
    return QUANTISED_NAME.sub("", model.rpartition("/")[2]).lower()


def _family(model: str) -> str:
    """Return a model's name without its owner, its quantisation and its sizes.

    >>> _family("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8")
    'qwen3-instruct-2507'
    """
    return SIZE.sub("", _unquantised(model))


def _common_to(entry: Entry) -> str:
    if entry.tool_call_parser:
        return "tools and reasoning" if entry.reasoning_parser else "tools"
    return "tool calls are off and reasoning is" if entry.reasoning_parser else "tool calls are off,"


def _holds(found: Repository, group: Sequence[str], owners: Collection[str]) -> bool:
    """Return whether an option of an entry, with its values, holds for a repository as well."""
    option = vllm_arguments.name_of(group[0])
    if option == TRUST:  # it runs code of the repository
        return found.id.partition("/")[0].lower() in owners
    if "mistral" in group and (file := MISTRAL_FILES.get(option)):
        return any(map(file.fullmatch, found.names))
    return option in INHERITED
