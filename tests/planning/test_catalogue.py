"""`models.md`, as pi reads it, and a user's own."""

import re
import time
from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue, fit, gpu_space, gpu_types, vllm_arguments
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.store import paths
from pi_cli.store.records import Gpu

TEXT = paths.asset("models.md").read_text(encoding="utf-8")
ENTRIES = list(catalogue.parse(TEXT))
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)

# What vLLM 0.32 has; `tests/engine/test_catalogue_arguments.py` asks itself.
TOOL_CALL_PARSERS = {
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "deepseek_v41", "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite",
    "granite-20b-fc", "granite4", "hermes", "hf", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba",
    "k2_horizon", "kimi_k2", "kimi_k3", "lfm2", "ling3", "llama3_json", "llama4_json", "llama4_pythonic",
    "longcat", "mimo", "minicpm5", "minimax_m2", "minimax_m3", "mistral", "muse_glimmer", "olmo3", "openai",
    "phi4_mini_json", "plamo3", "poolside_v1", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss",
    "step3", "step3p5", "xlam",
}  # fmt: skip
REASONING_PARSERS = {
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "deepseek_v41", "ernie45",
    "gemma4", "glm45", "glm47", "granite", "granite_thinking_parser", "hf", "holo2", "hunyuan_a13b", "hy_v3",
    "hy_v4", "inkling", "k2_horizon", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "muse_glimmer", "nemotron_v3", "olmo3", "openai_gptoss",
    "plamo3", "poolside_v1", "qwen3", "seed_oss", "step3", "step3p5",
}  # fmt: skip
ENVIRONMENT = {"VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER", "VLLM_DEEP_GEMM_WARMUP", "VLLM_ENGINE_READY_TIMEOUT_S"}
GONE = {"--swap-space", "--disable-log-requests", "--async-scheduling", "--enable-chunked-prefill", "--api-key"}

TYPES = {kind.name for kind, _ in gpu_types.TABLE}

# The original tables of pi, and what people ask for most.
WANTED = {
    "Qwen/Qwen2.5-Coder-32B-Instruct", "Qwen/Qwen2.5-72B-Instruct", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B",
    "Qwen/Qwen3-32B", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct", "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
    "Qwen/Qwen3-235B-A22B-Instruct-2507", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
    "Qwen/Qwen3-Next-80B-A3B-Instruct-FP8", "Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-27B-FP8", "Qwen/Qwen3.6-27B",
    "Qwen/Qwen3.6-27B-FP8", "Qwen/Qwen3.8-27B", "Qwen/Qwen3.8-27B-FP8", "Qwen/Qwen3.6-35B-A3B",
    "Qwen/Qwen3.6-35B-A3B-FP8", "Qwen/Qwen3.5-122B-A10B-FP8", "Qwen/Qwen3.5-397B-A17B-FP8", "openai/gpt-oss-20b",
    "openai/gpt-oss-120b", "zai-org/GLM-4.5", "zai-org/GLM-4.5-FP8", "zai-org/GLM-4.5-Air",
    "zai-org/GLM-4.5-Air-FP8", "zai-org/GLM-4.6-FP8", "zai-org/GLM-4.7-FP8", "zai-org/GLM-4.7-Flash",
    "zai-org/GLM-5.2-FP8", "deepseek-ai/DeepSeek-V3-0324", "deepseek-ai/DeepSeek-R1-0528",
    "deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V4-Flash",
    "deepseek-ai/DeepSeek-V4-Pro", "moonshotai/Kimi-K2-Instruct", "moonshotai/Kimi-K2-Thinking",
    "moonshotai/Kimi-K2.5", "moonshotai/Kimi-K2.6", "moonshotai/Kimi-K2.7-Code", "MiniMaxAI/MiniMax-M2.5",
    "MiniMaxAI/MiniMax-M2.7", "MiniMaxAI/MiniMax-M3", "mistralai/Ministral-3-8B-Instruct-2512",
    "mistralai/Ministral-3-14B-Instruct-2512", "mistralai/Devstral-Small-2-24B-Instruct-2512",
    "mistralai/Devstral-2-123B-Instruct-2512", "mistralai/Mistral-Medium-3.5-128B",
    "mistralai/Mistral-Small-4-119B-2603", "mistralai/Mistral-Large-3-675B-Instruct-2512", "google/gemma-4-31B-it",
    "google/gemma-4-26B-A4B-it", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct", "nvidia/Llama-3.3-70B-Instruct-FP8", "microsoft/Phi-4-mini-instruct",
    "microsoft/phi-4", "ByteDance-Seed/Seed-OSS-36B-Instruct", "stepfun-ai/Step-3.5-Flash",
    "stepfun-ai/Step-3.7-Flash-FP8", "XiaomiMiMo/MiMo-V2-Flash", "XiaomiMiMo/MiMo-V2.5", "poolside/Laguna-XS-2.1",
}  # fmt: skip

OWN = """\
### [x] Qwen3-32B

On our two L40S.

```toml
id = "qwen/qwen3-32b"
weights_gb = 65.5

[[hardware]]
gpus = ["L40S"]
count = 2
args = ["-tp", "2"]
```
"""


def test_every_heading_of_a_model_has_a_block_and_every_block_a_heading() -> None:
    headings = re.findall(r"^### \[[ x]\] (.+)$", TEXT, re.MULTILINE)
    assert [entry.id.rpartition("/")[2] for entry in ENTRIES] == headings
    assert [entry.name for entry in ENTRIES] == headings


def test_no_model_is_there_twice() -> None:
    assert len({entry.id.lower() for entry in ENTRIES}) == len(ENTRIES)


def test_the_models_that_people_ask_for_are_there() -> None:
    assert WANTED - {entry.id for entry in ENTRIES} == set()


@EACH
def test_every_model_says_what_it_is(entry: Entry) -> None:
    assert entry.family
    assert entry.about.endswith(".")
    assert entry.params_b
    assert 0.4 < entry.weights_gb / entry.params_b < 2.4  # bytes per parameter, embeddings and scales among them
    assert entry.dtype in {"bfloat16", "fp8", "mxfp8", "mxfp4", "nvfp4", "int4"}
    assert entry.tool_call_parser in {None, *TOOL_CALL_PARSERS}
    assert entry.reasoning_parser in {None, *REASONING_PARSERS}


def test_no_two_models_are_praised_in_the_same_words() -> None:
    assert len({entry.about for entry in ENTRIES}) == len(ENTRIES)


@EACH
def test_every_configuration_uses_the_gpus_it_counts_and_names_its_source(entry: Entry) -> None:
    for configuration in entry.hardware:
        assert vllm_arguments.gpus_requested(configuration.args) == configuration.count
        assert configuration.source
        assert set(configuration.env) <= ENVIRONMENT
        names = {vllm_arguments.name_of(argument) for argument in configuration.args}
        assert not names & (GONE | set(vllm_arguments.SET_BY_PI))
        assert ("--trust-remote-code" in names) == ("--trust-remote-code" in configuration.notes)
        assert configuration.gpus == ("any",) or all(gpu in TYPES for gpu in configuration.gpus)


@EACH
def test_every_configuration_has_the_parsers_of_its_model(entry: Entry) -> None:
    sets_itself = entry.reasoning_parser == "openai_gptoss"  # vLLM does, for gpt-oss
    for configuration in entry.hardware:
        given = vllm_arguments.value(configuration.args, ["--tool-call-parser"])
        assert given == entry.tool_call_parser
        assert ("--enable-auto-tool-choice" in configuration.args) == (given is not None)
        assert vllm_arguments.value(configuration.args, ["--reasoning-parser"]) == (
            None if sets_itself else entry.reasoning_parser
        )


@EACH
def test_the_context_of_every_configuration_fits_its_gpus(entry: Entry) -> None:
    """Within what our estimate is good for. What data parallel ranks copy it can only guess."""
    shape = fit.ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture)
    for configuration in entry.hardware:
        options = vllm_arguments.parse(configuration.args)
        for gpu in configuration.gpus:
            if gpu == "any" or options.data > 1:
                continue
            spaces = gpu_space.measure(gpu_types.parse(f"{configuration.count}x {gpu}"), {}, {})
            found = fit.estimate(shape, spaces, options)
            assert found.memory.kv_cache > 0
            assert found.longest is None or found.longest >= 0.85 * (found.context or 0)


@EACH
def test_no_hardware_is_there_twice(entry: Entry) -> None:
    hardware = [(each.count, gpu) for each in entry.hardware for gpu in each.gpus]
    assert len(set(hardware)) == len(hardware)


@EACH
def test_the_table_for_people_says_what_the_block_says(entry: Entry) -> None:
    section = TEXT.partition(f"] {entry.name}\n")[2].partition("```toml")[0]
    rows = re.findall(r"^\| (\d+)x (.+?) \| (.+?) \|", section, re.MULTILINE)
    assert [(int(count), tuple(gpus.split(", "))) for count, gpus, _ in rows] == [
        (each.count, each.gpus) for each in entry.hardware
    ]
    for (_, _, context), each in zip(rows, entry.hardware, strict=True):
        options = vllm_arguments.parse(each.args)
        tokens = options.context or (entry.architecture.max_context if entry.architecture else None)
        if options.is_context_auto:
            assert context == "as much as fits"
        elif tokens:
            assert context in {f"{tokens / 1024:.0f}k", f"{tokens / 1000:.0f}k", f"{tokens / 2**20:.0f}M"}


def test_what_is_known_not_to_fit_is_not_there() -> None:
    """Both were in the original tables: 214 GB on 141 or 160, and 960 GB on 768."""
    air = catalogue.find("zai-org/GLM-4.5-Air")
    coder = catalogue.find("Qwen/Qwen3-Coder-480B-A35B-Instruct")
    assert air
    assert coder
    least = {gpu: each.count for each in reversed(air.hardware) for gpu in each.gpus}
    assert (least["H100"], least["H200"]) == (4, 2)
    assert not any("H20" in each.gpus for each in coder.hardware)


def test_a_model_is_found_in_any_spelling_of_case() -> None:
    found = catalogue.find("QWEN/qwen3-32b")
    assert found
    assert (found.id, found.family, found.is_verified) == ("Qwen/Qwen3-32B", "Qwen3", False)
    assert found.architecture
    assert found.architecture.heads == 64
    assert catalogue.find("Qwen/Qwen3-32") is None


def test_a_model_is_found_in_a_moment() -> None:
    """Planning has 50 ms for everything."""

    def seconds() -> float:
        started = time.perf_counter()
        catalogue.find(ENTRIES[-1].id)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(10)) < 0.02


def test_part_of_a_name_is_enough_to_search() -> None:
    assert {entry.id for entry in catalogue.search("gpt-oss")} == {"openai/gpt-oss-20b", "openai/gpt-oss-120b"}
    assert all("coder" in entry.id.lower() for entry in catalogue.search("qwen CODER"))
    assert catalogue.search("nothing like this") == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Qwen3-32B", "Qwen/Qwen3-32B"),
        ("openai/gpt-oss-12b", "openai/gpt-oss-120b"),
        ("moonshotai/Kimi-K2-Instuct", "moonshotai/Kimi-K2-Instruct"),
    ],
)
def test_a_misspelt_model_has_similar_ones(typed: str, meant: str) -> None:
    assert catalogue.similar(typed)[0] == meant


def test_nothing_is_similar_to_nonsense() -> None:
    assert catalogue.similar("xxxxxxxxxxxx") == []


@pytest.mark.parametrize(
    ("names", "gpus", "suits"),
    [
        (["H100"], gpu_types.parse("2x H100"), True),
        (["H100"], gpu_types.parse("1x H100"), False),
        (["H100"], gpu_types.parse("2x H100 NVL"), True),
        (["H100", "H200"], gpu_types.parse("1x H100, 1x H200"), True),
        (["H100"], gpu_types.parse("2x H200"), False),
        (["A100"], gpu_types.parse("2x A100 40GB"), False),
        (["any"], gpu_types.parse("2x T4"), True),
        (["NVIDIA X999"], [Gpu(id, "NVIDIA X999", "96GB") for id in range(2)], True),
        (["H100"], [Gpu(id, "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "40GB") for id in range(2)], False),
    ],
)
def test_a_configuration_suits_gpus_of_its_types(names: list[str], gpus: list[Gpu], *, suits: bool) -> None:
    assert Configuration(tuple(names), 2, ()).suits(gpus) == suits


def own(text: str) -> Path:
    file = paths.config_dir() / "models.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_users_own_entry_replaces_ours_and_comes_first() -> None:
    own(OWN)
    found = catalogue.find("Qwen/Qwen3-32B")
    assert found
    assert [each.gpus for each in found.hardware] == [("L40S",)]
    assert (found.name, found.about, found.is_verified) == ("Qwen3-32B", "On our two L40S.", True)
    everything = catalogue.entries()
    assert everything[0] == found
    assert len(everything) == len(ENTRIES)


def test_a_users_own_entry_is_added_to_ours() -> None:
    own(OWN.replace("qwen/qwen3-32b", "me/my-model"))
    found = catalogue.find("me/My-Model")
    assert found
    assert [entry.id for entry in catalogue.search("my-model")] == ["me/my-model"]
    assert catalogue.similar("my-model") == ["me/my-model"]
    assert catalogue.find("Qwen/Qwen3-32B") == next(entry for entry in ENTRIES if entry.id == "Qwen/Qwen3-32B")


def test_a_block_needs_no_heading() -> None:
    own(OWN[OWN.index("```") :])
    found = catalogue.find("Qwen/Qwen3-32B")
    assert found
    assert (found.name, found.about, found.is_verified) == ("qwen3-32b", "", False)


@pytest.mark.parametrize(
    ("right", "wrong", "line", "what"),
    [
        ("weights_gb = 65.5", "weights_gb = = 65.5", 7, "Invalid value"),
        ("weights_gb = 65.5", "weight_gb = 65.5", 7, "`weight_gb` is not known here; did you mean `weights_gb`?"),
        ("weights_gb = 65.5", 'weights_gb = "65"', 7, "`weights_gb` should be a number"),
        ("weights_gb = 65.5\n", "", 6, "`weights_gb` is missing"),
        ("weights_gb = 65.5", "weights_gb = 65.5\ngated = 1", 8, "`gated` should be a true or false"),
        ("weights_gb = 65.5", "weights_gb = 65.5\n[architecture]\nname = 1", 9, "`name` should be a text"),
        ("count = 2", "count = 4", 11, "`args` use 2 GPUs, and `count` is 4"),
        ("count = 2", "count = true", 11, "`count` should be a whole number"),
        ("count = 2\n", "", 9, "`count` is missing"),
        ('["L40S"]', "[40]", 10, "`gpus` should be a list of texts, each in quotes"),
        ('["L40S"]', "[]", 10, '`gpus` should name at least one GPU, or be ["any"]'),
        (
            '"-tp", "2"',
            '"-tp", "2", "--port=1"',
            12,
            "`--port=1` cannot stand in `args`: pi chooses a free port on the pod",
        ),
        (
            "count = 2",
            "count = 2\nenv = { A = 1 }",
            12,
            "`A` in `env` should be a variable's name, with a text in quotes",
        ),
        ('args = ["-tp", "2"]\n```', 'args = ["-tp", "2"]', 5, "the block is not closed by a line of ```"),
    ],
)
def test_a_broken_block_is_refused_with_its_place(right: str, wrong: str, line: int, what: str) -> None:
    assert right in OWN
    file = own(OWN.replace(right, wrong))
    with pytest.raises(BadUsage) as caught:
        catalogue.find("Qwen/Qwen3-32B")
    assert caught.value.message == f"`{file}`, line {line} (`qwen/qwen3-32b`): {what}"
    with pytest.raises(BadUsage):
        catalogue.entries()


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ("[1]", "`layers` should be a list of tables, each in braces"),
        ('[{ kind = "full" }]', "`count` is missing"),
        ('[{ kind = "odd", count = 1 }]', "`odd` is no kind of layers"),
        ('[{ kind = "full", count = 1, heads = 1 }]', "`heads` is not known here"),
    ],
)
def test_broken_layers_are_refused(layers: str, what: str) -> None:
    shape = f'\n[architecture]\nname = "X"\nheads = 1\nmax_context = 1\nlayers = {layers}\n'
    own(OWN.replace("weights_gb = 65.5\n", "weights_gb = 65.5\n" + shape))
    with pytest.raises(BadUsage, match=re.escape(what)):
        catalogue.find("Qwen/Qwen3-32B")


def test_a_broken_block_stands_in_the_way_of_its_own_model_only() -> None:
    own(OWN.replace("weights_gb = 65.5", "weights_gb = ="))
    assert catalogue.find("openai/gpt-oss-20b")


def test_a_block_without_an_id_may_be_any_model() -> None:
    file = own(OWN.replace('id = "qwen/qwen3-32b"\n', ""))
    with pytest.raises(BadUsage) as caught:
        catalogue.find("openai/gpt-oss-20b")
    assert caught.value.message == f"`{file}`, line 6: `id` is missing"


def test_a_users_file_that_is_not_text_is_refused() -> None:
    file = own("")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadUsage, match=re.escape(f"cannot read `{file}`: ")):
        catalogue.find("openai/gpt-oss-20b")
