"""A `pi start` as it was typed, and the same with one thing changed. Pure."""

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi_cli.planning import vllm_arguments


@dataclass(frozen=True, slots=True)
class StartCommand:
    """A `pi start` as it was typed.

    `pod` is set where `--pod` was given. `own_arguments` are those behind `--vllm`, and `planned_arguments` those that
    pi chose. `other_options` change nothing about how the model is served, e.g. `--detach`. `pod_gpus` is how many GPUs
    the pod has.
    """

    model: str
    name: str
    pod: str | None = None
    gpus: int | None = None
    memory: str | None = None
    context: str | None = None
    own_arguments: tuple[str, ...] | None = None
    other_options: tuple[str, ...] = ()
    planned_arguments: tuple[str, ...] = ()
    pod_gpus: int = 0

    @property
    def command(self) -> str:
        """Write the command as it can be pasted."""
        options = {"--pod": self.pod, "--gpus": self.gpus, "--memory": self.memory, "--context": self.context}
        words = ["pi", "start", self.model, "--name", self.name]
        words += itertools.chain(*((option, str(value)) for option, value in options.items() if value is not None))
        words += [*self.other_options, *(() if self.own_arguments is None else ("--vllm", *self.own_arguments))]
        return shlex.join(words)

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.planned_arguments if self.own_arguments is None else self.own_arguments

    def with_context(self, tokens: int) -> "StartCommand":
        if self.own_arguments is not None:
            return self.with_vllm_option(vllm_arguments.CONTEXT_LENGTH, str(tokens))
        return replace(self, context=str(tokens))

    def with_memory(self, percent: int) -> "StartCommand":
        """Take so much of each GPU; on a CPU pod, where pi has no word for it, of the machine's memory."""
        if self.own_arguments is not None or not self.pod_gpus:
            return self.with_vllm_option(vllm_arguments.MEMORY_SHARE, f"{percent / 100:.2f}")
        return replace(self, memory=f"{percent}%")

    def with_gpus(self, count: int) -> "StartCommand":
        """Use so many GPUs in all; how many replicas and stages the user's own arguments make of them stays."""
        if self.own_arguments is None:
            return replace(self, gpus=count)
        read = vllm_arguments.parse(self.own_arguments)
        return self.with_tensor(max(1, count // (read.pipeline * read.data)))

    def with_tensor(self, size: int) -> "StartCommand":
        """Split the model over so many GPUs."""
        return (
            replace(self, gpus=size)
            if self.own_arguments is None
            else self.with_vllm_option(vllm_arguments.TENSOR_PARALLEL, str(size))
        )

    def with_all_memory(self) -> "StartCommand | None":
        """Take all of each GPU's memory, if it was a share that the user chose."""
        if self.memory:
            return replace(self, memory=None)
        is_share = (
            self.own_arguments is not None
            and vllm_arguments.parse(self.own_arguments).memory < vllm_arguments.DEFAULT_MEMORY
        )
        return self.without_vllm_options(vllm_arguments.MEMORY_SHARE) if is_share else None

    def with_twice_the_gpus(self) -> "StartCommand | None":
        twice = 2 * vllm_arguments.parse(self.arguments).gpus
        return self.with_gpus(twice) if twice <= self.pod_gpus else None

    def with_vllm_option(self, names: Sequence[str], *values: str) -> "StartCommand":
        """Set a vLLM option, known by these names, where it stands or at the end.

        Where the arguments were pi's, they become the user's own, which pi takes as they are.
        """
        changed: list[str] = []
        is_set = False
        for group in vllm_arguments.groups(self.arguments):
            if vllm_arguments.name_of(group[0]) not in names:
                changed += group
            elif not is_set:
                changed += [names[0], *values]
                is_set = True
        return self._with(changed if is_set else [*changed, names[0], *values])

    def without_vllm_options(self, names: Sequence[str]) -> "StartCommand":
        return self._with(vllm_arguments.without(self.arguments, names))

    def with_own_arguments(self) -> "StartCommand":
        """Give pi's arguments as the user's own: vLLM may then ask the Hub for more than the model's files."""
        return self._with(self.arguments)

    def _with(self, own: Sequence[str]) -> "StartCommand":
        return replace(self, own_arguments=tuple(own), gpus=None, memory=None, context=None)
