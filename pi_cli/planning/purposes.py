"""What a plan says about models that are for something else than text. Pure."""

from collections.abc import Iterator, Sequence

from pi_cli.planning import candidates, vllm_arguments
from pi_cli.planning.kinds import Kind
from pi_cli.planning.profile import KnownModel

ROUTES: dict[Kind, str] = {
    "embedding": "an embedding model, served at /v1/embeddings",
    "late-interaction": "an embedding model with a vector for each token, served at /pooling",
    "reranker": "a reranker, served at /rerank and /score",
    "classification": "a classifier, served at /classify",
    "token-classification": "a classifier of tokens, served at /pooling",
    "reward": "a reward model, served at /pooling",
    "speech": "a model for speech, served at /v1/audio/transcriptions",
}
CLASSIFIER = ("--hf-overrides",)


def notes(profile: KnownModel, arguments: Sequence[str]) -> Iterator[str]:
    """Yield what a model is, if it does not generate text, and what vLLM lacks for that."""
    if candidates.generates_scores(profile) and not vllm_arguments.value(arguments, CLASSIFIER):
        what = "a reranker" if profile.kind == "reranker" else "a reward model"
        yield (
            f"{what} that writes its scores as text, served at /v1/chat/completions; where its page names "
            "`--hf-overrides`, give that after `--vllm`, and vLLM returns scores"
        )
    elif profile.kind in ROUTES:
        yield ROUTES[profile.kind]
