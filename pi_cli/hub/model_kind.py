"""What a model is for: text generation, embeddings, reranking, speech… Pure.

vLLM decides it by the class that config.json names and by the files of sentence-transformers (config/model.py,
transformers_utils/config.py); rerankers and reward models are also known by their names, since many of them say that
they generate text.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pi_cli.hub.repository import NOTHING_SAID, About
from pi_cli.vllm.abilities import Abilities
from pi_cli.vllm.kinds import Kind

# Classes that serve transcriptions only (`supports_transcription_only` in vLLM 0.32).
TRANSCRIBERS = frozenset(
    {
        *("CohereAsrForConditionalGeneration", "FireRedASR2ForConditionalGeneration", "FunASRForConditionalGeneration"),
        *("MossTranscribeDiarizeForConditionalGeneration", "WhisperForConditionalGeneration"),
    }
)
SPEECH_TASK = "automatic-speech-recognition"
RERANKING_TASK = "text-ranking"
EMBEDDING_TASKS = frozenset({"feature-extraction", "sentence-similarity", "visual-document-retrieval"})
POOLING_FILES = frozenset({"modules.json", "1_Pooling/config.json"})  # of sentence-transformers; vLLM reads them
RERANKER_NAME = re.compile(r"(?:^|[-_.])re-?rank(?:er|ing)?(?:$|[-_.])", re.IGNORECASE)
EMBEDDING_NAME = re.compile(r"(?:^|[-_.])(?:\w*embedding|embed)(?:$|[-_.])", re.IGNORECASE)
REWARD_NAME = re.compile(r"(?:^|[-_.])(?:reward|prm|rm)(?:$|[-_.])", re.IGNORECASE)
# The kinds of vLLM's registry that are kinds of models here too.
REGISTERED: Mapping[str, Kind] = {
    "embedding": "embedding",
    "late-interaction": "late-interaction",
    "token-classification": "token-classification",
    "classification": "classification",
    "reward": "reward",
}
# vLLM's own defaults for classes that are not in its registry (`_SUFFIX_TO_DEFAULTS` in config/model.py).
SUFFIXES: Sequence[tuple[str, Kind]] = (
    ("ForCausalLM", "generation"),
    ("ForConditionalGeneration", "generation"),
    ("ChatModel", "generation"),
    ("LMHeadModel", "generation"),
    ("ForTextEncoding", "embedding"),
    ("EmbeddingModel", "embedding"),
    ("ForSequenceClassification", "classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForRewardModeling", "reward"),
    ("RewardModel", "reward"),
    ("ForRanking", "reranker"),
    ("ForMaskedLM", "embedding"),
    ("Model", "embedding"),
)


def of(
    model: str,
    architectures: Iterable[str],
    abilities: Abilities,
    *,
    about: About = NOTHING_SAID,
    files: Iterable[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Kind:
    """Return what a model is for, by its classes, its task and files on the Hub, and its name.

    >>> of("Qwen/Qwen3-Reranker-8B", ["Qwen3ForCausalLM"], Abilities())
    'reranker'
    """
    names = list(architectures)
    by_class = _by_class(names, abilities)
    name = model.rpartition("/")[2]
    if not TRANSCRIBERS.isdisjoint(names) or about.task == SPEECH_TASK:
        return "speech"
    if by_class == "classification":
        return _classifier(name, about, config or {})
    if about.task == RERANKING_TASK or RERANKER_NAME.search(name):
        return "reranker"
    if by_class == "generation" and (
        about.task in EMBEDDING_TASKS or set(files) >= POOLING_FILES or EMBEDDING_NAME.search(name)
    ):
        return "embedding"
    return by_class


def _by_class(names: Iterable[str], abilities: Abilities) -> Kind:
    for name in names:
        if registered := abilities.architectures.get(name):
            return REGISTERED.get(registered, "generation")
        for suffix, kind in SUFFIXES:
            if name.endswith(suffix):
                return kind
    return "generation"


def _classifier(name: str, about: About, config: Mapping[str, Any]) -> Kind:
    """Tell rerankers and reward models, which give one score, from other classifiers."""
    if REWARD_NAME.search(name) or "reward-model" in about.tags:
        return "reward"
    if about.task == RERANKING_TASK or RERANKER_NAME.search(name):
        return "reranker"
    labels = config.get("id2label")
    is_scorer = config.get("num_labels") == 1 or (isinstance(labels, dict) and len(labels) == 1)
    return "reranker" if is_scorer else "classification"
