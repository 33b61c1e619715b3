"""Plan one model over several pods: tensor parallel inside each pod, pipeline parallel across them. Pure.

Tensor parallelism exchanges data twice in each layer, which only the links inside a machine are made for; pipeline
parallelism hands over one activation at the border between two pods (vLLM's documentation recommends the same).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.vllm import vllm_arguments

DISTRIBUTED = ("--distributed-executor-backend",)
KV_CACHE_BYTES = ("--kv-cache-memory-bytes",)

MakePlan = Callable[[Constraints, str], Plan]
"""Plans the part of one pod."""


def constraints(given: Constraints, gpus: int, stages: int) -> Constraints:
    """Return what the part of one pod has to satisfy: all its GPUs, unless the user has given their number."""
    count = None if given.own_arguments is not None or not gpus else given.gpus or gpus
    return replace(given, gpus=count, stages=stages)


def make(given: Constraints, pods: Mapping[str, int], make_plan: MakePlan) -> dict[str, Plan]:
    """Return the plan of each pod, all with the same arguments; `pods` are their numbers of GPUs.

    Where the pods have different amounts of memory free, the smallest share of it counts. Raises what `make_plan` does,
    and `BadUsage` if one configuration does not suit all.
    """
    plans = {pod: make_plan(constraints(given, gpus, len(pods)), pod) for pod, gpus in pods.items()}
    shares = {made.memory for made in plans.values() if made.memory is not None}
    if len(shares) > 1 and given.own_arguments is None:
        same = replace(given, memory=min(shares))
        plans = {pod: make_plan(constraints(same, gpus, len(pods)), pod) for pod, gpus in pods.items()}
    first, *others = plans.values()
    if any(made.arguments != first.arguments for made in others):
        raise BadUsage(
            "no configuration suits the free memory of all these pods at once",
            hint="free the GPUs of these pods with `pi stop`, or give `--memory` and `--context`",
        )
    reason = f"{len(pods)} pods: tensor parallel inside each pod, pipeline parallel across them"
    if given.own_arguments is not None:
        reason = f"your own vLLM arguments, divided among {len(pods)} pods"
    return {pod: replace(made, reasons=(reason, *made.reasons)) for pod, made in plans.items()}


def refuse(arguments: tuple[str, ...], stages: int, *, is_cpu: bool) -> None:
    """Raise `BadUsage` for the user's own arguments that cannot be divided among this many pods."""
    names = {vllm_arguments.name_of(argument) for argument in arguments}
    if vllm_arguments.value(arguments, DISTRIBUTED) not in (None, "mp"):
        raise BadUsage(
            "with `--across`, pi starts vLLM's own processes on each pod, without ray",
            hint="leave out `--distributed-executor-backend`",
        )
    options = vllm_arguments.parse(arguments)
    if options.data > 1:
        raise BadUsage(
            "`--data-parallel-size` cannot be combined with `--across`: if one pod fails, requests to it hang",
            hint="start a replica on each pod instead, with `--pod` for each",
        )
    if options.gpus % stages:
        raise BadUsage(
            f"these arguments use {options.gpus} processes, which cannot be divided among {stages} pods",
            hint=fill("give `--pipeline-parallel-size {stages}`", stages=stages),
        )
    if is_cpu and options.pipeline > 1 and vllm_arguments.EAGER[0] in names and KV_CACHE_BYTES[0] in names:
        raise BadUsage(
            "on CPUs, `--enforce-eager` with `--kv-cache-memory-bytes` skips the warm-up that pipeline stages need: "
            "vLLM would fail at the first request",
            hint="leave out `--enforce-eager`, and give `-cc.mode=1 -cc.backend=eager` instead",
        )


def spans_pods(arguments: tuple[str, ...], stages: int) -> bool:
    """Return whether tensor parallelism itself goes across pods."""
    return vllm_arguments.parse(arguments).pipeline % stages != 0
