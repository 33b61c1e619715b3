"""Remedies for a failed start: the user's command with one change, to be pasted. Pure."""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence

from pi_cli.diagnosis import gpu_kernels, offers
from pi_cli.diagnosis.offers import Offer, offer
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
ATTENTION_VARIABLE = "VLLM_ATTENTION_BACKEND"
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM 0.32, config/lora.py

Matches = Mapping[str, str]
"""The named groups that the pattern of a cause has matched in the log, and `pod`, `model`, `page` and `folder`."""

Remedy = Callable[[StartCommand, Matches], Offer | None]
"""Returns the hint for a user's command, with what can be tried; None if it has none better than the cause's own."""


def again(command: StartCommand, _: Matches) -> Offer:
    return offer("start it again: `{start}`", start=command)


def shorter_context(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the context that fits according to vLLM, and more GPUs for the full context."""
    tokens = int(matches.get("fits") or matches.get("most") or 0)
    found = []
    if tokens >= MIN_CONTEXT:
        found.append(offer("start it with a shorter context: `{start}`", start=command.with_context(tokens)))
    if "most" not in matches:
        found.append(more_memory(command, matches))
    return offers.joined(found)


def more_memory(command: StartCommand, matches: Matches) -> Offer:
    """Offer a larger share of the memory, or more GPUs, or else another model."""
    if whole := command.with_all_memory():
        return offer("start it with all of the memory: `{start}`", start=whole)
    if more := command.with_twice_the_gpus():
        return offer("start it on more GPUs: `{start}`", start=more)
    if not command.pod_gpus:
        return Offer("choose a smaller or quantised model: `pi models` shows what fits")
    template = "choose a smaller or quantised model: `pi models --pod {pod}` shows what fits"
    return offer(template, pod=matches["pod"])


def free_memory(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the share of the memory that is free, less two percent that other processes may start to use."""
    start = _with_free_memory(command, matches)
    return offer("start it with the memory that is free: `{start}`", start=start) if start else None


def free_gpu(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the share of the GPU that is free, and how to see what uses the rest."""
    start = _with_free_memory(command, matches)
    template = (
        "see what uses it with `pi list` and `pi ssh {pod} nvidia-smi`, "
        "or start it with the memory that is free: `{start}`"
    )
    return offer(template, pod=matches["pod"], start=start) if start else None


def _with_free_memory(command: StartCommand, matches: Matches) -> StartCommand | None:
    free, total = float(matches["have"]), float(matches["all"])
    if not 0 < free <= total < math.inf:
        return None
    percent = int(free / total * 100) - 2
    return command.with_memory(percent) if percent >= MIN_SHARE else None


def fewer_requests(command: StartCommand, matches: Matches) -> Offer:
    """Offer to serve as many requests at once as fit, or half as many as did not."""
    count = max(1, int(matches.get("fits") or int(matches["requests"]) // 2))
    start = command.with_vllm_option(vllm_arguments.SEQUENCES, str(count))
    return offer("serve fewer requests at once: `{start}`", start=start)


def larger_batches(command: StartCommand, matches: Matches) -> Offer:
    start = command.with_vllm_option(vllm_arguments.BATCHED_TOKENS, matches["context"])
    return offer("allow batches of that size: `{start}`", start=start)


def dividing(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the largest number of GPUs over which the heads can be split."""
    heads, size = int(matches["heads"]), int(matches["size"])
    count = max((count for count in range(1, min(heads, size, MAX_GPUS) + 1) if heads % count == 0), default=0)
    start = command.with_tensor_size(count)
    return offer("split it over {count}: `{start}`", count=count, start=start) if count else None


def fewer_gpus(command: StartCommand, matches: Matches) -> Offer | None:
    count = int(matches["have"])
    return offer("use the GPUs of the pod: `{start}`", start=command.with_gpus(count)) if count else None


def fewer_ranks(command: StartCommand, matches: Matches) -> Offer:
    """Offer as many data-parallel ranks as the GPUs can serve."""
    options = vllm_arguments.parse(command.arguments)
    ranks = max(1, int(matches["have"]) // (options.gpus // options.data))
    start = command.with_vllm_option(vllm_arguments.DATA_PARALLEL, str(ranks))
    return offer("use fewer ranks: `{start}`", start=start)


def expert_parallel(command: StartCommand, _: Matches) -> Offer:
    """Offer expert parallelism instead of splitting the experts, and fewer GPUs."""
    unsplit = command.with_vllm_option(vllm_arguments.EXPERT_PARALLEL)
    tensor = vllm_arguments.parse(command.arguments).tensor
    if tensor == 1:
        return offer("do not split its experts: `{unsplit}`", unsplit=unsplit)
    template = "do not split its experts: `{unsplit}`; or use half the GPUs: `{fewer}`"
    return offer(template, unsplit=unsplit, fewer=command.with_tensor_size(tensor // 2))


def half_the_gpus(command: StartCommand, _: Matches) -> Offer | None:
    """Offer to split the weights over fewer GPUs."""
    tensor = vllm_arguments.parse(command.arguments).tensor
    if tensor == 1:
        return None
    return offer("split them over half the GPUs: `{start}`", start=command.with_tensor_size(tensor // 2))


def newer_vllm(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the nightly build, which does not exist for CPUs."""
    if not command.pod_gpus:
        return None
    template = "install a newer vLLM with `pi pods setup {pod} --vllm nightly`, then `{start}`"
    return Offer(fill(template, pod=matches["pod"], start=command.argv))


def fresh_copy(command: StartCommand, matches: Matches) -> Offer:
    """Offer to delete the model from the cache; the user's own folder is not deleted."""
    template = "delete it with `pi ssh {pod} 'rm -r ~/.cache/huggingface/hub/models--{folder}'`, then `{start}`"
    if is_folder(command.model):
        template = "copy `{model}` to `{pod}` again, then `{start}`"
    values = {"pod": matches["pod"], "folder": matches["folder"], "model": command.model}
    return Offer(fill(template, **values, start=command.argv))


def adding(option: str, *values: str, hint: str) -> Remedy:
    """Return a remedy that sets a vLLM option; `hint` is a template with `{start}`, and `{pod}` if it needs that."""
    return lambda command, matches: offer(hint, start=command.with_vllm_option([option], *values), pod=matches["pod"])


def setting(*variables: str, hint: str) -> Remedy:
    """Return a remedy that sets environment variables, `NAME=VALUE`.

    `hint` is a template with `{start}`, or with `{then}` if the start needs something else first, and `{again}` for the
    command without them.
    """

    def set_them(command: StartCommand, matches: Matches) -> Offer:
        start = command.with_variables(variables)
        return offer(hint, start=start, then=start.argv, pod=matches["pod"], again=command.argv)

    return set_them


def then_again(hint: str) -> Remedy:
    """Return a remedy that is done on the pod; `hint` is a template with `{then}`, the same command again."""
    return lambda command, matches: Offer(fill(hint, **{**matches, "then": command.argv}))


def omitting(*options: str, hint: str) -> Remedy:
    """Return a remedy that removes vLLM options, if they were given; `hint` is a template with `{start}`."""

    def omit(command: StartCommand, _: Matches) -> Offer | None:
        without = command.without_vllm_options(options)
        return offer(hint, start=without) if without.arguments != command.arguments else None

    return omit


def without_feature(feature: Feature, command: StartCommand | None) -> Offer:
    """Offer to leave out the part of vLLM that failed, which a file or a default may have switched on."""
    if command is None:
        return offer("leave out {name}, if it is switched on", name=feature.name)
    without = command.without_vllm_options(feature.options)
    if without.arguments == command.arguments:
        return offer("leave out {name}, if it is switched on", name=feature.name)
    return offer("leave out {name}: `{start}`", name=feature.name, start=without)


def another_moe_backend(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the kernels for experts that run on every GPU since Ampere, then the nightly build."""
    if vllm_arguments.value(command.arguments, ["--moe-backend"]) == MARLIN or "--moe-backend" in command.lacking:
        return newer_vllm(command, matches)
    if not gpu_kernels.has_marlin(command.capability):
        return another_form(command, matches)
    if left_to_vllm := any_moe_backend(command, matches):
        return left_to_vllm
    start = command.with_vllm_option(["--moe-backend"], MARLIN)
    template = "use the kernels that need no newer GPU: `{start}`; or choose another form of the model with `pi models`"
    return offer(template, start=start)


def any_moe_backend(command: StartCommand, _: Matches) -> Offer | None:
    """Offer to let vLLM choose, where the user has chosen."""
    without = command.without_vllm_options(["--moe-backend"])
    if without.arguments == command.arguments:
        return None
    return offer("let vLLM choose the kernels for the experts: `{start}`", start=without)


def another_attention(command: StartCommand, _: Matches) -> Offer | None:
    """Offer the attention that Triton compiles for any GPU, or FlashAttention where that is what failed."""
    return _attention(command, gpu_kernels.attention(command.capability))


def attention_without_triton(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer an attention that Triton does not compile: it needs less of a GPU's shared memory."""
    is_turing = matches["have"] == gpu_kernels.SHARED_MEMORY_OF_TURING
    backends = gpu_kernels.attention(command.capability or ((7, 5) if is_turing else None))
    return _attention(command, [each for each in backends if "TRITON" not in each])


def _attention(command: StartCommand, backends: Sequence[str]) -> Offer | None:
    """Offer the first of these backends that the command does not name; older vLLMs have a variable for it."""
    given = vllm_arguments.value(command.arguments, ["--attention-backend"])
    chosen = {variable.partition("=")[2] for variable in command.variables if variable.startswith(ATTENTION_VARIABLE)}
    backend = next((each for each in backends if each not in {(given or "").upper(), *chosen}), None)
    if backend is None:
        return None
    start = command.with_vllm_option(["--attention-backend"], backend)
    if "--attention-backend" in command.lacking:
        start = command.with_variables([f"{ATTENTION_VARIABLE}={backend}"])
    return offer("use another attention backend: `{start}`", start=start)


def another_form(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the forms of a model that this generation of GPUs computes; None if the GPU is not known."""
    forms = gpu_kernels.forms(command.capability or _named_capability(matches))
    if not forms:
        return None
    template = "choose another form of the model, for this GPU {forms}: `pi models --pod {pod}` shows what fits"
    return Offer(fill(template, forms=forms, pod=matches["pod"]))


def missing_kernel(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer what gives a GPU a kernel: for the newest a newer vLLM, for older ones another form of the model first."""
    capability = command.capability or _named_capability(matches)
    form, newer = another_form(command, matches), newer_vllm(command, matches)
    if capability is None or form is None or newer is None:
        return newer
    if capability >= gpu_kernels.BLACKWELL:
        return offers.joined([newer, form])
    return form if capability < gpu_kernels.FLASH_ATTENTION_FROM else offers.joined([form, newer])


def other_form_first(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer another form of the model, then a newer vLLM where that may have the kernel."""
    form, newer = another_form(command, matches), newer_vllm(command, matches)
    if form and newer and (command.capability or (0, 0)) >= gpu_kernels.FLASH_ATTENTION_FROM:
        return offers.joined([form, newer])
    return form


def _named_capability(matches: Matches) -> gpu_kernels.Capability | None:
    """Return the capability that the message itself names."""
    return gpu_kernels.parsed(matches.get("have") or matches.get("capability") or "")


def another_kernel(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer other kernels for the experts, and another attention: which of them failed is not known."""
    found = [each for each in (another_moe_backend(command, matches), another_attention(command, matches)) if each]
    return offers.joined(found)


def smaller_graphs(command: StartCommand, _: Matches) -> Offer:
    """Offer a smaller share of the memory for weights and KV cache, and none of the CUDA graphs."""
    given = vllm_arguments.parse(command.arguments).memory
    percent = int(given * 100) - 5
    eager = command.with_vllm_option(["--enforce-eager"])
    template = "leave some memory for them: `{start}`; or do without them: `{eager}`"
    if percent < MIN_SHARE:
        return offer("do without them: `{eager}`", eager=eager)
    return offer(template, start=command.with_memory(percent), eager=eager)


def clean_cache(command: StartCommand, _: Matches) -> Offer:
    """Offer to compile without what earlier starts have left in the compile cache, or not at all."""
    eager = command.with_vllm_option(["--enforce-eager"])
    if cleaned := command.with_clean_cache():
        template = "delete that cache, and compile again: `{start}`; or start it without compiling: `{eager}`"
        return offer(template, start=cleaned, eager=eager)
    return offer("start it without compiling: `{eager}`", eager=eager)


def rank_of_lora(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the least rank that vLLM accepts and that is enough."""
    rank = next((str(each) for each in LORA_RANKS if each >= int(matches["need"])), None)
    if rank is None:
        return None
    return offer("allow adapters of that rank: `{start}`", start=command.with_vllm_option(["--max-lora-rank"], rank))


def batches_of_an_item(command: StartCommand, matches: Matches) -> Offer:
    start = command.with_vllm_option(vllm_arguments.BATCHED_TOKENS, matches["need"])
    return offer("allow batches of that size: `{start}`", start=start)


def resume_without_xet(command: StartCommand, _: Matches) -> Offer:
    template = "start it again, the download continues where it stopped: `{start}`; if it fails again: `{without}`"
    return offer(template, start=command, without=command.with_variables(["HF_HUB_DISABLE_XET=1"]))


# For an error that is not known, by the part of vLLM that it comes from (`places.part`): a hint, and the remedy.
OF_PARTS: dict[str, tuple[str, Remedy]] = {
    "compiler": ("start it again with `--clean-cache`, or add `--enforce-eager` after `--vllm`", clean_cache),
    "attention": ("add `--attention-backend TRITON_ATTN` after `--vllm`", another_attention),
    "experts": ("add `--moe-backend marlin` after `--vllm`", another_moe_backend),
}


def of_part(part: str, command: StartCommand | None, pod: str) -> Offer:
    """Return what to do about an error that comes from a part of vLLM that can be exchanged or done without."""
    hint, remedy = OF_PARTS[part]
    found = remedy(command, {"pod": pod}) if command else None
    return found or Offer(hint)


def own_fault(command: StartCommand, _: Matches) -> Offer | None:
    """Say that pi itself has chosen what vLLM rejects, and offer these arguments to be changed."""
    if command.own_arguments is not None:
        return None
    template = (
        "pi chose these arguments, not you: please report it; or start it with arguments of your own after `--vllm`: "
        "`{start}`"
    )
    return Offer(fill(template, start=command.with_own_arguments().argv))


def online(command: StartCommand, _: Matches) -> Offer | None:
    """Offer a start in which vLLM may use the Hub, which pi forbids if its plan needs only the model's files."""
    if command.own_arguments is not None:
        return None
    return offer("allow it to use the Hub: `{start}`", start=command.with_own_arguments())


def without_unknown(command: StartCommand, matches: Matches) -> Offer | None:
    """Offer the command without an option that this vLLM does not know, or with the option's new name."""
    unknown = next((argument for argument in matches["what"].split() if argument.startswith("-")), "")
    name = vllm_arguments.name_of(unknown)
    if not unknown or not any(vllm_arguments.name_of(argument) == name for argument in command.arguments):
        return None
    if name not in own_arguments.RENAMED:
        return offer("leave it out: `{start}`", start=command.without_vllm_options([name]))
    value = vllm_arguments.value(command.arguments, [name]) or ""
    values = [value] if value and not vllm_arguments.is_option(value) else []
    renamed = command.without_vllm_options([name]).with_vllm_option([own_arguments.RENAMED[name]], *values)
    return offer("it is called `{name}` now: `{start}`", name=own_arguments.RENAMED[name], start=renamed)


def nearest(option: str = "") -> Remedy:
    """Return a remedy that replaces the value of an option by the most similar one that vLLM lists."""

    def replace(command: StartCommand, matches: Matches) -> Offer | None:
        values = LISTED_VALUE.findall(matches.get("listed") or "")
        similar = difflib.get_close_matches(matches["what"], values, n=1, cutoff=0.5)
        name = option or matches["option"]
        if not similar or name not in map(vllm_arguments.name_of, command.arguments):
            return None
        start = command.with_vllm_option([name], similar[0])
        return offer("did you mean `{value}`? `{start}`", value=similar[0], start=start)

    return replace
