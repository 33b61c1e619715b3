"""The memory of a GPU that vLLM needs beside weights and KV cache: an estimate, until a start has measured it.

vLLM loads the weights, runs the largest batch once, captures CUDA graphs for a trial, and gives to the KV cache what is
left of its share (`determine_available_memory`, v1/worker/gpu_worker.py of vLLM 0.32). What that run leaves allocated,
or has allocated at its peak, is the sum of these parts, all in GiB per GPU:

- the CUDA context and the libraries;
- communication: NCCL's channels, and the buffers of custom, symmetric and FlashInfer all-reduce
  (distributed/device_communicators/);
- packing: MXFP4 experts are padded to the tiles of the kernels (layers/quantization/mxfp4.py);
- workspaces, which stay: what the experts write for each token and expert (`workspace_shapes` in
  layers/fused_moe/experts/), and on Blackwell the buffer of FlashInfer (v1/attention/backends/flashinfer.py);
- activations, at the peak: the largest of the forward pass of the batch, of the sampler's trial run over the whole
  vocabulary (`_dummy_sampler_run`) and of the encoder of images (`profile_encoder_cache`);
- CUDA graphs: what `profile_cudagraph_memory` expects of them (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS).

How good it is: against 48 public logs of vLLM 0.10 to 0.31 (`tests/planning/test_overhead.py`), the error is 0.12 GiB
in the median; at worst it is 0.14 too low for models without experts, 1.95 too low for those with experts, and 2.3 too
high. The constants it replaces (2.5 and 4.0 GiB) were up to 8.3 too low. Two estimates of three are too high, which
costs little: vLLM gives the rest to the KV cache anyway. The least certain are the CUDA graphs of large mixtures of
experts, and of hybrid models with vLLM 0.26 and 0.27 (see STATES_OF_HYBRID_GRAPH).
"""

from dataclasses import dataclass, replace

from pi_cli.planning.architecture import Architecture
from pi_cli.planning.widths import UNKNOWN_WIDTHS, Widths
from pi_cli.vllm.vllm_arguments import Options

GIB = 2**30
Version = tuple[int, int]
NEWEST: Version = (0, 32)

CONTEXT = 0.25  # GiB: 0.24 to 0.27 in all logs of one GPU

# GiB with tensor parallelism, by compute capability: 2.0 to 2.2 on H100 for 2 and 4 GPUs, 0.95 (with the context) on
# B200, 0.4 or less on RTX PRO and GeForce, which have no NVLink and hence no symmetric memory.
COMMUNICATION: tuple[tuple[tuple[int, int], float], ...] = (((10, 0), 1.0), ((9, 0), 2.0), ((8, 0), 1.0))
WITHOUT_NVLINK, WITHOUT_NVLINK_FROM, COMMUNICATION_WITHOUT_NVLINK = ((8, 6), (8, 9)), (12, 0), 0.4

# Of the weights: gpt-oss-120b takes 64.4 GiB on Hopper and 66.0 with Marlin, and its files 60.7.
PACKING = {"mxfp4": 0.085}

# GiB: VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE; what the indexer of sparse attention computes at once
# (VLLM_SPARSE_INDEXER_MAX_LOGITS_MB).
FLASHINFER_WORKSPACE, FLASHINFER_FROM, INDEXER_LOGITS = 0.39, (10, 0), 0.5

ACTIVATION_BYTES, LOGIT_BYTES = 2, 4  # an element of an activation, and of a row of logits in float32

# Rows of logits at the sampler's peak, in float32, by the first version of vLLM. Fitted to the logs for 0.10 and 0.17
# (their sampler sorted and copied them); 0.32's takes them as they are, in 16 bits, with a copy to gather them from all
# GPUs, and two more in models that cap them (v1/worker/gpu/sample/sampler.py, layers/logits_processor.py).
LOGITS_COPIES: tuple[tuple[Version, float], ...] = (((0, 30), 1.5), ((0, 17), 3.6), ((0, 0), 9.5))
# GiB that compiling and tuning kernels for the first time takes at the peak: 0.35 on L40S with 0.22; with 0.29 the same
# start took 0.98 more without a compile cache than with it.
COMPILATION: tuple[tuple[Version, float], ...] = (((0, 29), 0.9), ((0, 0), 0.35))
SAMPLER = 0.05  # GiB beside the logits

# Layers work on this many copies of hidden and intermediate state at once: 0.69 of CodeLlama's 0.77 GiB are these.
STATE_COPIES = 3
# Latent attention expands this many cached tokens at once, to this many elements for each head (128 of a key and of a
# value; `determine_chunked_prefill_workspace_size`, layers/attention/mla_attention.py).
EXPANDED_TOKENS, EXPANDED_ELEMENTS = 65536, 256

# Of an encoder of images: the tokens of its cache (16384 in all logs), and GiB at its peak above a forward pass.
ENCODER_TOKENS, ENCODER = 16384, 0.8

# GiB of CUDA graphs: once, and for each layer with 51 sizes, for dense models, experts, and experts with latent
# attention. In logs of 51 sizes: 0.74 to 0.84 for 32 and 40 dense layers, 1.8 for 80; 1.24 for 48 layers with experts;
# 1.4 for 27 and 5.0 for 78 with latent attention too.
GRAPHS, GRAPH_SIZES, GRAPHS_FROM = 0.1, 51, (0, 21)
GRAPHS_OF_LAYER, GRAPHS_OF_EXPERTS, GRAPHS_OF_LATENT_EXPERTS = 0.02, 0.032, 0.055
LARGEST_GRAPH, LARGEST_GRAPH_OF_GPT_OSS = 512, 1024  # config/vllm.py; models/config.py

# Where a width is not known: typical of large models, so that the estimate is rather too high.
HEAD_DIM, MOST_HIDDEN, INTERMEDIATE_RATIO, VOCABULARY, EXPERTS_PER_TOKEN = 128, 8192, 3.5, 200_000, 8
# A model of which only the size is known: with more bytes than this it is a mixture of experts.
LARGE_WEIGHTS = 100.0  # GiB
SMALL_MODEL = Architecture("", 32, (), 0)
LARGE_MODEL = Architecture("", 64, (), 0, expert_size=2048)
LAYERS_OF_UNKNOWN = 60

# GiB by which the estimate may be wrong: without experts, with them, and on top of it where widths are guessed.
# Data parallelism of experts multiplies buffers in ways that the logs do not show: a third of the estimate.
ERROR, ERROR_OF_EXPERTS, ERROR_OF_GUESSES, ERROR_SHARE_OF_DATA_PARALLEL = 1.0, 2.0, 1.0, 0.33
# For hybrid models, vLLM 0.26 and 0.27 expected so many hidden states of a whole batch for each graph, up to 8 GiB in
# all, of which the graphs then took a fraction (vLLM issue 50780, open when this was written).
STATES_OF_HYBRID_GRAPH = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The largest batch, which vLLM runs once when it starts: its tokens, and the requests that they belong to."""

    tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class Overhead:
    """The parts of the memory of each GPU beside weights and KV cache, and by how much their sum may be wrong; GiB."""

    context: float
    communication: float
    packing: float
    workspaces: float
    activations: float
    graphs: float
    error: float

    @property
    def total(self) -> float:
        parts = self.context + self.communication + self.packing + self.workspaces
        return parts + self.activations + self.graphs


@dataclass(frozen=True, slots=True)
class _Run:
    """What the parts depend on: a model whose widths are known or guessed, and how it is run."""

    model: Architecture
    options: Options
    batch: Batch
    capability: tuple[int, int]
    vllm: Version

    @property
    def widths(self) -> Widths:
        return self.model.widths

    @property
    def layers(self) -> int:
        return sum(layers.count for layers in self.model.layers if not layers.element_bytes) or LAYERS_OF_UNKNOWN

    @property
    def is_latent(self) -> bool:
        return any(layers.kind == "mla" for layers in self.model.layers)

    @property
    def is_hybrid(self) -> bool:
        return any(layers.kind == "linear" for layers in self.model.layers)

    @property
    def has_indexer(self) -> bool:
        return self.is_latent and any(layers.element_bytes for layers in self.model.layers)

    def gib(self, *factors: float) -> float:
        """Return the product of factors of a number of bytes, in GiB."""
        product = 1.0
        for factor in factors:
            product *= factor
        return product / GIB


def estimate(
    architecture: Architecture | None,
    weights: float,
    dtype: str,
    options: Options,
    batch: Batch,
    capability: tuple[int, int] | None,
    *,
    vllm: Version = NEWEST,
) -> Overhead:
    """Estimate the overhead of a model with `weights` GiB on each GPU, of type `dtype`, on GPUs of this capability."""
    model = architecture or (LARGE_MODEL if weights * options.gpus > LARGE_WEIGHTS else SMALL_MODEL)
    known = replace(model, widths=_guessed(model))
    run = _Run(known, options, batch, capability or (9, 0), vllm)
    parts = Overhead(
        CONTEXT,
        _communication(run),
        PACKING.get(dtype, 0.0) * weights,
        _workspaces(run),
        _activations(run),
        _graphs(run),
        error=0.0,
    )
    return replace(parts, error=_error(run, parts.total, is_guessed=known.widths != model.widths))


def _guessed(model: Architecture) -> Widths:
    """Return a model's widths, with typical ones for those that are not known."""
    widths = model.widths
    hidden = widths.hidden or min(model.heads * HEAD_DIM, MOST_HIDDEN)
    intermediate = widths.intermediate
    if widths == UNKNOWN_WIDTHS and not model.expert_size:
        intermediate = int(hidden * INTERMEDIATE_RATIO)
    experts = widths.experts or (EXPERTS_PER_TOKEN if model.expert_size else 0)
    return Widths(hidden, intermediate, widths.vocabulary or VOCABULARY, experts, widths.latent)


def _communication(run: _Run) -> float:
    if run.options.tensor == 1 and not (run.options.data > 1 and run.options.is_expert_parallel):
        return 0.0
    if run.capability in WITHOUT_NVLINK or run.capability >= WITHOUT_NVLINK_FROM:
        return COMMUNICATION_WITHOUT_NVLINK
    return next((gib for first, gib in COMMUNICATION if run.capability >= first), COMMUNICATION_WITHOUT_NVLINK)


def _workspaces(run: _Run) -> float:
    """Compute the two buffers of the experts, of which each is as wide as what it holds at one time or another."""
    total = FLASHINFER_WORKSPACE if run.capability >= FLASHINFER_FROM else 0.0
    if run.has_indexer:
        total += INDEXER_LOGITS
    if not run.widths.experts:
        return total
    options = run.options
    size = run.model.expert_size / (1 if options.is_expert_parallel else options.tensor)
    entering = run.widths.latent or run.widths.hidden
    width = max(size, entering) + max(2 * size, entering)
    replicas = options.data if options.is_expert_parallel else 1  # their tokens are gathered before the experts
    return total + run.gib(run.batch.tokens, replicas, run.widths.experts, width, ACTIVATION_BYTES)


def _activations(run: _Run) -> float:
    hidden = run.gib(run.batch.tokens, run.widths.hidden, ACTIVATION_BYTES)
    logits = run.gib(run.batch.sequences, run.widths.vocabulary, LOGIT_BYTES)
    sampler = _of_version(LOGITS_COPIES, run.vllm) * logits + hidden + SAMPLER
    compilation = 0.0 if run.options.is_eager else _of_version(COMPILATION, run.vllm)
    forward = _forward(run, hidden) + compilation
    if not run.model.has_encoder or run.options.is_text_only:
        return max(sampler, forward)
    encoded = run.gib(ENCODER_TOKENS, run.widths.hidden, ACTIVATION_BYTES)
    return max(sampler, forward + ENCODER) + encoded


def _forward(run: _Run, hidden: float) -> float:
    tensor = run.options.tensor
    intermediate = run.gib(run.batch.tokens, run.widths.intermediate, ACTIVATION_BYTES) / tensor
    total = STATE_COPIES * (hidden + intermediate)
    if run.is_latent:
        total += run.gib(EXPANDED_TOKENS, run.model.heads, EXPANDED_ELEMENTS, ACTIVATION_BYTES) / tensor
    return total


def _graphs(run: _Run) -> float:
    """Compute the graphs of the sizes that vLLM captures, up to twice the requests (`_set_cudagraph_sizes`)."""
    if run.options.is_eager or run.vllm < GRAPHS_FROM:
        return 0.0
    of_layer = GRAPHS_OF_LAYER
    if run.widths.experts:
        of_layer = GRAPHS_OF_LATENT_EXPERTS if run.is_latent else GRAPHS_OF_EXPERTS
    return GRAPHS + _graph_sizes(run) / GRAPH_SIZES * of_layer * run.layers / run.options.pipeline


def _graph_sizes(run: _Run) -> float:
    is_gpt_oss = run.model.name.startswith("GptOss")
    largest = min(2 * run.batch.sequences, LARGEST_GRAPH_OF_GPT_OSS if is_gpt_oss else LARGEST_GRAPH)
    return largest / 16 + 19 if largest >= 256 else largest / 8 + 3


def _error(run: _Run, total: float, *, is_guessed: bool) -> float:
    error = ERROR_OF_EXPERTS if run.widths.experts else ERROR
    if is_guessed:
        error += ERROR_OF_GUESSES
    if run.is_hybrid and not run.options.is_eager:
        states = run.gib(run.batch.tokens, run.widths.hidden, ACTIVATION_BYTES)
        error += _graph_sizes(run) * STATES_OF_HYBRID_GRAPH * states
    if run.widths.experts and run.options.data > 1:
        error = max(error, total * ERROR_SHARE_OF_DATA_PARALLEL)
    return error


def _of_version(values: tuple[tuple[Version, float], ...], vllm: Version) -> float:
    return next(value for first, value in values if vllm >= first)
