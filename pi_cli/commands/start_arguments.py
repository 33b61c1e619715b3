"""What follows `--vllm` in `pi start`: refuse what cannot be meant, before a pod is asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import quantities

if TYPE_CHECKING:
    from pi_cli.models.local_files import Upload
    from pi_cli.store.records import Pod
    from pi_cli.vllm.vllm_options import Reading

VLLM = "--vllm"
EXAMPLE = "Qwen/Qwen3-8B"


@dataclass(frozen=True, slots=True)
class OwnArguments:
    """The user's own arguments for vLLM, with the names of options written out; `remarks` are for the plan.

    `on_pod` are the same arguments with the places on the pod of the files in `uploads`.
    """

    arguments: tuple[str, ...]
    on_pod: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    uploads: "tuple[Upload, ...]" = ()


@dataclass(frozen=True, slots=True)
class Typed:
    """A `pi start` as typed: its model and its options. `takes` has all options, with the number of their values."""

    model: str
    options: tuple[str, ...]
    takes: dict[str, int]

    def again(self, arguments: Sequence[str], options: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the words of the same command with these arguments for vLLM, and with more options of pi."""
        from pi_cli.commands import models

        given = (*self.options, *options)
        name = () if {"--name", "-n"} & set(given) else ("--name", models.suggested_name(self.model))
        return ("pi", "start", self.model, *name, *given, VLLM, *arguments)


def check(context: typer.Context, model: str, arguments: Sequence[str], pods: "Mapping[str, Pod]") -> OwnArguments:
    """Return what vLLM is given. Raises `BadUsage`; the first pod is named in hints."""
    return checked(_typed(context, model), arguments, pods, is_dry_run=bool(context.params.get("dry_run")))


def checked(
    typed: Typed, arguments: Sequence[str], pods: "Mapping[str, Pod]", *, is_dry_run: bool = False
) -> OwnArguments:
    """Return what vLLM is given in a start that was typed, or that a file asks for."""
    from pi_cli.models import local_files
    from pi_cli.vllm import abilities, own_arguments, vllm_options

    pod, *others = pods
    vllm = abilities.of(pods[pod].vllm, pods[pod].abilities)
    known = abilities.shipped() if others else vllm.abilities
    _refuse_options_of_pi(typed, vllm_options.read(arguments, known.options))
    is_same = all(each.vllm is None or each.vllm.partition("+")[0] == known.version for each in pods.values())
    own_arguments.refuse(arguments, known, typed.again, pod=pod, is_certain=vllm.is_own and not others, is_same=is_same)
    spelled_out = vllm_options.spelled_out(arguments, known.options)
    files = local_files.find(spelled_out, known, pod, is_dry_run=is_dry_run)
    remarks = (*own_arguments.remarks(arguments, known), *files.remarks)
    return OwnArguments(spelled_out, files.arguments, remarks, files.uploads)


def with_model(context: typer.Context, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a start without a model, with that of `--model` or with an example."""
    from pi_cli.vllm import abilities, vllm_options

    readings = vllm_options.read(arguments, abilities.shipped().options)
    named = [reading for reading in readings if reading.is_one_of(("--model",)) and reading.values]
    rest = [word for reading in readings if reading not in named for word in reading.words]
    return _typed(context, named[0].values[0] if named else EXAMPLE).again(rest)


def _typed(context: typer.Context, model: str) -> Typed:
    """Read the command line from the command's own parameters."""
    words: list[str] = []
    takes: dict[str, int] = {}
    parameters: Any = context.command.params
    for parameter in parameters:
        if parameter.param_type_name != "option":
            continue
        takes |= dict.fromkeys(parameter.opts, 0 if parameter.is_flag else 1)
        source = context.get_parameter_source(parameter.name)
        if parameter.opts[0] != VLLM and source is not None and source.name == "COMMANDLINE":
            value = context.params[parameter.name]
            values = value if parameter.multiple else [value]
            words += [word for value in values for word in _words(parameter, value)]
    return Typed(model, tuple(words), takes)


def _words(parameter: Any, value: object) -> list[str]:
    return [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], str(value)]


def _refuse_options_of_pi(typed: Typed, readings: "Sequence[Reading]") -> None:
    """Raise `BadUsage` if an option of `pi start` follows `--vllm`, with all of them before it in the hint."""
    ours: list[str] = []
    before: list[str] = []
    rest: list[str] = []
    for reading in readings:
        if not _is_ours(typed, reading):
            rest += reading.words
            continue
        name, values = reading.name, list(reading.values)
        taken, left = values[: typed.takes[name]], values[typed.takes[name] :]
        ours.append(name)
        if translated := _of_vllm(name, taken):
            rest += translated
        elif name != VLLM:
            before += [name, *taken]
        rest += left
    if not ours:
        _refuse_first_options(typed, readings)
        return
    hint = f"give it before `{VLLM}`: `{{start}}`" if ours[0] in before else "correct it: `{start}`"
    start: Sequence[str] = typed.again(rest, before)
    if "--attach" in before:
        start = ("pi", "start", "--attach", *before[before.index("--attach") + 1 :][:1])
    raise BadUsage(f"`{ours[0]}` is an option of pi, not of vLLM", hint=fill(hint, start=start))


def _refuse_first_options(typed: Typed, readings: "Sequence[Reading]") -> None:
    """Raise `BadUsage` if an option that stands before all commands of pi follows `--vllm`."""
    from pi_cli.commands.main import FIRST_OPTIONS

    ours = [reading for reading in readings if reading.option is None and reading.name in FIRST_OPTIONS]
    if ours:
        rest = [word for reading in readings if reading not in ours for word in reading.words]
        program, *start = typed.again(rest)
        first = dict.fromkeys(reading.name for reading in ours)
        raise BadUsage(
            f"`{ours[0].name}` is an option of pi, not of vLLM",
            hint=fill("give it before the command: `{start}`", start=[program, *first, *start]),
        )


def _is_ours(typed: Typed, reading: "Reading") -> bool:
    """Return whether an option is pi's; `-n` is vLLM's for a number of machines, and pi's for a name."""
    if reading.name not in typed.takes:
        return False
    return reading.option is None or (reading.name == "-n" and not "".join(reading.values).isdecimal())


def _of_vllm(name: str, values: Sequence[str]) -> list[str]:
    """Return vLLM's own form of an option of pi that cannot be combined with `--vllm`."""
    from pi_cli.vllm import vllm_arguments

    try:
        if name in ("--gpus", "-g"):
            return [vllm_arguments.TENSOR_PARALLEL[0], *values]
        if name == "--memory":
            return [vllm_arguments.MEMORY_SHARE[0], *(f"{quantities.share(value):.2f}" for value in values)]
        if name == "--context":
            return [vllm_arguments.CONTEXT_LENGTH[0], *(str(quantities.tokens(value)) for value in values)]
    except PiError:
        return [name, *values]
    return []
