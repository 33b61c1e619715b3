"""What to do about a failed start, as a command to paste: what the user typed, with one thing changed. Pure."""

import difflib
import re
import shlex
from collections.abc import Callable, Mapping

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.planning import vllm_arguments
from pi_cli.planning.profile import is_folder

RENAMED = {"--disable-log-requests": "--no-enable-log-requests", "--tool-call-parser-plugin": "--tool-parser-plugin"}
LEAST_SHARE = 5  # percent of a GPU's memory: below that nothing is worth starting
LEAST_CONTEXT = 512  # tokens

Found = Mapping[str, str]
"""What a failure's pattern has found in the log, by name, and the `pod` and the `model`."""

Remedy = Callable[[StartCommand, Found], str | None]
"""Says what to do, or nothing where there is no more to say than what is so for everybody."""


def again(command: StartCommand, _: Found) -> str:
    return f"start it again: {_shown(command)}"


def shorter_context(command: StartCommand, found: Found) -> str | None:
    """Offer the context that vLLM says would fit, and more GPUs for the whole of it."""
    fits = int(found.get("fits") or found.get("most") or 0)
    shorter = f"start it with a shorter context: {_shown(command.with_context(fits))}" if fits >= LEAST_CONTEXT else ""
    more = more_room(command, found) if "most" not in found else None
    return "; or ".join(filter(None, [shorter, more])) or None


def more_room(command: StartCommand, found: Found) -> str:
    """Offer more memory, or say that only another model will do."""
    if whole := command.with_all_memory():
        return f"start it with all of the memory: {_shown(whole)}"
    if more := command.with_twice_the_gpus():
        return f"start it on more GPUs: {_shown(more)}"
    fitting = f"pi models --pod {found['pod']}" if command.pod_gpus else "pi models"
    return f"choose a smaller or quantised model: `{fitting}` shows what fits"


def free_memory(command: StartCommand, found: Found) -> str | None:
    """Offer the share of the memory that is free, less two percent of it all that others may take meanwhile."""
    free = int(float(found["have"]) / float(found["all"]) * 100) - 2
    return f"start it with what is free: {_shown(command.with_memory(free))}" if free >= LEAST_SHARE else None


def free_gpu(command: StartCommand, found: Found) -> str | None:
    """Offer the share of the GPU that is free, and to see who has the rest."""
    rest = free_memory(command, found)
    return rest and f"see what holds it with `pi list` and `pi ssh {found['pod']} nvidia-smi`, or {rest}"


def fewer_requests(command: StartCommand, found: Found) -> str:
    """Offer to serve fewer requests at once: as many as there is room for, or half of those that were too many."""
    fits = int(found.get("fits") or int(found["requests"]) // 2)
    return f"serve fewer requests at once: {_shown(command.with_vllm_option(['--max-num-seqs'], str(max(1, fits))))}"


def larger_batches(command: StartCommand, found: Found) -> str:
    return f"make batches as long: {_shown(command.with_vllm_option(vllm_arguments.BATCHED_TOKENS, found['context']))}"


def dividing(command: StartCommand, found: Found) -> str:
    """Offer the largest number of GPUs over which so many heads can be split."""
    heads, size = int(found["heads"]), int(found["size"])
    fits = next(count for count in range(min(heads, size), 0, -1) if heads % count == 0)
    return f"split it over {fits}: {_shown(command.with_tensor(fits))}"


def fewer_gpus(command: StartCommand, found: Found) -> str:
    return f"use those that are there: {_shown(command.with_gpus(int(found['have'])))}"


def fewer_ranks(command: StartCommand, found: Found) -> str:
    """Offer as many data-parallel ranks as the GPUs that are there can hold."""
    read = vllm_arguments.parse(command.arguments)
    ranks = max(1, int(found["have"]) // (read.tensor * read.pipeline))
    return f"use fewer ranks: {_shown(command.with_vllm_option(vllm_arguments.DATA_PARALLEL, str(ranks)))}"


def expert_parallel(command: StartCommand, _: Found) -> str:
    """Offer whole experts instead of slices of them, and fewer GPUs."""
    whole = f"leave its experts whole: {_shown(command.with_vllm_option(vllm_arguments.EXPERT_PARALLEL))}"
    tensor = vllm_arguments.parse(command.arguments).tensor
    return f"{whole}; or use half the GPUs: {_shown(command.with_tensor(tensor // 2))}" if tensor > 1 else whole


def newer_vllm(command: StartCommand, found: Found) -> str | None:
    """Offer the nightly build, of which there is none for CPUs."""
    if not command.pod_gpus:
        return None
    return f"get a newer vLLM with `pi pods setup {found['pod']} --vllm nightly`, then {_shown(command)}"


def fresh_copy(command: StartCommand, found: Found) -> str:
    """Offer to delete what lies in the cache; a folder of the user's own is the user's."""
    if is_folder(command.model):
        return f"copy {shlex.quote(command.model)} to `{found['pod']}` again, then {_shown(command)}"
    delete = shlex.quote(f"rm -r ~/.cache/huggingface/hub/models--{found['folder']}")
    return f"delete it with `pi ssh {found['pod']} {delete}`, then {_shown(command)}"


def adding(option: str, *values: str, why: str) -> Remedy:
    """Return the remedy that sets a vLLM option."""
    return lambda command, _: f"{why}: {_shown(command.with_vllm_option([option], *values))}"


def omitting(*options: str, why: str) -> Remedy:
    """Return the remedy that leaves a vLLM option out, where it is among the arguments."""

    def omit(command: StartCommand, _: Found) -> str | None:
        without = command.without_vllm_options(options)
        return f"{why}: {_shown(without)}" if without.arguments != command.arguments else None

    return omit


def online(command: StartCommand, _: Found) -> str | None:
    """Offer a start with which vLLM may ask the Hub: pi forbids it where its plan needs nothing but the model."""
    return f"let it ask the Hub: {_shown(command.with_own_arguments())}" if command.own_arguments is None else None


def without_unknown(command: StartCommand, found: Found) -> str | None:
    """Offer the command without an option that this vLLM does not know, or with the name that it has now."""
    unknown = next((word for word in found["what"].split() if word.startswith("-")), "")
    name = vllm_arguments.name_of(unknown)
    if not unknown or not any(vllm_arguments.name_of(argument) == name for argument in command.arguments):
        return None
    if name in RENAMED:
        value = vllm_arguments.value(command.arguments, [name]) or ""
        values = [value] if value and not vllm_arguments.is_option(value) else []
        renamed = command.without_vllm_options([name]).with_vllm_option([RENAMED[name]], *values)
        return f"it is called `{RENAMED[name]}` now: {_shown(renamed)}"
    return f"leave it out: {_shown(command.without_vllm_options([name]))}"


def nearest(option: str = "") -> Remedy:
    """Return the remedy that takes, of the values that vLLM lists, the one that is most like what was given."""

    def take(command: StartCommand, found: Found) -> str | None:
        listed = [word for word in re.split(r"[\s,'\"]+", found.get("listed") or "") if word]
        like = difflib.get_close_matches(found["what"], listed, n=1, cutoff=0.5)
        name = option or found["option"]
        if not like or name not in map(vllm_arguments.name_of, command.arguments):
            return None
        return f"did you mean `{like[0]}`? {_shown(command.with_vllm_option([name], like[0]))}"

    return take


def _shown(command: StartCommand) -> str:
    return f"`{command.command}`"
