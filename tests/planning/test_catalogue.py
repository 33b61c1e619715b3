"""How `models.md` and the user's own catalogue are read."""

import re
import time
from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue, fit, gpu_space, gpu_types, lookup, plan
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.planning.widths import Widths
from pi_cli.store import paths
from pi_cli.store.records import Gpu
from pi_cli.vllm import vllm_arguments
from tests.every import every

TEXT = paths.asset("models.md").read_text(encoding="utf-8")
ENTRIES = list(catalogue.parse(TEXT))

# What vLLM 0.32 has; `tests/engine/test_catalogue_arguments.py` asks vLLM itself.
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
ENVIRONMENT = {
    "VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER", "VLLM_DEEP_GEMM_WARMUP", "VLLM_DISABLE_COMPILE_CACHE", "VLLM_ENABLE_HPC_OPS",
    "VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_FLASHINFER_ALLREDUCE_BACKEND", "VLLM_FLOAT32_MATMUL_PRECISION",
    "VLLM_MOE_USE_DEEP_GEMM", "VLLM_USE_DEEP_GEMM", "VLLM_USE_V2_MODEL_RUNNER",
}  # fmt: skip
GONE = {"--swap-space", "--disable-log-requests", "--async-scheduling", "--enable-chunked-prefill", "--api-key"}

TYPES = {kind.name for kind, _ in gpu_types.TABLE}

# The original tables of pi, and the most requested models.
REQUESTED = {
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

SHAPE = """
[architecture]
name = "X"
heads = 1
max_context = 1
layers = [{ kind = "full", count = 1 }]
"""


def test_every_heading_has_a_block_and_every_block_a_heading() -> None:
    headings = re.findall(r"^### \[[ x]\] (.+)$", TEXT, re.MULTILINE)
    assert [entry.id.rpartition("/")[2] for entry in ENTRIES] == headings
    assert [entry.name for entry in ENTRIES] == headings


def test_no_model_is_listed_twice() -> None:
    assert len({entry.id.lower() for entry in ENTRIES}) == len(ENTRIES)


def test_the_most_requested_models_are_listed() -> None:
    assert REQUESTED - {entry.id for entry in ENTRIES} == set()


@every(ENTRIES, lambda entry: entry.id)
def test_every_model_is_described(entry: Entry) -> None:
    assert entry.family
    assert entry.about.endswith(".")
    assert entry.params_b
    most = 4.2 if entry.dtype == "float32" else 2.4
    assert 0.4 < entry.weights_gb / entry.params_b < most  # bytes per parameter, including embeddings and scales
    assert entry.dtype in {"bfloat16", "float16", "float32", "fp8", "mxfp8", "mxfp4", "nvfp4", "int4"}
    assert entry.tool_call_parser in {None, *TOOL_CALL_PARSERS}
    assert entry.reasoning_parser in {None, *REASONING_PARSERS}


def test_no_two_models_have_the_same_description() -> None:
    assert len({entry.about for entry in ENTRIES}) == len(ENTRIES)


@every(ENTRIES, lambda entry: entry.id)
def test_every_configuration_uses_the_gpus_it_counts_and_names_its_source(entry: Entry) -> None:
    for configuration in entry.hardware:
        assert vllm_arguments.gpus_requested(configuration.args) == configuration.count
        assert configuration.source
        assert set(configuration.env) <= ENVIRONMENT
        names = {vllm_arguments.name_of(argument) for argument in configuration.args}
        assert not names & (GONE | set(vllm_arguments.SET_BY_PI))
        assert ("--trust-remote-code" in names) == ("--trust-remote-code" in configuration.notes)
        assert configuration.gpus == ("any",) or all(gpu in TYPES for gpu in configuration.gpus)


@every(ENTRIES, lambda entry: entry.id)
def test_every_configuration_has_the_parsers_of_its_model(entry: Entry) -> None:
    sets_itself = entry.reasoning_parser == "openai_gptoss"  # vLLM does, for gpt-oss
    for configuration in entry.hardware:
        given = vllm_arguments.value(configuration.args, ["--tool-call-parser"])
        assert given == entry.tool_call_parser
        assert ("--enable-auto-tool-choice" in configuration.args) == (given is not None)
        assert vllm_arguments.value(configuration.args, ["--reasoning-parser"]) == (
            None if sets_itself else entry.reasoning_parser
        )


@every(ENTRIES, lambda entry: entry.id)
def test_the_context_of_every_configuration_fits_its_gpus(entry: Entry) -> None:
    """Within the accuracy of the estimate. Data parallelism is left out: what its ranks copy is a guess."""
    shape = fit.ModelShape(entry.weights_gb * 1e9, entry.dtype, entry.architecture)
    for configuration in entry.hardware:
        options = vllm_arguments.parse(configuration.args)
        for gpu in configuration.gpus:
            if gpu == "any" or options.data > 1:
                continue
            spaces = gpu_space.measure(gpu_types.parse(f"{configuration.count}x {gpu}"), {}, {})
            estimate = fit.estimate(shape, spaces, options)
            assert estimate.memory.kv_cache > 0
            assert estimate.longest is None or estimate.longest >= 0.85 * (estimate.context or 0)


@every(ENTRIES, lambda entry: entry.id)
def test_no_hardware_of_a_model_is_listed_twice(entry: Entry) -> None:
    hardware = [(configuration.count, gpu) for configuration in entry.hardware for gpu in configuration.gpus]
    assert len(set(hardware)) == len(hardware)


@every(ENTRIES, lambda entry: entry.id)
def test_the_table_in_the_prose_matches_the_block(entry: Entry) -> None:
    section = TEXT.partition(f"] {entry.name}\n")[2].partition("```toml")[0]
    rows = re.findall(r"^\| (\d+)x (.+?) \| (.+?) \|", section, re.MULTILINE)
    assert [(int(count), tuple(gpus.split(", "))) for count, gpus, _ in rows] == [
        (configuration.count, configuration.gpus) for configuration in entry.hardware
    ]
    for (_, _, context), configuration in zip(rows, entry.hardware, strict=True):
        options = vllm_arguments.parse(configuration.args)
        tokens = options.context or (entry.architecture.max_context if entry.architecture else None)
        if options.is_context_auto:
            assert context == "as much as fits"
        elif tokens:
            assert context in {f"{tokens / 1024:.0f}k", f"{tokens / 1000:.0f}k", f"{tokens / 2**20:.0f}M"}


def test_every_family_is_linked_at_the_top() -> None:
    index = TEXT.partition("Families: ")[2].partition("\n\n")[0]
    assert re.findall(r"\[(.+?)\]", index) == list(dict.fromkeys(entry.family for entry in ENTRIES))


@pytest.mark.parametrize("gpu", ["RTX 3090", "RTX 4090", "L4", "A10G"])
def test_the_first_model_of_the_readme_fits_one_gpu_of_24_gb_with_its_whole_context(gpu: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [first, *_] = re.findall(r"^    pi start (\S+) --name", readme, re.MULTILINE)
    assert f"`{first}`" in TEXT.partition("24 GB")[2].partition("\n")[0]
    entry = catalogue.find(first)
    assert entry
    assert entry.architecture
    spaces = gpu_space.measure(gpu_types.parse(f"1x {gpu}"), {}, {})
    planned = plan.make(lookup.from_catalogue(entry), Constraints(), spaces, pod="dc1")
    assert planned.fit
    assert planned.fit.context == entry.architecture.max_context


def test_the_models_advised_for_some_gpus_fit_them() -> None:
    table = TEXT.partition("| GPUs | model |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w+) of \d+ GB: (.+?) \| `(.+?)` \|", table, re.MULTILINE)
    assert len(rows) >= 6
    for count, gpus, model in rows:
        entry = catalogue.find(model)
        assert entry
        for gpu in gpus.replace(" or 4090", ", RTX 4090").split(", "):
            number = {"one": 1, "four": 4, "eight": 8}[count]
            spaces = gpu_space.measure(gpu_types.parse(f"{number}x {gpu}"), {}, {})
            planned = plan.make(lookup.from_catalogue(entry), Constraints(), spaces, pod="dc1")
            assert planned.fit
            assert planned.fit.context is None or planned.fit.context >= 100_000, model


@every(ENTRIES, lambda entry: entry.id)
def test_a_model_that_does_not_chat_has_no_parsers(entry: Entry) -> None:
    if entry.kind != "generation":
        assert entry.tool_call_parser is None
        assert entry.reasoning_parser is None
        assert not entry.speculative
    pools = [vllm_arguments.value(configuration.args, ["--runner"]) == "pooling" for configuration in entry.hardware]
    assert any(pools) <= (entry.kind in ("embedding", "reranker"))


def test_configurations_that_are_known_not_to_fit_are_not_listed() -> None:
    """Both were in the original tables: 214 GB on 141 or 160, and 960 GB on 768."""
    air = catalogue.find("zai-org/GLM-4.5-Air")
    coder = catalogue.find("Qwen/Qwen3-Coder-480B-A35B-Instruct")
    assert air
    assert coder
    least = {gpu: configuration.count for configuration in reversed(air.hardware) for gpu in configuration.gpus}
    assert (least["H100"], least["H200"]) == (4, 2)
    assert not any("H20" in configuration.gpus for configuration in coder.hardware)


def test_a_model_is_found_in_upper_or_lower_case() -> None:
    entry = catalogue.find("QWEN/qwen3-32b")
    assert entry
    assert (entry.id, entry.family, entry.is_verified) == ("Qwen/Qwen3-32B", "Qwen3", False)
    assert entry.architecture
    assert entry.architecture.heads == 64
    assert catalogue.find("Qwen/Qwen3-32") is None


def test_a_model_is_found_within_20_ms() -> None:
    """All of planning has a budget of 50 ms; counted is processor time, which other tests do not take."""

    def seconds() -> float:
        started = time.thread_time()
        catalogue.find(ENTRIES[-1].id)
        return time.thread_time() - started

    assert min(seconds() for _ in range(10)) < 0.02


def test_a_part_of_a_name_is_enough_for_a_search() -> None:
    assert {entry.id for entry in catalogue.search("gpt-oss")} == {"openai/gpt-oss-20b", "openai/gpt-oss-120b"}
    assert all("coder" in entry.id.lower() for entry in catalogue.search("qwen CODER"))
    assert catalogue.search("nothing like this") == []


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


def test_a_users_entry_replaces_ours_and_comes_first() -> None:
    own(OWN)
    entry = catalogue.find("Qwen/Qwen3-32B")
    assert entry
    assert [configuration.gpus for configuration in entry.hardware] == [("L40S",)]
    assert (entry.name, entry.about, entry.is_verified) == ("Qwen3-32B", "On our two L40S.", True)
    everything = catalogue.entries()
    assert everything[0] == entry
    assert len(everything) == len(ENTRIES)


def test_a_users_entry_is_added_to_ours() -> None:
    own(OWN.replace("qwen/qwen3-32b", "me/my-model"))
    entry = catalogue.find("me/My-Model")
    assert entry
    assert [entry.id for entry in catalogue.search("my-model")] == ["me/my-model"]
    assert "me/my-model" in catalogue.ids()
    assert catalogue.find("Qwen/Qwen3-32B") == next(entry for entry in ENTRIES if entry.id == "Qwen/Qwen3-32B")


def test_a_block_needs_no_heading() -> None:
    own(OWN[OWN.index("```") :])
    entry = catalogue.find("Qwen/Qwen3-32B")
    assert entry
    assert (entry.name, entry.about, entry.is_verified) == ("qwen3-32b", "", False)


@pytest.mark.parametrize(
    ("valid", "invalid", "line", "reason"),
    [
        ("weights_gb = 65.5", "weights_gb = = 65.5", 7, "Invalid value"),
        ("weights_gb = 65.5", "weight_gb = 65.5", 7, "`weight_gb` is not a known key; did you mean `weights_gb`?"),
        ("weights_gb = 65.5", 'weights_gb = "65"', 7, "`weights_gb` should be a number"),
        ("weights_gb = 65.5\n", "", 6, "`weights_gb` is missing"),
        ("weights_gb = 65.5", "weights_gb = 65.5\ngated = 1", 8, "`gated` should be a boolean"),
        ("weights_gb = 65.5", "weights_gb = 65.5\n[architecture]\nname = 1", 9, "`name` should be a string"),
        (
            "weights_gb = 65.5",
            'weights_gb = 65.5\nkind = "video"',
            8,
            f"`video` is not a kind of models: it should be one of {', '.join(catalogue.KINDS)}",
        ),
        (
            "weights_gb = 65.5",
            'weights_gb = 65.5\nspeculative = "mtp"',
            8,
            "`speculative` should be a JSON object, the value of `--speculative-config`",
        ),
        ("count = 2", "count = 4", 11, "`args` use 2 GPUs, and `count` is 4"),
        ("count = 2", "count = true", 11, "`count` should be an integer"),
        ("count = 2\n", "", 9, "`count` is missing"),
        ('["L40S"]', "[40]", 10, "`gpus` should be an array of strings"),
        ('["L40S"]', "[]", 10, '`gpus` should name at least one GPU, or be ["any"]'),
        (
            '"-tp", "2"',
            '"-tp", "2", "--port=1"',
            12,
            "`--port=1` is not allowed in `args`: pi chooses a free port on the pod",
        ),
        (
            "count = 2",
            "count = 2\nenv = { A = 1 }",
            12,
            "`A` in `env` should be the name of a variable, with a string as its value",
        ),
        ('args = ["-tp", "2"]\n```', 'args = ["-tp", "2"]', 5, "the block is not closed by a line of ```"),
    ],
)
def test_an_invalid_block_is_refused_with_its_file_and_line(valid: str, invalid: str, line: int, reason: str) -> None:
    assert valid in OWN
    file = own(OWN.replace(valid, invalid))
    with pytest.raises(BadUsage) as caught:
        catalogue.find("Qwen/Qwen3-32B")
    assert caught.value.message == f"`{file}`, line {line} (`qwen/qwen3-32b`): {reason}"
    with pytest.raises(BadUsage):
        catalogue.entries()


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ("[1]", "`layers` should be an array of tables"),
        ('[{ kind = "full" }]', "`count` is missing"),
        ('[{ kind = "odd", count = 1 }]', "`odd` is not a kind of layers"),
        ('[{ kind = "full", count = 1, heads = 1 }]', "`heads` is not a known key"),
    ],
)
def test_invalid_layers_are_refused(layers: str, reason: str) -> None:
    shape = f'\n[architecture]\nname = "X"\nheads = 1\nmax_context = 1\nlayers = {layers}\n'
    own(OWN.replace("weights_gb = 65.5\n", "weights_gb = 65.5\n" + shape))
    with pytest.raises(BadUsage, match=re.escape(reason)):
        catalogue.find("Qwen/Qwen3-32B")


@pytest.mark.parametrize(
    ("widths", "reason"),
    [
        ("1", "`widths` should be a table"),
        ("{ hiden = 1 }", "`hiden` is not a known key; did you mean `hidden`?"),
        ('{ hidden = "5120" }', "`hidden` should be an integer"),
    ],
)
def test_invalid_widths_are_refused(widths: str, reason: str) -> None:
    own(OWN.replace("weights_gb = 65.5\n", f"weights_gb = 65.5\n{SHAPE}widths = {widths}\n"))
    with pytest.raises(BadUsage, match=re.escape(reason)):
        catalogue.find("Qwen/Qwen3-32B")


def test_widths_are_read_and_may_be_left_out() -> None:
    own(OWN.replace("weights_gb = 65.5\n", f"weights_gb = 65.5\n{SHAPE}widths = {{ hidden = 5120 }}\n"))
    entry = catalogue.find("Qwen/Qwen3-32B")
    assert entry
    assert entry.architecture
    assert entry.architecture.widths == Widths(hidden=5120)
    own(OWN.replace("weights_gb = 65.5\n", f"weights_gb = 65.5\n{SHAPE}"))
    assert (entry := catalogue.find("Qwen/Qwen3-32B"))
    assert entry.architecture
    assert entry.architecture.widths == Widths()


def test_an_invalid_block_affects_only_its_own_model() -> None:
    own(OWN.replace("weights_gb = 65.5", "weights_gb = ="))
    assert catalogue.find("openai/gpt-oss-20b")


def test_a_block_without_an_id_is_refused_for_every_model() -> None:
    file = own(OWN.replace('id = "qwen/qwen3-32b"\n', ""))
    with pytest.raises(BadUsage) as caught:
        catalogue.find("openai/gpt-oss-20b")
    assert caught.value.message == f"`{file}`, line 6: `id` is missing"


def test_a_users_file_that_is_not_text_is_refused() -> None:
    file = own("")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadUsage, match=re.escape(f"cannot read `{file}`: ")):
        catalogue.find("openai/gpt-oss-20b")


def test_models_with_an_indexer_have_sparse_attention() -> None:
    indexed = [entry for entry in catalogue.entries() if entry.architecture and "Dsa" in entry.architecture.name]
    assert indexed
    assert {entry.attention for entry in indexed} == {"sparse"}
