"""Refuse what cannot be meant after `--vllm`, with the corrected command, before a pod is asked. Pure.

What vLLM may know and this pi does not is left to the pod: an option of a newer vLLM is not refused, unless it looks
like a misspelt one.
"""

import difflib
import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pi_cli.errors import BadUsage
from pi_cli.hints import excerpt, fill
from pi_cli.vllm import json_options, own_variables, vllm_arguments, vllm_options
from pi_cli.vllm.abilities import Abilities
from pi_cli.vllm.vllm_options import Reading

# Options of former versions of vLLM, and their names in 0.32.
RENAMED = {
    "--cuda-graph-sizes": "--cudagraph-capture-sizes",
    "--disable-log-requests": "--no-enable-log-requests",
    "--guided-decoding-backend": "--structured-outputs-config.backend",
    "--num-speculative-tokens": "--speculative-config.num_speculative_tokens",
    "--speculative-model": "--speculative-config.model",
    "--task": "--runner",
    "--tool-call-parser-plugin": "--tool-parser-plugin",
}
TASKS = {"generate": "generate", "transcription": "generate", "auto": "auto", "draft": "draft"}  # others: pooling
# Options that were removed, and why they are not needed.
REMOVED = {
    "--disable-async-output-proc": "vLLM has no such step any more",
    "--enable-reasoning": "`--reasoning-parser` is enough",
    "--max-seq-len-to-capture": "vLLM chooses what it captures",
    "--num-lookahead-slots": "speculative decoding reserves what it needs",
    "--num-scheduler-steps": "vLLM always schedules asynchronously",
    "--preemption-mode": "vLLM always computes preempted requests again",
    "--rope-scaling": "it is a part of `--hf-overrides` now",
    "--rope-theta": "it is a part of `--hf-overrides` now",
    "--scheduler-delay-factor": "vLLM schedules without a delay",
    "--swap-space": "vLLM no longer swaps to the memory of the machine",
    "--use-v2-block-manager": "there is only one block manager",
    "--worker-use-ray": "`--distributed-executor-backend ray` replaces it",
}
OF_SEVERAL_MACHINES = (
    *("--nnodes", "-n", "--node-rank", "-r", "--headless", "--master-addr", "--master-port"),
    *("--data-parallel-address", "-dpa", "--data-parallel-rpc-port", "-dpp", "--data-parallel-rank", "-dpn"),
    *("--data-parallel-start-rank", "-dpr", "--data-parallel-external-lb", "-dpe", "--data-parallel-hybrid-lb", "-dph"),
    *("--data-parallel-multi-port-external-lb", "-dpm", "--data-parallel-supervisor-port"),
)
OF_ONE_MACHINE = {"--nnodes": "1", "-n": "1", "--node-rank": "0", "-r": "0"}  # their values on one machine
SIZES = (
    *(*vllm_arguments.TENSOR_PARALLEL, *vllm_arguments.PIPELINE_PARALLEL, *vllm_arguments.CONTEXT_PARALLEL),
    *(*vllm_arguments.DATA_PARALLEL, *vllm_arguments.DATA_PARALLEL_LOCAL),
)
COUNTS = (*vllm_arguments.SEQUENCES, *vllm_arguments.BATCHED_TOKENS, "--max-num-active-seqs", "--max-loras")
LESS_THAN_ONE = re.compile(r"-\d+|[0_]+")
VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
TOKENS = re.compile(r"-1|(?i:auto)|\d[\d_]*|\d+[kmgtKMGT]|\d+\.\d+[kmgt]")  # vLLM 0.32, utils/argparse_utils.py
PERCENT = re.compile(r"(\d{1,2}(?:\.\d+)?) ?%")
DASHES = "–—−‐‑‒―"  # what word processors make of `-` and `--`
NO = ("false", "no", "off", "0")
LIKE = 0.87  # of 1: similarity of a name or a value to the one that was meant; names of new options often differ more
GLUED = re.compile(r"(-[a-z]+)(\d.*)")  # `-tp2`, which vLLM does not take for `-tp 2`
SHOWN_OPTIONS = 6  # of those that an ambiguous beginning could mean

Retype = Callable[[Sequence[str]], Sequence[str]]
"""Returns the words of the user's command with other arguments after `--vllm`."""


@dataclass(frozen=True, slots=True)
class Line:
    """What follows `--vllm`, what vLLM can do, and how to write the command again; `pod` is for hints.

    `is_certain`: the abilities are those of the pod's own vLLM, so it has no other options. `is_same`: they may be; if
    not, the pod has a vLLM of another version, in which an option may have another name, or other values.
    """

    readings: Sequence[Reading]
    known: Abilities
    retype: Retype
    pod: str
    is_certain: bool = False
    is_same: bool = True

    def with_(self, *changed: Reading, by: Sequence[str] = ()) -> Sequence[str]:
        """Return the user's command without some arguments, with `by` in the place of the first."""
        words: list[str] = []
        for reading in self.readings:
            if reading is changed[0]:
                words += by
            elif reading not in changed:
                words += reading.words
        return self.retype(words)


def refuse(
    arguments: Sequence[str],
    known: Abilities,
    retype: Retype,
    *,
    pod: str,
    is_certain: bool = False,
    is_same: bool = True,
) -> None:
    """Raise `BadUsage` for the first argument that vLLM or pi could not use as it was meant."""
    line = Line(vllm_options.read(arguments, known.options), known, retype, pod, is_certain, is_same)
    for reading, before in zip(line.readings, [None, *line.readings], strict=False):
        if not reading.name:
            raise _stray(line, reading, before)
        if reading.option is None:
            _refuse_unknown(line, reading)
        else:
            _refuse_option(line, reading)
            _refuse_value(line, reading)
    _refuse_several_machines(line)


def _stray(line: Line, reading: Reading, before: Reading | None) -> BadUsage:
    """Return the error for a word that belongs to no option."""
    [word] = reading.words
    if word.startswith("-") and " " in word:
        return BadUsage(
            f"`{word}` is one word, in which vLLM finds no option",
            hint=fill("leave out the quotes: `{start}`", start=line.with_(reading, by=_split(word))),
        )
    if assigned := VARIABLE.fullmatch(word):
        name = assigned[1]
        start = list(line.with_(reading))
        given = name if own_variables.SECRET.search(name) else word  # of a secret, the name is enough
        start[start.index("--vllm") : start.index("--vllm")] = ["--env", given]
        return BadUsage(
            f"`{name}=…` sets a variable, and vLLM takes options here",
            hint=fill("give it before `--vllm`: `{start}`", start=start),
        )
    if word[:1] in DASHES and word[1:]:
        name = word.lstrip(DASHES + "-")
        typed = f"{'-' if len(name.partition('=')[0]) <= len('dpl') else '--'}{name}"
        return BadUsage(
            f"`{word}` begins with `{word[0]}`, which is not a hyphen",
            hint=fill("type the hyphens: `{start}`", start=line.with_(reading, by=[typed])),
        )
    if before and before.option and before.option.value == "no":
        return _takes_no_value(line, before, word, reading)
    return BadUsage(
        f"`{word}` belongs to no option of vLLM",
        hint=fill("quote what belongs together, or leave it out: `{start}`", start=line.with_(reading)),
    )


def _split(word: str) -> list[str]:
    try:
        return shlex.split(word)
    except ValueError:  # a quotation without its end
        return word.split()


def _takes_no_value(line: Line, reading: Reading, value: str, *with_value: Reading) -> BadUsage:
    """Return the error for a value of an option that has none, e.g. `--enforce-eager true`."""
    names = reading.option.names if reading.option else ()
    opposite = next((name for name in names if name.startswith("--no-")), None)
    is_off = value.lower() in NO
    hint = "turn it off with its opposite: `{start}`" if is_off and opposite else "leave the value out: `{start}`"
    by = [opposite if is_off and opposite else reading.name]
    return BadUsage(
        f"`{reading.name}` takes no value, and `{value}` was given",
        hint=fill(hint, start=line.with_(reading, *with_value, by=by)),
    )


def _refuse_unknown(line: Line, reading: Reading) -> None:
    """Refuse an option that vLLM could take for several, or that is renamed, removed or misspelt."""
    name = reading.name
    if reading.candidates:
        raise _ambiguous(line, reading)
    names = [name for option in line.known.options for name in option.names]
    glued = GLUED.fullmatch(name)
    if glued and glued[1] in names:
        hint = fill("put a space in it: `{start}`", start=line.with_(reading, by=glued.groups()))
    elif not line.is_same:
        return
    elif new := RENAMED.get(name):
        values = [TASKS.get(value, "pooling") for value in reading.values] if name == "--task" else reading.values
        hint = fill("it is called `{new}` now: `{start}`", new=new, start=line.with_(reading, by=[new, *values]))
    elif name in REMOVED:
        hint = fill("leave it out: `{start}`; {why}", start=line.with_(reading), why=REMOVED[name])
    elif similar := _similar(name.lower() if name.startswith("--") else name, names):
        start = line.with_(reading, by=reading.spelled_as(similar))
        hint = fill("did you mean `{name}`? `{start}`", name=similar, start=start)
    elif line.is_certain:
        hint = fill("leave it out: `{start}`", start=line.with_(reading))
    else:
        return
    raise BadUsage(f"vLLM {line.known.version} has no option `{name}`", hint=hint)


def _ambiguous(line: Line, reading: Reading) -> BadUsage:
    """Return the error for the beginning of several names; those that a plan depends on are shown first."""
    planned = list(itertools.chain(*vllm_arguments.ABOUT_HARDWARE))
    names = sorted(reading.candidates, key=lambda name: planned.index(name) if name in planned else len(planned))
    more = f" and {len(names) - SHOWN_OPTIONS} more" if len(names) > SHOWN_OPTIONS else ""
    shown = ", ".join(f"`{name}`" for name in names[:SHOWN_OPTIONS])
    refused = next((name for name in names if name in vllm_arguments.REFUSED), None)
    if refused:
        hint = f"write the whole name; `{refused}` cannot be given: {vllm_arguments.REFUSED[refused]}"
    else:
        hint = "write the whole name, for example `{start}`"
    return BadUsage(
        f"`{reading.name}` could be the beginning of several options of vLLM: {shown}{more}",
        hint=fill(hint, start=line.with_(reading, by=reading.spelled_as(names[0]))),
    )


def _similar(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that was probably meant."""
    return next(iter(difflib.get_close_matches(text, choices, n=1, cutoff=LIKE)), None)


def _refuse_option(line: Line, reading: Reading) -> None:
    """Refuse an option that pi sets itself or does not support."""
    if reading.is_one_of(("-h", "--help")):
        see = "see pi's options with `pi start --help`, and vLLM's with `pi ssh {pod} {serve}`"
        raise BadUsage(
            f"`{reading.words[0]}` makes vLLM print its help instead of serving a model",
            hint=fill(see, pod=line.pod, serve="~/venv/bin/vllm serve --help=all"),
        )
    reason = next((why for name, why in vllm_arguments.REFUSED.items() if reading.is_one_of((name,))), None)
    if reason is None or reading.name.startswith("--no-"):
        return
    if reading.is_abbreviated:
        reason = f"vLLM reads it as `{reading.name}`, and {reason}"
    hint, left_out = "leave it out: `{start}`", [other for other in line.readings if _is_refused(other)]
    by: list[str] = []
    if reading.name == "--config":
        hint = "leave it out and give the options that are in it: `{start}`"
    elif reading.name == "--device-ids":
        count = len("".join(reading.values).split(","))
        if count > 1 and not any(other.is_one_of(SIZES) for other in line.readings):
            hint, by = "say how many: `{start}`", [vllm_arguments.TENSOR_PARALLEL[0], str(count)]
    typed = reading.words[0].partition("=")[0]
    raise BadUsage(
        f"`{vllm_arguments.name_of(typed)}` cannot be given after `--vllm`: {reason}",
        hint=fill(hint, start=line.with_(reading, *left_out, by=by)),
    )


def _is_refused(reading: Reading) -> bool:
    return any(reading.is_one_of((name,)) for name in vllm_arguments.REFUSED)


def _refuse_value(line: Line, reading: Reading) -> None:
    """Refuse a value that is missing, not wanted, or not of the kind that the option takes."""
    if reading.option is None:
        return
    name = reading.name
    if reading.refuses_value:
        raise _takes_no_value(line, reading, reading.given or "")
    if reading.lacks_value:
        choices = ", ".join(f"`{choice}`" for choice in reading.option.choices)
        hint = f"give one of {choices}" if choices else fill("give it behind the name: `{name}=VALUE`", name=name)
        raise BadUsage(f"`{name}` needs a value", hint=hint)
    for value in reading.values:
        _refuse_choice(line, reading, value)
        _refuse_number(line, reading, value)
        if not reading.key:
            _refuse_json(line, reading, value)


def _refuse_choice(line: Line, reading: Reading, value: str) -> None:
    """Refuse a value that is not one of those that vLLM lists; some options take capitals and hyphens too."""
    choices = reading.option.choices if reading.option else ()
    takes_spellings = reading.name.endswith("-backend")
    if not choices or value in choices or not line.is_same:
        return
    if takes_spellings and value.lower().replace("-", "_") in choices:
        return
    numbers = re.sub(r"\D", "", value)  # a value that differs in a number may be one of a newer vLLM
    similar = _similar(value, [choice for choice in choices if re.sub(r"\D", "", choice) == numbers])
    if similar:
        start = line.with_(reading, by=_with_value(reading, value, similar))
        hint = fill("did you mean `{value}`? `{start}`", value=similar, start=start)
    elif line.is_certain:
        hint = f"choose one of {', '.join(f'`{choice}`' for choice in choices)}"
    else:
        return
    raise BadUsage(f"vLLM does not accept `{value}` for `{reading.name}`", hint=hint)


def _refuse_number(line: Line, reading: Reading, value: str) -> None:
    """Refuse a value of the options that decide where a model fits, if it is not a number as vLLM reads it."""
    name = reading.name
    may_be_none = reading.is_one_of(vllm_arguments.DATA_PARALLEL_LOCAL) and value == "0"
    is_count = value.isdecimal() and not LESS_THAN_ONE.fullmatch(value)
    if reading.is_one_of(SIZES) and not is_count and not may_be_none:
        raise BadUsage(
            f"`{name}` takes a number of GPUs, not `{value}`", hint=fill("for example: `{name} 2`", name=name)
        )
    if reading.is_one_of(COUNTS) and LESS_THAN_ONE.fullmatch(value):
        hint = fill("leave it out: `{start}`", start=line.with_(reading))
        raise BadUsage(f"`{name}` is at least 1, and `{value}` was given", hint=hint)
    is_length = TOKENS.fullmatch(value.strip()) and (value.strip() == "-1" or not LESS_THAN_ONE.fullmatch(value))
    if reading.is_one_of(vllm_arguments.CONTEXT_LENGTH) and not is_length:
        hint = fill("for example: `{name} 32768`, `{name} 32K` or `{name} auto`", name=name)
        raise BadUsage(f"`{name}` takes a number of tokens, not `{value}`", hint=hint)
    if reading.is_one_of(vllm_arguments.MEMORY_SHARE) and not vllm_arguments.is_share(value):
        percent = PERCENT.fullmatch(value)
        right = f"{float(percent[1]) / 100:.2f}" if percent else f"{vllm_arguments.DEFAULT_MEMORY}"
        start = line.with_(reading, by=_with_value(reading, value, right))
        raise BadUsage(
            f"`{name}` takes a share of the memory between 0 and 1, not `{value}`",
            hint=fill("for example: `{start}`", start=start),
        )


def _refuse_json(line: Line, reading: Reading, value: str) -> None:
    if not line.is_same and not value.lstrip().startswith("{"):
        return  # former versions also took `image=2` for `--limit-mm-per-prompt`
    names = reading.option.names if reading.option else ()
    faults = (json_options.fault(name, value) for name in names)
    fault = next((fault for fault in faults if fault), None)
    if fault is None:
        return
    hint = "correct it, in single quotes for the shell: `{name} {example}`"
    if fault.corrected:
        hint = "JSON has double quotes, `true`, `false` and `null`: `{start}`"
    start = line.with_(reading, by=_with_value(reading, value, fault.corrected or value))
    raise BadUsage(
        f"the value of `{reading.name}` is not valid JSON: {fault.reason}",
        hint=fill(hint, name=reading.name, example='{"key": "value"}', start=start),
        excerpt="" if fault.at is None else excerpt(value, fault.at, fault.at + 1),
    )


def _with_value(reading: Reading, old: str, new: str) -> list[str]:
    """Return the words of an option with another value in place of one."""
    if reading.given is not None:
        return [reading.name, new] if "=" not in reading.words[0] else [f"{reading.words[0].partition('=')[0]}={new}"]
    return [reading.words[0], *(new if word == old else word for word in reading.words[1:])]


def _refuse_several_machines(line: Line) -> None:
    """Refuse what spreads a model over several machines: replicas elsewhere, or other parts of the same model."""
    spreading = [reading for reading in line.readings if _spreads(reading)]
    local = [reading for reading in line.readings if reading.is_one_of(vllm_arguments.DATA_PARALLEL_LOCAL)]
    replicas = [reading for reading in line.readings if reading.is_one_of(vllm_arguments.DATA_PARALLEL)]
    here = _last(local)
    is_partial = bool(local) and here != (_last(replicas) or "1")  # the other replicas would run elsewhere
    left_out = [*spreading, *(local + replicas if is_partial else [])]
    if not left_out:
        return
    left_out += [reading for reading in line.readings if reading.name in OF_SEVERAL_MACHINES]
    words = [word for reading in line.readings if reading not in left_out for word in reading.words]
    if is_partial and here not in ("0", "1"):
        words += [vllm_arguments.DATA_PARALLEL[0], here]
    machines = _last([reading for reading in spreading if reading.is_one_of(("--nnodes",))])
    tensor = vllm_arguments.parse(words).tensor
    if machines.isdecimal() and tensor > 1 and int(machines) > 0 and tensor % int(machines) == 0:
        size = str(tensor // int(machines))  # the part of the model that one machine would have had
        words = list(vllm_arguments.replaced(words, vllm_arguments.TENSOR_PARALLEL, size))
    first = [*spreading, *local][0].name
    raise BadUsage(
        f"a model over several machines is started with `--across POD,POD`, not with `{first}`",
        hint=fill("leave it to pi: `{start}`", start=line.retype(words)),
    )


def _spreads(reading: Reading) -> bool:
    return reading.name in OF_SEVERAL_MACHINES and reading.values != (OF_ONE_MACHINE.get(reading.name),)


def _last(readings: Sequence[Reading]) -> str:
    return readings[-1].values[-1] if readings and readings[-1].values else ""


def remarks(arguments: Sequence[str], known: Abilities) -> Iterator[str]:
    """Yield what a plan says about arguments that were typed in a short form."""
    for reading in vllm_options.read(arguments, known.options):
        if reading.is_abbreviated:
            yield f"`{reading.words[0].partition('=')[0]}` is read as `{reading.name}`"
