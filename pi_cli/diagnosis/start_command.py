"""A `pi start` as the user typed it, and the same command with one change. Pure."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pi_cli.lazy_dataclasses import dataclass
from pi_cli.vllm import vllm_arguments

CLEAN_CACHE = "--clean-cache"


@dataclass(frozen=True, slots=True)
class StartCommand:
    """A `pi start` as the user typed it.

    `pod` is set if `--pod` was given. `own_arguments` are the user's, after `--vllm`; `planned_arguments` are pi's own
    choice. `other_options` do not affect how the model is served, e.g. `--detach`. `variables` are those of `--env`.
    `pod_gpus` is how many GPUs the pod has. `cleans_cache`: vLLM's compile cache is deleted first; `has_cleaned`: that
    was done, so it is not worth another try. `capability` is the least compute capability of the pod's GPUs, None if it
    is not known; `lacking` are options for kernels that its vLLM does not have.
    """

    model: str
    name: str
    pod: str | None = None
    gpus: int | None = None
    memory: str | None = None
    context: str | None = None
    own_arguments: tuple[str, ...] | None = None
    other_options: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    planned_arguments: tuple[str, ...] = ()
    pod_gpus: int = 0
    cleans_cache: bool = False
    has_cleaned: bool = False
    capability: tuple[int, int] | None = None
    lacking: tuple[str, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the words of the command."""
        options = {"--pod": self.pod, "--gpus": self.gpus, "--memory": self.memory, "--context": self.context}
        given = itertools.chain(*((option, str(value)) for option, value in options.items() if value is not None))
        own = () if self.own_arguments is None else ("--vllm", *self.own_arguments)
        variables = itertools.chain(*(("--env", variable) for variable in self.variables))
        cleaning = (CLEAN_CACHE,) if self.cleans_cache else ()
        return (
            "pi",
            "start",
            self.model,
            "--name",
            self.name,
            *given,
            *variables,
            *cleaning,
            *self.other_options,
            *own,
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the arguments that vLLM was started with."""
        return self.planned_arguments if self.own_arguments is None else self.own_arguments

    def with_context(self, tokens: int) -> "StartCommand":
        if self.own_arguments is not None:
            return self.with_vllm_option(vllm_arguments.CONTEXT_LENGTH, str(tokens))
        return replace(self, context=str(tokens))

    def with_memory(self, percent: int) -> "StartCommand":
        """Use this share of each GPU's memory; on a CPU pod, where `--memory` does not exist, of the machine's."""
        if self.own_arguments is not None or not self.pod_gpus:
            return self.with_vllm_option(vllm_arguments.MEMORY_SHARE, f"{percent / 100:.2f}")
        return replace(self, memory=f"{percent}%")

    def with_variables(self, variables: Iterable[str]) -> "StartCommand":
        """Set variables, `NAME=VALUE`; a value given before is replaced."""
        given = {variable.partition("=")[0]: variable for variable in (*self.variables, *variables)}
        return replace(self, variables=tuple(given.values()))

    def with_clean_cache(self) -> "StartCommand | None":
        """Delete the compile cache first; None if that was done already."""
        return None if self.has_cleaned else replace(self, cleans_cache=True)

    def with_gpus(self, count: int) -> "StartCommand":
        """Use this many GPUs in all; the user's own numbers of replicas and pipeline stages stay."""
        if self.own_arguments is None:
            return replace(self, gpus=count)
        options = vllm_arguments.parse(self.own_arguments)
        return self.with_tensor_size(max(1, count // (options.gpus // options.tensor)))

    def with_tensor_size(self, size: int) -> "StartCommand":
        """Split the model over this many GPUs."""
        if self.own_arguments is None:
            return replace(self, gpus=size)
        return self.with_vllm_option(vllm_arguments.TENSOR_PARALLEL, str(size))

    def with_all_memory(self) -> "StartCommand | None":
        """Use all of each GPU's memory; None if the user has not chosen a share."""
        if self.memory:
            return replace(self, memory=None)
        own = self.own_arguments
        if own is None or vllm_arguments.parse(own).memory >= vllm_arguments.DEFAULT_MEMORY:
            return None
        return self.without_vllm_options(vllm_arguments.MEMORY_SHARE)

    def with_twice_the_gpus(self) -> "StartCommand | None":
        """Use twice as many GPUs; None if the pod has too few."""
        twice = 2 * vllm_arguments.parse(self.arguments).gpus
        return self.with_gpus(twice) if twice <= self.pod_gpus else None

    def with_vllm_option(self, names: Sequence[str], *values: str) -> "StartCommand":
        """Set the vLLM option with these names, in its place or at the end.

        Arguments that pi chose become the user's own, which pi passes on unchanged.
        """
        changed: list[str] = []
        is_set = False
        for group in vllm_arguments.groups(self.arguments):
            if vllm_arguments.name_of(group[0]) not in names:
                changed += group
            elif not is_set:
                changed += [names[0], *values]
                is_set = True
        return self._with_own(changed if is_set else [*changed, names[0], *values])

    def without_vllm_options(self, names: Sequence[str]) -> "StartCommand":
        return self._with_own(vllm_arguments.without(self.arguments, names))

    def with_own_arguments(self) -> "StartCommand":
        """Give pi's arguments as the user's own: vLLM may then use the Hub for more than the model's files."""
        return self._with_own(self.arguments)

    def _with_own(self, arguments: Sequence[str]) -> "StartCommand":
        return replace(self, own_arguments=tuple(arguments), gpus=None, memory=None, context=None)
