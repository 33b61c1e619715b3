"""Whether vLLM can serve a repository of the Hub, by what the Hub says of it, and otherwise why not. Pure.

A model is refused only for what vLLM itself would refuse, after it had been downloaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi_cli.hints import fill
from pi_cli.hub import adapters, model_kind, weight_files
from pi_cli.hub.repository import REPOSITORY_ID, Repository, architectures
from pi_cli.vllm import abilities, vllm_arguments
from pi_cli.vllm.abilities import Abilities

# What vLLM calls the methods that it takes others for (`override_quantization_method` in vLLM 0.32).
METHOD_ALIASES = {"auto-round": "inc", "compressed_tensors": "compressed-tensors"}
MODELOPT_METHODS = {"FP8": "modelopt", "FP8_PER_CHANNEL_PER_TOKEN": "modelopt", "FP8_PB_WO": "modelopt"}

# Tasks (`pipeline_tag`) of models that answer no request which vLLM serves.
OTHER_TASKS = frozenset(
    {
        *("audio-classification", "audio-to-audio", "depth-estimation", "graph-ml", "image-classification"),
        *("image-segmentation", "image-to-3d", "image-to-image", "image-to-video", "keypoint-detection"),
        *("mask-generation", "object-detection", "reinforcement-learning", "robotics", "tabular-classification"),
        *("tabular-regression", "text-to-3d", "text-to-audio", "text-to-image", "text-to-speech", "text-to-video"),
        *("time-series-forecasting", "unconditional-image-generation", "video-classification", "video-to-video"),
        *("voice-activity-detection", "zero-shot-image-classification", "zero-shot-object-detection"),
    }
)
DIFFUSION_FILE = "model_index.json"  # of the library diffusers
CONFIG_FILES = ("config.json", "params.json")  # the second is Mistral's own
FOUR_BITS = re.compile(r"4-?bit|q4|int4|gguf|gptq|awq|nf4", re.IGNORECASE)

# Options of vLLM with which the user takes a decision into their own hands.
LOADERS = ("--load-format", "--quantization", "-q")
CONFIGURATION = ("--hf-overrides", "--hf-config-path", "--config-format", "--model-impl")
REMOTE_CODE = ("--trust-remote-code",)

OTHER_MODELS = "`pi models` shows models that it can serve"
DRAFT_TYPES = frozenset({"eagle", "medusa", "mlp_speculator"})
DRAFT_METHODS = (("Eagle3", "eagle3"), ("EAGLE3", "eagle3"), ("Eagle", "eagle"), ("Medusa", "medusa"))


@dataclass(frozen=True, slots=True)
class Target:
    """What is to serve a model: the abilities of a vLLM, the pod that has it, and the model's name there.

    `is_of_pod`: the abilities are those of the pod's own vLLM, and not of the release that this pi was written for.
    `other` is what messages call a vLLM of another version, of which nothing is known; then `vllm` is that release.
    """

    vllm: Abilities = field(default_factory=abilities.shipped)
    is_of_pod: bool = False
    pod: str = ""
    name: str = ""
    other: str = ""

    @property
    def called(self) -> str:
        """Return what messages call the vLLM."""
        return self.other or (f"vLLM {self.vllm.version}" if self.vllm.version else "vLLM")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why vLLM cannot serve a repository, and what to do.

    Without a `hint`, another form of the model would do: one that was made from `base`, in 4 bits if `is_small`.
    """

    reason: str
    hint: str = ""
    base: str = ""
    is_small: bool = False


def refusal(found: Repository, target: Target, own: Sequence[str] | None = None) -> Refusal | None:
    """Return why the target's vLLM cannot serve a repository, or None.

    With the user's `own` arguments, what one of them may change is not a reason.
    """
    given = {vllm_arguments.name_of(argument) for argument in own or ()}
    checks = (_as_adapter, _as_diffusion, _by_weights, _by_configuration, _by_quantisation, _by_architecture)
    for check in checks:
        if refused := check(found, target, None if own is None else given):
            return refused
    return None


def note(found: Repository, target: Target) -> str | None:
    """Return what is not certain about serving a repository that is not refused."""
    names, method = architectures(found.config), quantisation(found.config or {})
    if method and target.other and method not in target.vllm.quantisations:
        return f"whether {target.called} can load weights quantised with {method} is not known"
    if not names or not target.vllm.architectures or any(_is_registered(name, target.vllm) for name in names):
        return None
    if target.other:
        return f"whether {target.called} can serve the architecture `{names[0]}` is not known"
    if _is_of_transformers(names[0], target.vllm):
        return f"vLLM has no code of its own for `{names[0]}` and uses that of the library transformers"
    return f"whether vLLM can serve the architecture `{names[0]}` is not known"


def origin(found: Repository) -> str:
    """Return the model that a repository was made from; empty if it does not say."""
    return next((base.id for base in found.about.bases if base.relation in ("quantized", "")), "")


def _as_adapter(found: Repository, target: Target, _: set[str] | None) -> Refusal | None:
    if not adapters.is_adapter(found):
        return None
    return Refusal(adapters.reason(found, target.vllm), adapters.hint(found, target.vllm, target.name))


def _as_diffusion(found: Repository, target: Target, _: set[str] | None) -> Refusal | None:
    names = architectures(found.config)
    is_known = any(_is_registered(name, target.vllm) for name in names)
    if is_known or not (DIFFUSION_FILE in found.names or found.about.library == "diffusers"):
        return None
    task = f" ({found.about.task})" if found.about.task else ""
    return Refusal(f"it is a diffusion pipeline{task}, and vLLM serves language models", OTHER_MODELS)


def _by_weights(found: Repository, _: Target, own: set[str] | None) -> Refusal | None:
    if weight_files.choose(found.names) or (own and not own.isdisjoint(LOADERS)):
        return None
    base = origin(found)
    if format := weight_files.other_format(found.names):
        return Refusal(f"it cannot load weights in the format {format}", "", base, is_small=_is_small(found))
    if folder := weight_files.folder(found.names):
        reason = f"its weights are in the folder `{folder}`, and vLLM loads those at the top of a repository"
    elif any(name.startswith("tokenizer") for name in found.names):
        reason = "its repository has no weights, only a tokenizer"
    else:
        reason = "its repository has no weights"
    return Refusal(reason, "" if base else f"see what it has at its page on the Hub; {OTHER_MODELS}", base)


def _by_configuration(found: Repository, _: Target, own: set[str] | None) -> Refusal | None:
    if own and not own.isdisjoint(CONFIGURATION):
        return None
    library = found.about.library
    is_foreign = bool(library) and library not in ("transformers", "sentence-transformers", "vllm", "mistral-common")
    belongs = f"it is a model of the library `{library}`, and " if is_foreign else ""
    if found.names.isdisjoint(CONFIG_FILES):
        reason = "its repository has no config.json, from which vLLM reads the architecture"
        return Refusal(f"{belongs}{reason}", OTHER_MODELS)
    if found.config is None or "params.json" in found.names:
        return None
    if not architectures(found.config) and not found.config.get("model_type"):
        return Refusal(f"{belongs}its config.json names no architecture", OTHER_MODELS)
    return None


def _by_quantisation(found: Repository, target: Target, own: set[str] | None) -> Refusal | None:
    config, known = found.config or {}, target.vllm.quantisations
    base = origin(found)
    if _is_mlx(config) and not (own and not own.isdisjoint(CONFIGURATION)):
        reason = "its weights are quantised for MLX, the library for Apple's own processors"
        return Refusal(reason, "", base, is_small=_is_small(found))
    method = quantisation(config)
    if not method or not known or method in known or target.other:
        return None
    return Refusal(f"it cannot load weights quantised with {method}", "", base, is_small=_is_small(found))


def quantisation(config: Mapping[str, Any]) -> str:
    """Return the quantisation method of a config.json as vLLM reads it; empty if there is none.

    >>> quantisation({"text_config": {"quantization_config": {"quant_method": "auto-round"}}})
    'inc'
    """
    settings = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(settings, Mapping):
        text = config.get("text_config")
        settings = text.get("quantization_config") if isinstance(text, Mapping) else None
    if not isinstance(settings, Mapping):
        return ""
    producer, inner = settings.get("producer"), settings.get("quantization")
    if isinstance(producer, Mapping) and producer.get("name") == "modelopt" and isinstance(inner, Mapping):
        return MODELOPT_METHODS.get(str(inner.get("quant_algo")).upper(), "modelopt_fp4")
    method = str(settings.get("quant_method") or "").lower()
    return METHOD_ALIASES.get(method, method) if method.isprintable() else ""


def _is_mlx(config: Mapping[str, Any]) -> bool:
    """Return whether weights are quantised by MLX, which writes `quantization` and names no method."""
    settings = config.get("quantization")
    return isinstance(settings, Mapping) and "bits" in settings and not quantisation(config)


def _is_small(found: Repository) -> bool:
    return any(map(FOUR_BITS.search, (found.id, *found.about.tags)))


def _by_architecture(found: Repository, target: Target, own: set[str] | None) -> Refusal | None:
    names, vllm = architectures(found.config), target.vllm
    is_mistrals = "params.json" in found.names  # which names the architecture then
    if not names or not vllm.architectures or is_mistrals or (own and not own.isdisjoint(CONFIGURATION)):
        return None
    if _is_draft(found, vllm, own):
        return Refusal("it is a draft model for speculative decoding, not a model of its own", _drafts(found, target))
    if any(_is_registered(name, vllm) for name in names) or _is_of_transformers(names[0], vllm):
        return None
    if found.about.task in OTHER_TASKS:
        return Refusal(f"it is a model for {found.about.task}, and vLLM has no server for that", OTHER_MODELS)
    if target.other or (own is not None and not target.is_of_pod):  # the pod's vLLM may be another version
        return None
    return _of_unknown_architecture(found, names, target, own)


def _of_unknown_architecture(
    found: Repository, names: Sequence[str], target: Target, own: set[str] | None
) -> Refusal | None:
    values = {"model": found.id, "name": target.name or "NAME", "pod": target.pod or "POD"}
    if last := next((target.vllm.former[name] for name in names if name in target.vllm.former), None):
        hint = "that version can serve it: `pi pods setup {pod} --vllm {last}` installs it in place of the pod's"
        reason = f"its architecture `{names[0]}` was removed after vLLM {last}"
        return Refusal(reason, fill(hint, **values, last=last))
    if (found.config or {}).get("auto_map"):
        if own and not own.isdisjoint(REMOTE_CODE):
            return None
        hint = "to run that code on the pod, `pi start {model} --name {name} --vllm --trust-remote-code`"
        reason = f"its architecture `{names[0]}` is Python code in its own repository, which needs your consent"
        return Refusal(reason, fill(hint, **values))
    if any(names[0].endswith(suffix) for suffix, kind in model_kind.SUFFIXES if kind != "generation"):
        return None  # transformers has more classes that vLLM can use than those it was asked for
    hint = "a newer vLLM may: `pi pods setup {pod} --vllm nightly`"
    if not target.is_of_pod:
        hint += "; to try anyway, give vLLM's arguments after `--vllm`"
    return Refusal(f"it does not know the architecture `{names[0]}`", fill(hint, **values))


def _is_registered(name: str, vllm: Abilities) -> bool:
    """Return whether vLLM has code for a class, or for the one that it converts (`_normalize_arch` in 0.32)."""
    return any(each in vllm.architectures and not _drafts_only(each, vllm) for each in _equivalents(name))


def _is_of_transformers(name: str, vllm: Abilities) -> bool:
    """Return whether transformers has a class, as far as vLLM was asked for them: it has no list of pooling models."""
    if any(name.endswith(suffix) for suffix, kind in model_kind.SUFFIXES if kind == "generation"):
        return name in vllm.transformers
    return any(each in vllm.transformers for each in _equivalents(name))


def _equivalents(name: str) -> Iterator[str]:
    yield name
    suffix = next((suffix for suffix, _ in model_kind.SUFFIXES if name.endswith(suffix)), None)
    for other, _ in model_kind.SUFFIXES if suffix else ():
        yield f"{name.removesuffix(suffix or '')}{other}"


def _drafts_only(name: str, vllm: Abilities) -> bool:
    return vllm.architectures.get(name) == "speculative"


def _is_draft(found: Repository, vllm: Abilities, own: set[str] | None) -> bool:
    config = found.config or {}
    if _verifier(config):  # vLLM starts it with the model that it names, whose size a plan does not know
        return own is None
    names = architectures(config)
    if config.get("model_type") in DRAFT_TYPES or all(_drafts_only(name, vllm) for name in names):
        return True
    return config.get("num_hidden_layers") == 1 and "eagle" in found.id.lower()


def _drafts(found: Repository, target: Target) -> str:
    """Return the hint with the command that uses a draft model."""
    base = _verifier(found.config or {}) or next((base.id for base in found.about.bases), "MODEL")
    text = f"{' '.join(architectures(found.config))} {found.id}"
    method = next((f'"method": "{method}", ' for part, method in DRAFT_METHODS if part in text), "")
    settings = f'{{{method}"model": "{found.id}", "num_speculative_tokens": 3}}'
    command = "`pi start {base} --name {name} --vllm --speculative-config {json}`"
    hint = f"start the model that it drafts for with it: {command}"
    return fill(hint, base=base, name=target.name or "NAME", json=settings)


def _verifier(config: Mapping[str, Any]) -> str:
    """Return the model that a draft model in the format of the library speculators drafts for; empty for others."""
    settings = config.get("speculators_config")
    verifier = settings.get("verifier") if isinstance(settings, Mapping) else None
    name = verifier.get("name_or_path") if isinstance(verifier, Mapping) else None
    return name if isinstance(name, str) and REPOSITORY_ID.fullmatch(name) else ""
