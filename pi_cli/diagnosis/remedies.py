"""Remedies for a failed start: the user's command with one change, to be pasted. Pure."""

import difflib
import math
import re
from collections.abc import Callable, Mapping

from pi_cli.diagnosis.places import Feature
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.hints import fill
from pi_cli.planning.profile import is_folder
from pi_cli.vllm import own_arguments, vllm_arguments

LISTED_VALUE = re.compile(r"\w[\w.-]*")  # a value that vLLM lists, which can never be an option
MIN_SHARE = 5  # percent of a GPU's memory: less is not worth a start
MIN_CONTEXT = 512  # tokens
MAX_GPUS = 1024
MARLIN = "marlin"
ATTENTION = ("TRITON_ATTN", "FLASH_ATTN")
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM 0.32, config/lora.py

Matches = Mapping[str, str]
"""The named groups that the pattern of a cause has matched in the log, and `pod`, `model`, `page` and `folder`."""

Remedy = Callable[[StartCommand, Matches], str | None]
"""Returns the hint for a user's command; None if it has none that is better than the cause's own."""


def again(command: StartCommand, _: Matches) -> str:
    return fill("start it again: `{start}`", start=command.argv)


def shorter_context(command: StartCommand, matches: Matches) -> str | None:
    """Offer the context that fits according to vLLM, and more GPUs for the full context."""
    tokens = int(matches.get("fits") or matches.get("most") or 0)
    hints = []
    if tokens >= MIN_CONTEXT:
        hints.append(fill("start it with a shorter context: `{start}`", start=command.with_context(tokens).argv))
    if "most" not in matches:
        hints.append(more_memory(command, matches))
    return "; or ".join(hints) or None


def more_memory(command: StartCommand, matches: Matches) -> str:
    """Offer a larger share of the memory, or more GPUs, or else another model."""
    if whole := command.with_all_memory():
        return fill("start it with all of the memory: `{start}`", start=whole.argv)
    if more := command.with_twice_the_gpus():
        return fill("start it on more GPUs: `{start}`", start=more.argv)
    if not command.pod_gpus:
        return "choose a smaller or quantised model: `pi models` shows what fits"
    return fill("choose a smaller or quantised model: `pi models --pod {pod}` shows what fits", pod=matches["pod"])


def free_memory(command: StartCommand, matches: Matches) -> str | None:
    """Offer the share of the memory that is free, less two percent that other processes may start to use."""
    start = _with_free_memory(command, matches)
    return fill("start it with the memory that is free: `{start}`", start=start.argv) if start else None


def free_gpu(command: StartCommand, matches: Matches) -> str | None:
    """Offer the share of the GPU that is free, and how to see what uses the rest."""
    start = _with_free_memory(command, matches)
    template = (
        "see what uses it with `pi list` and `pi ssh {pod} nvidia-smi`, "
        "or start it with the memory that is free: `{start}`"
    )
    return fill(template, pod=matches["pod"], start=start.argv) if start else None


def _with_free_memory(command: StartCommand, matches: Matches) -> StartCommand | None:
    free, total = float(matches["have"]), float(matches["all"])
    if not 0 < free <= total < math.inf:
        return None
    percent = int(free / total * 100) - 2
    return command.with_memory(percent) if percent >= MIN_SHARE else None


def fewer_requests(command: StartCommand, matches: Matches) -> str:
    """Offer to serve as many requests at once as fit, or half as many as did not."""
    count = max(1, int(matches.get("fits") or int(matches["requests"]) // 2))
    start = command.with_vllm_option(vllm_arguments.SEQUENCES, str(count))
    return fill("serve fewer requests at once: `{start}`", start=start.argv)


def larger_batches(command: StartCommand, matches: Matches) -> str:
    start = command.with_vllm_option(vllm_arguments.BATCHED_TOKENS, matches["context"])
    return fill("allow batches of that size: `{start}`", start=start.argv)


def dividing(command: StartCommand, matches: Matches) -> str | None:
    """Offer the largest number of GPUs over which the heads can be split."""
    heads, size = int(matches["heads"]), int(matches["size"])
    count = max((count for count in range(1, min(heads, size, MAX_GPUS) + 1) if heads % count == 0), default=0)
    start = command.with_tensor_size(count)
    return fill("split it over {count}: `{start}`", count=count, start=start.argv) if count else None


def fewer_gpus(command: StartCommand, matches: Matches) -> str | None:
    count = int(matches["have"])
    return fill("use the GPUs of the pod: `{start}`", start=command.with_gpus(count).argv) if count else None


def fewer_ranks(command: StartCommand, matches: Matches) -> str:
    """Offer as many data-parallel ranks as the GPUs can serve."""
    options = vllm_arguments.parse(command.arguments)
    ranks = max(1, int(matches["have"]) // (options.gpus // options.data))
    start = command.with_vllm_option(vllm_arguments.DATA_PARALLEL, str(ranks))
    return fill("use fewer ranks: `{start}`", start=start.argv)


def expert_parallel(command: StartCommand, _: Matches) -> str:
    """Offer expert parallelism instead of splitting the experts, and fewer GPUs."""
    unsplit = command.with_vllm_option(vllm_arguments.EXPERT_PARALLEL)
    tensor = vllm_arguments.parse(command.arguments).tensor
    if tensor == 1:
        return fill("do not split its experts: `{unsplit}`", unsplit=unsplit.argv)
    template = "do not split its experts: `{unsplit}`; or use half the GPUs: `{fewer}`"
    return fill(template, unsplit=unsplit.argv, fewer=command.with_tensor_size(tensor // 2).argv)


def newer_vllm(command: StartCommand, matches: Matches) -> str | None:
    """Offer the nightly build, which does not exist for CPUs."""
    if not command.pod_gpus:
        return None
    template = "install a newer vLLM with `pi pods setup {pod} --vllm nightly`, then `{start}`"
    return fill(template, pod=matches["pod"], start=command.argv)


def fresh_copy(command: StartCommand, matches: Matches) -> str:
    """Offer to delete the model from the cache; the user's own folder is not deleted."""
    template = "delete it with `pi ssh {pod} 'rm -r ~/.cache/huggingface/hub/models--{folder}'`, then `{start}`"
    if is_folder(command.model):
        template = "copy `{model}` to `{pod}` again, then `{start}`"
    return fill(template, pod=matches["pod"], folder=matches["folder"], model=command.model, start=command.argv)


def adding(option: str, *values: str, hint: str) -> Remedy:
    """Return a remedy that sets a vLLM option; `hint` is a template with `{start}`, and `{pod}` if it needs that."""
    return lambda command, matches: fill(
        hint, start=command.with_vllm_option([option], *values).argv, pod=matches["pod"]
    )


def setting(*variables: str, hint: str) -> Remedy:
    """Return a remedy that sets environment variables, `NAME=VALUE`; `hint` is a template with `{start}`."""
    return lambda command, matches: fill(
        hint, start=command.with_variables(variables).argv, pod=matches["pod"], again=command.argv
    )


def omitting(*options: str, hint: str) -> Remedy:
    """Return a remedy that removes vLLM options, if they were given; `hint` is a template with `{start}`."""

    def omit(command: StartCommand, _: Matches) -> str | None:
        without = command.without_vllm_options(options)
        return fill(hint, start=without.argv) if without.arguments != command.arguments else None

    return omit


def without_feature(feature: Feature, command: StartCommand | None) -> str | None:
    """Offer to leave out the part of vLLM that failed; None if the command does not switch it on."""
    if command is None:
        return fill("leave out {name}, if it is switched on", name=feature.name)
    without = command.without_vllm_options(feature.options)
    if without.arguments == command.arguments:
        return None
    return fill("leave out {name}: `{start}`", name=feature.name, start=without.argv)


def another_moe_backend(command: StartCommand, matches: Matches) -> str | None:
    """Offer the kernels for experts that run on every GPU since Ampere, then the nightly build."""
    if vllm_arguments.value(command.arguments, ["--moe-backend"]) == MARLIN:
        return newer_vllm(command, matches)
    if left_to_vllm := any_moe_backend(command, matches):
        return left_to_vllm
    start = command.with_vllm_option(["--moe-backend"], MARLIN)
    template = "use the kernels that need no newer GPU: `{start}`; or choose another form of the model with `pi models`"
    return fill(template, start=start.argv)


def any_moe_backend(command: StartCommand, _: Matches) -> str | None:
    """Offer to let vLLM choose, where the user has chosen."""
    without = command.without_vllm_options(["--moe-backend"])
    if without.arguments == command.arguments:
        return None
    return fill("let vLLM choose the kernels for the experts: `{start}`", start=without.argv)


def another_attention(command: StartCommand, _: Matches) -> str | None:
    """Offer the attention that Triton compiles for any GPU, or FlashAttention where that is what failed."""
    given = (vllm_arguments.value(command.arguments, ["--attention-backend"]) or "").upper()
    backend = next(each for each in ATTENTION if each != given)
    start = command.with_vllm_option(["--attention-backend"], backend)
    return fill("use another attention backend: `{start}`", start=start.argv)


def smaller_graphs(command: StartCommand, _: Matches) -> str:
    """Offer a smaller share of the memory for weights and KV cache, and none of the CUDA graphs."""
    given = vllm_arguments.parse(command.arguments).memory
    percent = int(given * 100) - 5
    eager = command.with_vllm_option(["--enforce-eager"])
    template = "leave some memory for them: `{start}`; or do without them: `{eager}`"
    if percent < MIN_SHARE:
        return fill("do without them: `{eager}`", eager=eager.argv)
    return fill(template, start=command.with_memory(percent).argv, eager=eager.argv)


def rank_of_lora(command: StartCommand, matches: Matches) -> str | None:
    """Offer the least rank that vLLM accepts and that is enough."""
    rank = next((str(each) for each in LORA_RANKS if each >= int(matches["need"])), None)
    if rank is None:
        return None
    return fill(
        "allow adapters of that rank: `{start}`", start=command.with_vllm_option(["--max-lora-rank"], rank).argv
    )


def batches_of_an_item(command: StartCommand, matches: Matches) -> str:
    start = command.with_vllm_option(vllm_arguments.BATCHED_TOKENS, matches["need"])
    return fill("allow batches of that size: `{start}`", start=start.argv)


def resume_without_xet(command: StartCommand, _: Matches) -> str:
    template = "start it again, the download continues where it stopped: `{start}`; if it fails again: `{without}`"
    return fill(template, start=command.argv, without=command.with_variables(["HF_HUB_DISABLE_XET=1"]).argv)


def online(command: StartCommand, _: Matches) -> str | None:
    """Offer a start in which vLLM may use the Hub, which pi forbids if its plan needs only the model's files."""
    if command.own_arguments is not None:
        return None
    return fill("allow it to use the Hub: `{start}`", start=command.with_own_arguments().argv)


def without_unknown(command: StartCommand, matches: Matches) -> str | None:
    """Offer the command without an option that this vLLM does not know, or with the option's new name."""
    unknown = next((argument for argument in matches["what"].split() if argument.startswith("-")), "")
    name = vllm_arguments.name_of(unknown)
    if not unknown or not any(vllm_arguments.name_of(argument) == name for argument in command.arguments):
        return None
    if name not in own_arguments.RENAMED:
        return fill("leave it out: `{start}`", start=command.without_vllm_options([name]).argv)
    value = vllm_arguments.value(command.arguments, [name]) or ""
    values = [value] if value and not vllm_arguments.is_option(value) else []
    renamed = command.without_vllm_options([name]).with_vllm_option([own_arguments.RENAMED[name]], *values)
    return fill("it is called `{name}` now: `{start}`", name=own_arguments.RENAMED[name], start=renamed.argv)


def nearest(option: str = "") -> Remedy:
    """Return a remedy that replaces the value of an option by the most similar one that vLLM lists."""

    def replace(command: StartCommand, matches: Matches) -> str | None:
        values = LISTED_VALUE.findall(matches.get("listed") or "")
        similar = difflib.get_close_matches(matches["what"], values, n=1, cutoff=0.5)
        name = option or matches["option"]
        if not similar or name not in map(vllm_arguments.name_of, command.arguments):
            return None
        start = command.with_vllm_option([name], similar[0])
        return fill("did you mean `{value}`? `{start}`", value=similar[0], start=start.argv)

    return replace
