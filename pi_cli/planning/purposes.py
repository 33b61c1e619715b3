"""What a plan says about models that are for something else than text. Pure."""

from collections.abc import Iterator, Sequence

from pi_cli.planning import candidates
from pi_cli.planning.profile import KnownModel
from pi_cli.vllm import kinds, vllm_arguments

CLASSIFIER = ("--hf-overrides",)


def notes(profile: KnownModel, arguments: Sequence[str]) -> Iterator[str]:
    """Yield what a model is, if it does not generate text, and what vLLM lacks for that."""
    if candidates.generates_scores(profile) and not vllm_arguments.value(arguments, CLASSIFIER):
        what = "a reranker" if profile.kind == "reranker" else "a reward model"
        yield (
            f"{what} that writes its scores as text, served at /v1/chat/completions; where its page names "
            "`--hf-overrides`, give that after `--vllm`, and vLLM returns scores"
        )
    elif profile.kind != "generation":
        yield kinds.described(profile.kind)
