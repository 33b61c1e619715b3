"""Other forms of a model: which of its quantised forms on the Hub vLLM can serve. Pure."""

import re
from collections.abc import Sequence

from pi_cli.hints import fill
from pi_cli.hub.hub_search import Form
from pi_cli.vllm.abilities import Abilities

# The methods of quantisation as tags and names of repositories have them, with their name in vLLM and their bits.
METHODS = (
    (re.compile(r"\bawq\b", re.IGNORECASE), "awq", 4),
    (re.compile(r"\bgptq\b", re.IGNORECASE), "gptq", 4),
    (re.compile(r"\bnvfp4\b", re.IGNORECASE), "modelopt_fp4", 4),
    (re.compile(r"\bw4a16\b", re.IGNORECASE), "compressed-tensors", 4),
    (re.compile(r"\bauto-?round\b", re.IGNORECASE), "inc", 4),
    (re.compile(r"\bfp8\b", re.IGNORECASE), "fp8", 8),
    (re.compile(r"\bw8a8\b", re.IGNORECASE), "compressed-tensors", 8),
)
# Forms for other programs and by other methods; some of them name a method of vLLM as well.
FOREIGN = re.compile(
    r"\b(?:gguf|mlx|bnb|bitsandbytes|exl[23]|onnx|openvino|aqlm|hqq|eetq|ggml|coreml|mlc|litert|peft|lora|adapter)\b",
    re.IGNORECASE,
)
SHOWN = 3


def choose(forms: Sequence[Form], vllm: Abilities, *, is_small: bool) -> list[str]:
    """Return the most downloaded forms that vLLM can serve, with `is_small` those in 4 bits first."""
    bits = {form.id: _bits(form, vllm) for form in forms}
    servable = [form.id for form in forms if bits[form.id]]
    return sorted(servable, key=lambda model: (bits[model] == 4) != is_small)[:SHOWN]


def is_foreign(model: str) -> bool:
    """Return whether a model's name says that it is for other programs, or quantised by a method of others.

    >>> is_foreign("unsloth/Qwen3-8B-unsloth-bnb-4bit"), is_foreign("Qwen/Qwen3-8B-AWQ")
    (True, False)
    """
    return FOREIGN.search(model.rpartition("/")[2].replace("_", "-")) is not None


def hint(forms: Sequence[str], base: str, name: str) -> str:
    """Return what to start in place of a form that vLLM cannot serve: other forms of it, or the model itself."""
    if not base:
        return "choose a form of it in AWQ, GPTQ, FP8 or NVFP4, or the model that it was made from"
    if not forms:
        return fill(
            "choose a form of it in AWQ, GPTQ, FP8 or NVFP4, or start what it was made from: "
            "`pi start {base} --name {name}`",
            base=base,
            name=name or "NAME",
        )
    first, *others = forms
    text = fill("start another form of it: `pi start {first} --name {name}`", first=first, name=name or "NAME")
    also = f" or {', '.join(f'`{other}`' for other in others)}" if others else ""
    return f"{text}{also}; it was made from `{base}`"


def _bits(form: Form, vllm: Abilities) -> int | None:
    """Return the bits of a form's weights, by its tags or else its name; None for one that vLLM cannot serve."""
    name = form.id.rpartition("/")[2].replace("_", "-")
    texts = [*sorted(form.tags), name]
    if any(map(FOREIGN.search, texts)):
        return None
    known = vllm.quantisations
    return next(
        (bits for method, called, bits in METHODS if (not known or called in known) and any(map(method.search, texts))),
        None,
    )
