"""Which GPUs run a model's quantised weights and its attention, by what the vLLM says that is to run it.

vLLM 0.32 runs most formats on every GPU from 7.5 on. Where a GPU cannot compute in the format of the weights, vLLM
unpacks them in its Marlin kernels and computes in 16 bits, also in the experts: `fp8` of all block shapes, ModelOpt's
FP8 and NVFP4, and compressed-tensors' FP8, whose W8A8 becomes W8A16 (model_executor/layers/quantization,
model_executor/kernels/linear, fused_moe/oracle/fp8.py and nvfp4.py). It chooses them without an argument: `triton`
refuses FP8 where the GPU has none (fused_moe/experts/triton_moe.py). There is one exception, experts in FP8 blocks that
tensor parallelism cuts (only `triton` could refine the blocks), and pi does not plan that: `fit.cuts_blocks`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pi_cli.hints import fill
from pi_cli.planning.fit import ModelShape
from pi_cli.vllm.abilities import Abilities, Capability, Vllm

MIN_CAPABILITY = (7, 5)  # for which the wheels of vLLM 0.32 are built, by its installation page

# The types in which only newer GPUs compute, from which capability on, and GPUs that do.
NATIVE: dict[str, tuple[Capability, str]] = {
    "fp8": ((8, 9), "L40S or H100"),
    "mxfp8": ((10, 0), "B200 or RTX PRO 6000"),
    "nvfp4": ((10, 0), "B200 or RTX PRO 6000"),
}

# The methods of models of which only the type of the weights is known: those of the catalogue that name no other.
METHODS_OF_TYPES = {"fp8": ("fp8",), "mxfp4": ("mxfp4",), "mxfp8": ("mxfp8",), "nvfp4": ("modelopt_fp4",)}


@dataclass(frozen=True, slots=True)
class Unmet:
    """What a GPU lacks: `subject` needs another GPU, in a newer one or not; `text` is the reason."""

    subject: str
    text: str
    is_in_newer: bool = True

    @property
    def brief(self) -> str:
        return f"{self.subject} needs {'a newer' if self.is_in_newer else 'another'} GPU"


def unmet(shape: ModelShape, capability: Capability | None, vllm: Vllm) -> Unmet | None:
    """Return what a GPU lacks to run a model; None if it lacks nothing, or if that is not certain."""
    if capability is None:
        return None
    if capability < MIN_CAPABILITY:
        return Unmet("vLLM", f"vLLM needs compute capability {_text(MIN_CAPABILITY)}, and it has {_text(capability)}")
    return _unmet(shape, capability, vllm) if vllm.is_certain else None


def remarks(shape: ModelShape, kind: str, capability: Capability | None, vllm: Vllm, pod: str) -> Iterator[str]:
    """Yield what a user should know about a model on GPUs of this kind: that it is slow there, or may not run."""
    if capability is None:
        return
    if not vllm.is_certain and (lacking := _unmet(shape, capability, Vllm())):
        name = f"vLLM {vllm.version}" if vllm.version else "this vLLM"
        template = "it is not known what {name} can do: {reason}; `pi pods setup {pod}` asks it"
        yield fill(template, name=name, reason=lacking.text, pod=pod)
    native = NATIVE.get(shape.dtype)
    if native and capability < native[0]:
        type = shape.dtype.upper()
        slower = f"slower than on GPUs with {type}, e.g. {native[1]}"
        yield f"{type} weights on {kind}: vLLM computes in 16 bits (Marlin), {slower}"


def methods(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return vLLM's names of the quantisation method of a model, and of its schemes, by its config.json."""
    settings = config.get("quantization_config")
    if not isinstance(settings, Mapping):
        return ()
    method = str(settings.get("quant_method") or "").lower()
    match method:
        case "modelopt":
            return (_method_of_modelopt(settings),)
        case "compressed-tensors":
            return (method, *_schemes_of_compressed_tensors(settings))
        case "quark":
            return (method, *_schemes_of_quark(settings))
        case "fp8" if config.get("model_type") == "deepseek_v4":
            return ("deepseek_v4_fp8",)
        case "mxfp4" if config.get("model_type") == "gpt_oss":
            return ("gpt_oss_mxfp4",)
    return (method,) if method else ()


def _unmet(shape: ModelShape, capability: Capability, vllm: Vllm) -> Unmet | None:
    name, has = f"vLLM {vllm.abilities.version}", _text(capability)
    least = _least(shape.methods or METHODS_OF_TYPES.get(shape.dtype, ()), vllm.abilities)
    if least is not None and capability < least:
        type = shape.dtype.upper()
        return Unmet(type, f"{name} needs compute capability {_text(least)} for {type} weights, and it has {has}")
    able = vllm.abilities.sparse_attention
    if shape.is_sparse and able.get(capability) is False:
        suitable = [_text(each) for each in sorted(able) if able[each]]
        text = f"in {name} its sparse attention needs compute capability {_or(suitable)}, and it has {has}"
        return Unmet("sparse attention", text, is_in_newer=all(capability < each for each in able if able[each]))
    return None


def _least(methods: Sequence[str], abilities: Abilities) -> Capability | None:
    """Return the least compute capability of methods and schemes; None if vLLM knows none of them."""
    tables = (abilities.quantisations, abilities.schemes)
    return max((table[method] for method in methods for table in tables if method in table), default=None)


def _method_of_modelopt(settings: Mapping[str, Any]) -> str:
    """Return the method for a quantisation of ModelOpt (quantization/modelopt.py, `override_quantization_method`)."""
    inner = settings.get("quantization")
    algorithm = settings.get("quant_algo") or (inner.get("quant_algo") if isinstance(inner, Mapping) else "")
    algorithm = str(algorithm or "").upper()
    if "MXFP8" in algorithm:
        return "modelopt_mxfp8"
    if "FP4" in algorithm:
        return "modelopt_fp4"
    return "modelopt_mixed" if algorithm == "MIXED_PRECISION" else "modelopt"


def _schemes_of_compressed_tensors(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the schemes of the groups of layers, as `CompressedTensorsConfig` chooses them for an old GPU."""
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if not isinstance(group, Mapping):
            continue
        weights, inputs = (_settings(group.get(key)) for key in ("weights", "input_activations"))
        match weights.get("type"), weights.get("num_bits"), weights.get("group_size"), inputs.get("type"):
            case "float", 4, 16, _:
                yield "CompressedTensorsW4A4Fp4"
            case "float", 4, 32, _:
                yield f"CompressedTensorsW4{'A8' if inputs.get('num_bits') == 8 else 'A4'}Mxfp4"
            case "float", 8, _, _:
                yield "CompressedTensorsW8A16Fp8"
            case "int", 4, _, "float":
                yield "CompressedTensorsW4A8Fp8"


def _settings(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _schemes_of_quark(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scheme of most layers. Quark's FP8 has no weight-only form in vLLM."""
    layers = settings.get("global_quant_config")
    weight, inputs = (_settings(_settings(layers).get(key)) for key in ("weight", "input_tensors"))
    if weight.get("dtype") == inputs.get("dtype") == "fp8_e4m3":
        yield "QuarkW8A8Fp8PerBlock" if weight.get("qscheme") == "per_block" else "QuarkW8A8Fp8"


def _text(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
