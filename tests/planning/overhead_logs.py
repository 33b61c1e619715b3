"""What public start logs of vLLM say about memory, and the models in them: data for `test_overhead.py`.

GiB are per GPU. `total` is what CUDA offers, `weights` what "Model loading took", `kv_cache` the "Available KV cache
memory". What is left of `total x share` is the overhead.
"""

from dataclasses import dataclass, field, replace

from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.overhead import Batch, Version
from pi_cli.planning.widths import Widths
from pi_cli.vllm.vllm_arguments import Options

SWEEP = "llm-d-incubation/llm-d-planner, pull request 205: accuracy/results/v0.19.0/results_raw.csv"
EARLIER = "llm-d/llm-d-benchmark: config_explorer/empirical-vllm-memory-results.md"
H100, H200, A100, L40S, B200, PRO_6000 = 79.19, 139.81, 79.25, 44.39, 184.31, 95.01
HOPPER, BLACKWELL, WORKSTATION, ADA, AMPERE, GEFORCE_30 = (9, 0), (10, 0), (12, 0), (8, 9), (8, 0), (8, 6)
LARGE, MIDDLE, SMALL = Batch(8192, 1024), Batch(8192, 256), Batch(2048, 256)


def dense(layers: int, hidden: int, intermediate: int, vocabulary: int, name: str = "LlamaForCausalLM") -> Architecture:
    attention = (Layers("full", layers, 8, 128),)
    return Architecture(name, hidden // 128, attention, 131072, widths=Widths(hidden, intermediate, vocabulary))


def experts(
    count: int,
    hidden: int,
    vocabulary: int,
    chosen: int,
    size: int,
    *,
    layers: tuple[Layers, ...] = (),
    heads: int = 32,
    intermediate: int = 0,
    name: str = "Qwen3MoeForCausalLM",
) -> Architecture:
    widths = Widths(hidden, intermediate, vocabulary, chosen)
    attention = layers or (Layers("full", count, 8, 128),)
    return Architecture(name, heads, attention, 131072, size, widths=widths)


CODELLAMA_7B = dense(32, 4096, 11008, 32016)
LLAMA_8B, LLAMA_70B = dense(32, 4096, 14336, 128256), dense(80, 8192, 28672, 128256)
QWEN_2_5_7B, QWEN_2_5_72B = dense(28, 3584, 18944, 152064), dense(80, 8192, 29568, 152064)
QWEN_3_06B, QWEN_3_8B, QWEN_3_32B = (
    dense(28, 1024, 3072, 151936),
    dense(36, 4096, 12288, 151936),
    dense(64, 5120, 25600, 151936),
)
GEMMA_2_2B, GEMMA_2_9B = dense(26, 2304, 9216, 256000), dense(42, 3584, 14336, 256000)
GEMMA_2_27B = dense(46, 4608, 36864, 256000)
VISION = "Gemma3ForConditionalGeneration"
GEMMA_3_4B, GEMMA_3_12B = dense(34, 2560, 10240, 262208, VISION), dense(48, 3840, 15360, 262208, VISION)
GEMMA_3_27B = dense(62, 5376, 21504, 262208, VISION)
GRANITE_2B, GRANITE_8B = dense(40, 2048, 8192, 49155), dense(40, 4096, 12800, 49155)
GRANITE_VISION = dense(40, 2048, 8192, 49156, "LlavaNextForConditionalGeneration")
PHI_4 = dense(40, 5120, 17920, 100352)
MISTRAL_SMALL = dense(40, 5120, 32768, 131072, "Mistral3ForConditionalGeneration")
QWEN_3_5_4B, QWEN_3_5_9B = dense(32, 2560, 9216, 248320, VISION), dense(32, 4096, 12288, 248320, VISION)

LATENT_27 = (Layers("mla", 27, head_dim=576),)
DEEPSEEK_V2_LITE = experts(27, 2048, 102400, 6, 1408, layers=LATENT_27, heads=16, intermediate=10944)
KIMI_VL = replace(
    experts(27, 2048, 163840, 6, 1408, layers=LATENT_27, heads=16, intermediate=11264),
    name="KimiVLForConditionalGeneration",
)
MIXTRAL = experts(32, 4096, 32000, 2, 14336)
QWEN_3_30B, QWEN_3_235B = experts(48, 2048, 151936, 8, 768), experts(94, 4096, 151936, 8, 1536)
QWEN_3_NEXT = experts(48, 2048, 151936, 10, 512)
GPT_OSS_20B = experts(24, 2880, 201088, 4, 2880, name="GptOssForCausalLM")
GPT_OSS_120B = experts(36, 2880, 201088, 4, 2880, name="GptOssForCausalLM")
SPARSE_78 = (Layers("mla", 78, head_dim=576), Layers("mla", 20, head_dim=132, element_bytes=1))
GLM_5_2 = experts(78, 6144, 154880, 8, 2048, layers=SPARSE_78, heads=64, intermediate=12288)
QWEN_3_6_35B = experts(40, 2048, 248320, 8, 512, name="Qwen3_5MoeForConditionalGeneration")


@dataclass(frozen=True)
class Log:
    """A start: its version of vLLM, model, GPU and batch, the GiB that it logged, and where it was published."""

    name: str
    vllm: Version
    model: Architecture
    weights: float
    kv_cache: float
    source: str = SWEEP
    total: float = H100
    share: float = 0.95
    capability: tuple[int, int] = HOPPER
    batch: Batch = LARGE
    options: Options = field(default_factory=Options)

    @property
    def overhead(self) -> float:
        return self.total * self.share - self.weights - self.kv_cache


TWO, FOUR = Options(tensor=2), Options(tensor=4)
LOGS = [
    Log("CodeLlama-7b", (0, 19), CODELLAMA_7B, 12.56, 61.66),
    Log("DeepSeek-V2-Lite", (0, 19), DEEPSEEK_V2_LITE, 29.43, 43.61),
    Log("Llama-3.3-70B FP8, 2 GPUs", (0, 19), LLAMA_70B, 33.88, 37.28, options=TWO),
    Log("Llama-3.3-70B FP8, 4 GPUs", (0, 19), LLAMA_70B, 16.96, 54.09, options=FOUR),
    Log("gemma-2-27b", (0, 19), GEMMA_2_27B, 50.72, 20.59),
    Log("gemma-2-9b", (0, 19), GEMMA_2_9B, 17.22, 54.12),
    Log("gemma-2-2b", (0, 19), GEMMA_2_2B, 4.9, 66.47),
    Log("gemma-3-27b", (0, 19), GEMMA_3_27B, 51.45, 19.53),
    Log("gemma-3-12b", (0, 19), GEMMA_3_12B, 23.31, 47.72),
    Log("gemma-3-4b", (0, 19), GEMMA_3_4B, 8.58, 62.51),
    Log("granite-3.1-2b", (0, 19), GRANITE_2B, 4.74, 69.28),
    Log("granite-3.1-8b", (0, 19), GRANITE_8B, 15.25, 58.66),
    Log("granite-vision-3.3-2b", (0, 19), GRANITE_VISION, 5.54, 68.65),
    Log("Llama-3.1-8B", (0, 19), LLAMA_8B, 14.99, 58.11),
    Log("Llama-3.1-8B, 2 GPUs", (0, 19), LLAMA_8B, 7.51, 63.76, options=TWO),
    Log("Llama-3.1-8B, 4 GPUs", (0, 19), LLAMA_8B, 3.77, 67.44, options=FOUR),
    Log("phi-4", (0, 19), PHI_4, 27.39, 46.08),
    Log("Mistral-Small-3.1", (0, 19), MISTRAL_SMALL, 44.76, 28.19),
    Log("Mistral-Small-3.1 W8A8", (0, 19), MISTRAL_SMALL, 24.07, 48.73),
    Log("Mistral-Small-3.1 W8A8, 2 GPUs", (0, 19), MISTRAL_SMALL, 12.11, 59.02, options=TWO),
    Log("Mixtral-8x7B, 2 GPUs", (0, 19), MIXTRAL, 43.51, 28.44, options=TWO),
    Log("Qwen2.5-72B, 2 GPUs", (0, 19), QWEN_2_5_72B, 67.8, 3.04, options=TWO),
    Log("Kimi-Dev-72B, 4 GPUs", (0, 19), QWEN_2_5_72B, 34.01, 36.72, options=FOUR),
    Log("Kimi-VL-A3B", (0, 19), KIMI_VL, 30.74, 41.32),
    Log("Kimi-VL-A3B, 2 GPUs", (0, 19), KIMI_VL, 15.53, 54.78, options=TWO),
    Log("gpt-oss-20b", (0, 19), GPT_OSS_20B, 13.64, 58.47),
    Log("Qwen2.5-7B", (0, 19), QWEN_2_5_7B, 14.25, 58.53),
    Log("Qwen2.5-7B, 2 GPUs", (0, 19), QWEN_2_5_7B, 7.12, 63.84, options=TWO),
    Log("Qwen2.5-7B, 4 GPUs", (0, 19), QWEN_2_5_7B, 3.55, 67.34, options=FOUR),
    Log("Qwen3-30B-A3B", (0, 19), QWEN_3_30B, 56.88, 15.41),
    Log("Qwen3-8B", (0, 19), QWEN_3_8B, 15.27, 57.5),
    Log("gpt-oss-20b, 0.11", (0, 11), GPT_OSS_20B, 13.47, 50.28, EARLIER, share=0.9),
    Log("gpt-oss-120b, 0.11", (0, 11), GPT_OSS_120B, 64.38, 3.33, EARLIER),
    Log("Llama-3.1-8B, 0.11", (0, 11), LLAMA_8B, 14.99, 51.38, EARLIER, share=0.9),
    Log("Qwen3-0.6B, 0.11", (0, 11), QWEN_3_06B, 1.12, 64.45, EARLIER, share=0.9),
    Log("Qwen3-32B, 0.11", (0, 11), QWEN_3_32B, 61.03, 4.45, EARLIER, share=0.9),
    Log("Qwen3-32B, 0.11, 2 GPUs", (0, 11), QWEN_3_32B, 30.59, 34.49, EARLIER, share=0.9, options=TWO),
    Log(
        "Qwen3-235B-A22B-FP8, 0.10, 4 GPUs",
        (0, 10),
        QWEN_3_235B,
        55.19,
        8.11,
        "vllm-project/vllm issue 21348, weights of the next",
        H100,
        0.9,
        HOPPER,
        LARGE,
        FOUR,
    ),
    Log(
        "Qwen3-235B-A22B-FP8, 4 RTX PRO 6000",
        (0, 27),
        QWEN_3_235B,
        55.19,
        27.85,
        "a start of 08-21 18:22:06, published by its user",
        PRO_6000,
        0.9,
        WORKSTATION,
        Batch(8192, 32),
        FOUR,
    ),
    Log(
        "Qwen3-Next-80B, 2 H200",
        (0, 10),
        QWEN_3_NEXT,
        74.28,
        44.59,
        "a start of 10-23 15:14:56, published by its user",
        H200,
        0.9,
        HOPPER,
        LARGE,
        TWO,
    ),
    Log(
        "Qwen2.5-7B, L40S",
        (0, 22),
        QWEN_2_5_7B,
        14.29,
        26.32,
        "a start of 09-03 03:39:29, published by its user",
        L40S,
        0.95,
        ADA,
        SMALL,
    ),
    Log(
        "Qwen3.5-4B, L40S",
        (0, 22),
        QWEN_3_5_4B,
        8.61,
        11.11,
        "a start of 06-04 12:28:23, published by its user",
        L40S,
        0.5,
        ADA,
        MIDDLE,
    ),
    Log(
        "Qwen3.5-9B, L40S",
        (0, 19),
        QWEN_3_5_9B,
        17.66,
        20.27,
        "a start of 04-07 02:46:21, published by its user",
        L40S,
        0.9,
        ADA,
        MIDDLE,
    ),
    Log(
        "Qwen3-8B, RTX A5000",
        (0, 21),
        QWEN_3_8B,
        15.27,
        6.37,
        "LMCache/LMCache issue 3430",
        23.52,
        0.9764,
        GEFORCE_30,
        SMALL,
    ),
    Log(
        "Llama-3.1-8B, A100",
        (0, 31),
        LLAMA_8B,
        15.0,
        56.21,
        "a start of 10-06 17:00:41, published by its user",
        A100,
        0.92,
        AMPERE,
        SMALL,
    ),
    Log(
        "GLM-5.2-NVFP4, 4 B200, expert parallel",
        (0, 26),
        GLM_5_2,
        106.69,
        50.62,
        "a start of 08-20 17:28:08, published by its user",
        B200,
        0.92,
        BLACKWELL,
        LARGE,
        Options(tensor=4, is_expert_parallel=True),
    ),
    Log(
        "gpt-oss-120b, 8 RTX PRO 4500",
        (0, 28),
        GPT_OSS_120B,
        9.98,
        19.0,
        "vllm-project/vllm pull request 51590",
        31.38,
        0.95,
        WORKSTATION,
        SMALL,
        Options(tensor=8),
    ),
    Log(
        "Qwen3.6-35B-A3B INT4, 2 RTX 3090",
        (0, 26),
        QWEN_3_6_35B,
        9.96,
        4.55,
        "a start on Windows with 0.26.0, published by its user",
        24.0,
        0.7,
        GEFORCE_30,
        MIDDLE,
        TWO,
    ),
]


@dataclass(frozen=True)
class Start:
    """A start of a model of the catalogue: `kv_cache` GiB were left, on GPUs with `total` MiB."""

    name: str
    model: str
    arguments: tuple[str, ...]
    total: int
    capability: tuple[int, int]
    kv_cache: float
    source: str
    vllm: Version
    kind: str = ""


# A block of Qwen3.5-27B and its successors is 49 MiB; 91,022 tokens of 32k are 3.59 GiB, and so on.
BLOCK = 49 / 1024
RECIPE_5090 = "vllm-project/recipes pull request 810"
ON_5090 = ("--max-model-len", "32768", "--kv-cache-dtype", "fp8", "--enforce-eager")
STARTS = [
    Start(
        "Qwen3.6-27B-FP8, H100",
        "Qwen/Qwen3.6-27B-FP8",
        ("--gpu-memory-utilization", "0.95"),
        81559,
        HOPPER,
        856 * BLOCK,
        "vllm-project/recipes pull request 551",
        (0, 22),
    ),
    Start(
        "Qwen3-235B-A22B-FP8, 4 H100",
        "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
        ("-tp", "4", "--gpu-memory-utilization", "0.9"),
        81559,
        HOPPER,
        8.11,
        "vllm-project/vllm issue 21348",
        (0, 10),
    ),
    Start(
        "gpt-oss-120b, H100",
        "openai/gpt-oss-120b",
        ("--gpu-memory-utilization", "0.95", "--max-num-batched-tokens", "1024"),
        81559,
        HOPPER,
        1.71,
        "vllm-project/vllm issue 27508",
        (0, 11),
    ),
    Start(
        "gemma-4-26B-A4B, Thor",
        "google/gemma-4-26B-A4B-it",
        ("--gpu-memory-utilization", "0.85"),
        125772,
        (11, 0),
        51.6,
        "findings of November 2026, a start of April 2026",
        (0, 19),
    ),
    Start(
        "Qwen3.8-27B-NVFP4, RTX 5090",
        "Inferact/Qwen3.8-27B-NVFP4",
        ON_5090,
        32607,
        WORKSTATION,
        3.59,
        RECIPE_5090,
        (0, 26),
    ),
    Start(
        "the same, text only",
        "Inferact/Qwen3.8-27B-NVFP4",
        (*ON_5090, "--language-model-only"),
        32607,
        WORKSTATION,
        5.36,
        RECIPE_5090,
        (0, 26),
    ),
    Start(
        "the same, 8 requests",
        "Inferact/Qwen3.8-27B-NVFP4",
        (*ON_5090, "--language-model-only", "--max-num-seqs", "8"),
        32607,
        WORKSTATION,
        6.03,
        RECIPE_5090,
        (0, 26),
    ),
    Start(
        "Qwen3.8-27B-FP8, RTX PRO 6000",
        "Qwen/Qwen3.8-27B-FP8",
        (),
        97887,
        WORKSTATION,
        939 * BLOCK,
        "vllm-project/recipes pull request 831",
        (0, 27),
    ),
    Start(
        "Qwen3.8-27B-NVFP4, RTX PRO 6000",
        "Inferact/Qwen3.8-27B-NVFP4",
        (),
        97887,
        WORKSTATION,
        1011 * BLOCK,
        "vllm-project/recipes pull request 831",
        (0, 27),
    ),
    Start(
        "Qwen3.8-27B, RTX PRO 6000",
        "Qwen/Qwen3.8-27B",
        ("--gpu-memory-utilization", "0.95"),
        97887,
        WORKSTATION,
        556 * BLOCK,
        "vllm-project/recipes pull request 831",
        (0, 27),
    ),
]
