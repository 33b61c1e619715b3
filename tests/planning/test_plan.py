"""Which GPUs and arguments a model is started with, and why."""

from dataclasses import replace

import pytest

from pi_cli.errors import BadUsage, DoesNotFit, GpuProcess, HeldGpu, NoRoom
from pi_cli.planning import catalogue, lookup, plan, refusal, serve_command
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.fit import MeasuredMemory
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import ModelProfile, UnknownModel
from pi_cli.vllm import vllm_arguments
from tests.planning.profiles import DENSE_32B, catalogued, from_hub, running, spaces

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
TWO = ("--tensor-parallel-size", "2")


def make(
    profile: ModelProfile, gpus: list[GpuSpace], constraints: Constraints | None = None, *, is_cpu: bool = False
) -> Plan:
    return plan.make(profile, constraints or Constraints(), gpus, pod="dc1", is_cpu=is_cpu)


# A model of the catalogue


def test_a_catalogue_model_takes_the_fewest_gpus_that_serve_its_full_context_to_several_requests() -> None:
    made = make(catalogued(("H100", 1, ()), ("H100", 2, TWO), ("H100", 4, ("-tp", "4"))), spaces(8))
    assert made.gpus == (0, 1)
    assert made.arguments == TWO
    assert made.fit is not None
    assert made.fit.context == 131072
    assert not made.is_tight
    assert "serve its full context to 2 or more requests" in made.reasons[1]


def test_where_no_number_of_gpus_does_that_the_longest_context_wins_and_vllm_may_shorten_it() -> None:
    made = make(catalogued(("H100", 1, ())), spaces(1))
    assert made.arguments == ("--max-model-len", "auto")
    assert made.is_tight
    assert made.fit is not None
    assert made.fit.context is not None
    assert 4096 < made.fit.context < 131072
    assert f"about {made.fit.context:,} of the model's 131,072 tokens fit" in made.reasons[-1]


def test_a_context_from_the_catalogue_that_fits_is_not_changed() -> None:
    made = make(catalogued(("H100", 1, ("--max-model-len", "16384"))), spaces(1))
    assert made.arguments == ("--max-model-len", "16384")


def test_gpt_oss_on_one_h100_lets_vllm_choose_the_context() -> None:
    """A public log has 1.71 GiB for its KV cache, less than half of what its full context needs (`overhead_logs`)."""
    entry = catalogue.find("openai/gpt-oss-120b")
    assert entry
    made = make(lookup.from_catalogue(entry), spaces(1))
    assert vllm_arguments.value(made.arguments, vllm_arguments.CONTEXT_LENGTH) == "auto"
    assert made.fit
    assert made.fit.memory.kv_cache < 3 * made.fit.error
    [reason] = [reason for reason in made.reasons if reason.startswith("--max-model-len auto")]
    assert reason == "--max-model-len auto: its 131,072 tokens fit if the estimate is right; vLLM serves as many as fit"


def test_a_context_that_fits_only_if_the_estimate_is_right_is_left_to_vllm_unless_the_user_asked_for_it() -> None:
    listed = ("--max-model-len", "36000")
    profile = catalogued(("H100", 1, listed), weights_gb=62)
    made = make(profile, spaces(1))
    assert made.fit
    assert made.fit.memory.kv_cache > 3 * made.fit.error
    assert (made.fit.longest or 0) > 36000
    assert made.arguments == ("--max-model-len", "auto")
    assert make(profile, spaces(1), Constraints(context=36000)).arguments == listed
    not_kv_cache = made.fit.memory.weights + made.fit.memory.overhead
    measured = replace(profile, measured={("H100", 1): MeasuredMemory(not_kv_cache)})
    assert make(measured, spaces(1)).arguments == listed


def test_a_model_with_much_room_for_requests_leaves_its_context_to_vllm_if_the_estimate_decides() -> None:
    short = Architecture("X", 32, (Layers("full", 32, kv_heads=2, head_dim=64),), 4096)
    made = make(from_hub(16e9, architecture=short), spaces(1, "L4"))
    assert made.fit
    assert (made.fit.concurrency or 0) > 2
    assert not made.is_tight
    assert made.arguments == (*TOOLS, "--max-model-len", "auto")


def test_a_plan_warns_if_the_estimate_leaves_less_than_it_may_be_wrong_by() -> None:
    made = make(from_hub(72.5e9, architecture=replace(DENSE_32B, layers=(Layers("full", 64, 1, 64),))), spaces(1))
    assert made.fit
    assert 0 < made.fit.memory.kv_cache < made.fit.error == 2.0
    left = f"{made.fit.memory.kv_cache:.1f} GiB"
    assert made.reasons[-1] == (
        f"vLLM may refuse it: the estimate leaves {left} for its KV cache, and may be wrong by 2.0 GiB"
    )


def test_with_fewer_free_gpus_than_the_best_number_a_smaller_number_is_used() -> None:
    profile = catalogued(("H100", 1, ()), ("H100", 2, TWO))
    made = make(profile, spaces(2, a=running("1")))
    assert made.gpus == (0,)
    assert made.beside == ()


def test_exactly_the_requested_number_of_gpus_is_used() -> None:
    profile = catalogued(("H100", 1, ()), ("H100", 2, TWO))
    assert make(profile, spaces(8), Constraints(gpus=1)).gpus == (0,)
    four = make(profile, spaces(8), Constraints(gpus=4))
    assert four.gpus == (0, 1, 2, 3)
    assert vllm_arguments.value(four.arguments, vllm_arguments.TENSOR_PARALLEL) == "4"
    assert four.reasons[0].startswith("derived from the catalogue's configurations for 4x H100")


KERNELS = ("--moe-backend", "flashinfer_cutlass", "--mamba-backend", "flashinfer")  # vLLM refuses the first on an A100


def test_derived_arguments_are_those_that_all_configurations_share_except_for_the_hardware() -> None:
    profile = catalogued(
        ("H100", 1, ("--tool-call-parser", "hermes", "--max-model-len", "9000", "--enforce-eager", *KERNELS)),
        ("H100", 2, (*TWO, "--tool-call-parser", "hermes", "--gpu-memory-utilization", "0.95", *KERNELS)),
    )
    made = make(profile, spaces(2, "A100"))
    assert made.arguments == (*TWO, "--tool-call-parser", "hermes")


def test_the_plan_of_a_catalogue_model_names_the_vllm_it_needs() -> None:
    profile = catalogued(("H100", 2, TWO))
    assert make(profile, spaces(2)).min_vllm is None
    assert profile.entry is not None
    newer = replace(profile, entry=replace(profile.entry, min_vllm="0.30.0"))
    assert make(newer, spaces(2)).min_vllm == "0.30.0"


# A model that is not in the catalogue


def test_a_model_of_the_hub_is_split_by_its_size_and_gets_the_parsers_of_its_architecture() -> None:
    made = make(from_hub(), spaces(4))
    assert made.gpus == (0, 1)
    assert made.arguments == (*TWO, *TOOLS)
    assert made.reasons[0].startswith("computed from its weights and architecture for 2x H100")


def test_the_number_of_attention_heads_limits_how_a_model_can_be_split() -> None:
    architecture = Architecture("X", 40, (Layers("full", 64, kv_heads=8, head_dim=128),), 32768)
    made = make(from_hub(140e9, architecture=architecture), spaces(3))
    assert made.gpus == (0, 1)
    with pytest.raises(DoesNotFit, match="40 attention heads cannot be split over 3 GPUs"):
        make(from_hub(140e9, architecture=architecture), spaces(3), Constraints(gpus=3))


def test_experts_are_not_split_where_that_would_cut_their_quantisation_blocks() -> None:
    layers = (Layers("full", 62, kv_heads=8, head_dim=128),)
    architecture = Architecture("X", 96, layers, 131072, expert_size=2560, block_size=128)
    made = make(from_hub(480e9, "fp8", architecture), spaces(8))
    assert vllm_arguments.value(made.arguments, vllm_arguments.TENSOR_PARALLEL) == "8"
    assert "--enable-expert-parallel" in made.arguments


def test_a_model_of_unknown_size_gets_one_gpu_and_the_context_that_vllm_determines() -> None:
    made = make(UnknownModel("someone/model", "the Hub cannot be reached"), spaces(4))
    assert (made.gpus, made.arguments) == ((0,), ("--max-model-len", "auto"))
    assert made.reasons[0] == "not in the catalogue: the Hub cannot be reached"
    two = make(UnknownModel("someone/model"), spaces(4), Constraints(gpus=2, context=9000, memory=0.5))
    assert two.arguments == (*TWO, "--gpu-memory-utilization", "0.50", "--max-model-len", "9000")


def test_a_plan_says_why_the_kv_cache_of_a_model_is_not_known() -> None:
    unknown = "the size of its KV cache is not known: it has no `num_hidden_layers`"
    made = make(replace(from_hub(8e9, architecture=None), unknown=unknown), spaces(1))
    assert made.fit is not None
    assert made.fit.context is None
    assert unknown in made.reasons


# Compute capabilities


def test_an_older_gpu_computes_in_half_precision() -> None:
    made = make(from_hub(8e9), spaces(1, "T4"))
    assert made.arguments[:2] == ("--dtype", "half")


@pytest.mark.parametrize(
    ("dtype", "kind", "others"),
    [
        ("fp8", "A100", "L40S or H100"),
        ("fp8", "T4", "L40S or H100"),
        ("nvfp4", "H100", "B200 or RTX PRO 6000"),
        ("nvfp4", "A100", "B200 or RTX PRO 6000"),
        ("mxfp8", "H200", "B200 or RTX PRO 6000"),
    ],
)
def test_weights_in_which_the_gpu_cannot_compute_are_planned_and_said_to_be_slower(
    dtype: str, kind: str, others: str
) -> None:
    """M2 of the findings: they were refused, though vLLM 0.32 runs them with its Marlin kernels."""
    made = make(from_hub(8e9, dtype), spaces(1, kind))
    type = dtype.upper()
    slower = f"slower than on GPUs with {type}, e.g. {others}"
    assert f"{type} weights on {kind}: vLLM computes in 16 bits (Marlin), {slower}" in made.reasons


@pytest.mark.parametrize(("dtype", "kind"), [("fp8", "H100"), ("fp8", "L4"), ("int4", "A100"), ("mxfp4", "A100")])
def test_weights_that_are_as_fast_as_elsewhere_get_no_remark(dtype: str, kind: str) -> None:
    assert not [reason for reason in make(from_hub(8e9, dtype), spaces(1, kind)).reasons if "Marlin" in reason]


def test_weights_that_vllm_cannot_run_on_the_gpu_are_refused_with_gpus_that_can() -> None:
    needs = r"vLLM 0\.32\.0 needs compute capability 8\.0 for MXFP4 weights, and it has 7\.5"
    with pytest.raises(DoesNotFit, match=needs) as caught:
        make(from_hub(8e9, "mxfp4"), spaces(8, "T4"))
    assert str(caught.value.hint).startswith("it would fit on 1x L4, ")


# Constraints


def test_a_requested_context_is_served_on_as_few_gpus_as_it_needs() -> None:
    made = make(from_hub(), spaces(4), Constraints(context=8192))
    assert made.gpus == (0,)
    assert made.arguments[-2:] == ("--max-model-len", "8192")


def test_a_context_longer_than_the_model_supports_is_refused() -> None:
    with pytest.raises(BadUsage, match="supports at most 131,072 tokens of context, 200,000 requested") as caught:
        make(from_hub(), spaces(4), Constraints(context=200_000))
    assert caught.value.hint == "leave out `--context`, or give `--context 131072`"


def test_a_context_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(DoesNotFit, match=r"enough for [0-9,]+ tokens of context") as caught:
        make(from_hub(), spaces(1), Constraints(context=131072))
    assert "it fits with `--context " in str(caught.value.hint)


def test_a_requested_share_of_the_memory_is_used() -> None:
    made = make(from_hub(8e9), spaces(1), Constraints(memory=0.5))
    assert vllm_arguments.value(made.arguments, vllm_arguments.MEMORY_SHARE) == "0.50"
    assert made.memory == 0.5


def test_a_share_of_the_memory_that_is_too_small_is_named_in_the_refusal() -> None:
    with pytest.raises(DoesNotFit, match=r"its weights take 61\.0 .* but 1x H100 offers 39\.2$") as caught:
        make(from_hub(), spaces(1), Constraints(memory=0.5))
    assert "it fits without `--memory`" in str(caught.value.hint)


def test_more_gpus_than_the_pod_has_are_refused() -> None:
    with pytest.raises(BadUsage, match="needs 3 GPUs, but `dc1` has 2"):
        make(from_hub(), spaces(2), Constraints(gpus=3))


# Other models and processes on the GPUs


def test_a_second_model_on_a_gpu_gets_what_the_first_leaves() -> None:
    made = make(from_hub(8e9), spaces(1, a=running("0", 0.5)))
    share = float(vllm_arguments.value(made.arguments, vllm_arguments.MEMORY_SHARE) or 0)
    assert 0.45 <= share < 0.5
    assert made.memory == share
    assert made.beside == ("a",)


def test_a_loading_model_counts_with_all_the_memory_that_it_will_use() -> None:
    loading = make(from_hub(8e9), spaces(1, used={0: 2000}, a=running("0", 0.5)))
    assert loading.memory is not None
    assert loading.memory < 0.5


def test_memory_used_by_other_processes_is_left_to_them() -> None:
    made = make(from_hub(8e9), spaces(1, used={0: 40_000}))
    assert made.memory == 0.5
    assert "shared with other processes" in made.reasons[1]


def test_the_refusal_of_a_full_gpu_says_what_uses_its_memory() -> None:
    """Fault 34."""
    with pytest.raises(NoRoom, match=r"GPU 0: 73\.3 of 79\.6 GiB are used by `a`") as caught:
        make(from_hub(), spaces(1, a=running("0")))
    assert "pi stop a --pod dc1" in str(caught.value.hint)
    assert caught.value.held == (HeldGpu(0, 75034, 81559, ("a",)),)
    assert caught.value.unexplained == ()
    with pytest.raises(NoRoom, match="are used by processes that pi did not start") as caught:
        make(from_hub(), spaces(1, used={0: 75_000}))
    assert "pi ssh dc1 nvidia-smi" in str(caught.value.hint)
    assert caught.value.unexplained == (HeldGpu(0, 75_000, 81559),)


def test_processes_that_are_known_are_named_with_the_command_that_stops_them() -> None:
    """Fault 34."""
    processes = (GpuProcess(4711, "python3", 70000), GpuProcess(4712, "/usr/bin/Xorg", 3403))
    error = refusal.no_room("m/m", "dc1", (HeldGpu(1, 73403, 81559, (), processes), HeldGpu(2, 70000, 81559)))
    assert str(error) == (
        "no room for `m/m` on `dc1`: GPU 1: 71.7 of 79.6 GiB are used by pid 4711 (python3: 70,000 MiB), "
        "pid 4712 (/usr/bin/Xorg: 3,403 MiB); GPU 2: 68.4 of 79.6 GiB are used by processes that pi did not start"
    )
    assert error.hint == (
        "stop the processes that you do not need with `pi ssh dc1 kill 4711 4712`; "
        "or see what uses it with `pi ssh dc1 nvidia-smi`"
    )


def test_a_name_that_pi_does_not_allow_is_in_no_command_of_the_hint() -> None:
    foreign = "q; touch ~/pwned #"
    error = refusal.no_room("m/m", "dc1", (HeldGpu(0, 75_000, 81559, (foreign,)),))
    assert "`pi stop --all --pod dc1`" in str(error.hint)
    error = refusal.no_room("m/m", "dc1", (HeldGpu(0, 75_000, 81559, (foreign, "r")),))
    assert "`pi stop r --pod dc1`" in str(error.hint)


def test_a_model_that_does_not_fit_the_empty_gpus_is_not_blamed_on_other_models() -> None:
    with pytest.raises(DoesNotFit, match="its weights take 130") as caught:
        make(from_hub(140e9), spaces(1, a=running("0")))
    fitting = "2x H100, 2x A100, 1x B200, 8x L4, 8x RTX 4090, 4x L40S, 2x H200"  # the pod's own kind first
    assert f"it would fit on {fitting}" in str(caught.value.hint)


def test_a_model_is_placed_on_gpus_of_one_kind() -> None:
    made = make(from_hub(), [*spaces(1, "L4"), *spaces(3)[1:]])
    assert made.gpus == (1, 2)


# The user's own arguments


@pytest.mark.parametrize(
    ("own", "count"),
    [
        ([], 1),
        (["--tensor-parallel-size", "4"], 4),
        (["-tp=2", "-pp", "2", "--data-parallel-size=2"], 8),
        (["--tensor_parallel_size", "2"], 2),
        (["--tensor-parallel-size"], 1),
        (["--tensor-parallel-size", "x"], 1),
    ],
)
def test_own_arguments_are_not_changed_and_determine_the_number_of_gpus(own: list[str], count: int) -> None:
    made = make(from_hub(16e9), spaces(8), Constraints(tuple(own)))
    assert len(made.gpus) == count
    assert made.arguments == tuple(own)
    assert made.obstacles == ()


@pytest.mark.parametrize(
    "argument",
    ["--port", "--port=1", "--host", "--api-key", "--api-key=x", "--api_key=x", "--served-model-name", "--uds"],
)
def test_own_arguments_cannot_set_what_pi_sets_itself(argument: str) -> None:
    with pytest.raises(BadUsage, match="cannot be given after `--vllm`"):
        make(from_hub(), spaces(1), Constraints((argument, "1")))


def test_own_arguments_that_ask_for_too_much_memory_are_refused_with_what_is_left() -> None:
    with pytest.raises(NoRoom) as caught:
        make(from_hub(), spaces(1, a=running("0", 0.5)), Constraints(("--enforce-eager",)))
    assert "add `--gpu-memory-utilization 0.49` after `--vllm`" in str(caught.value.hint)
    with pytest.raises(NoRoom) as caught:
        make(from_hub(), spaces(2, a=running("0", 0.5)), Constraints(TWO))
    assert "add `--gpu-memory-utilization 0.49` after `--vllm`" in str(caught.value.hint)
    fitting = Constraints(("--gpu-memory-utilization", "0.4"))
    small = from_hub(8e9, architecture=replace(DENSE_32B, max_context=32768))
    assert make(small, spaces(1, a=running("0", 0.5)), fitting).memory == 0.4


# MIG slices, CPU pods


def test_a_model_cannot_span_several_mig_slices() -> None:
    """Fault 81: CUDA shows a program only one of them."""
    assert make(from_hub(8e9), spaces(2, "slice")).gpus == (0,)
    for constraints in (Constraints(TWO), Constraints(gpus=2)):
        with pytest.raises(BadUsage, match="a model cannot use 2 MIG slices"):
            make(from_hub(), spaces(2, "slice"), constraints)


def test_a_configuration_for_a_whole_gpu_is_not_used_on_its_slices() -> None:
    """Fault 81."""
    with pytest.raises(DoesNotFit, match="its weights take 61"):
        make(catalogued(("H100", 1, ())), spaces(2, "slice"))


def test_on_a_cpu_pod_a_model_uses_no_gpu() -> None:
    made = make(UnknownModel("someone/model"), [], is_cpu=True)
    assert (made.gpus, made.arguments) == ((), ("--max-model-len", "auto"))
    own = make(UnknownModel("someone/model"), [], Constraints(("-tp", "2")), is_cpu=True)
    assert (own.gpus, own.arguments) == ((), ("-tp", "2"))


def test_a_large_or_quantised_model_is_refused_on_a_cpu_pod() -> None:
    with pytest.raises(DoesNotFit, match="for GPUs only, and `dc1` is a CPU pod"):
        make(catalogued(("H100", 1, ())), [], is_cpu=True)
    with pytest.raises(DoesNotFit, match="GB of weights in fp8"):
        make(from_hub(3e9, "fp8"), [], is_cpu=True)


def test_a_small_model_runs_on_a_cpu_pod_with_its_parsers() -> None:
    assert make(from_hub(3e9), [], is_cpu=True).arguments == (*TOOLS, "--max-model-len", "auto")


def test_a_pod_without_gpus_is_refused() -> None:
    with pytest.raises(BadUsage, match="pod `dc1` has no GPUs"):
        make(from_hub(), [])


# Earlier starts


def test_the_memory_that_an_earlier_start_measured_is_used() -> None:
    before = make(from_hub(), spaces(1))
    after = make(replace(from_hub(), measured={("H100", 1): MeasuredMemory(70.0)}), spaces(1))
    assert before.fit is not None
    assert after.fit is not None
    assert not before.fit.is_measured
    assert after.fit.is_measured
    assert after.fit.memory.weights + after.fit.memory.overhead == pytest.approx(70.0)
    assert "its memory was measured at an earlier start" in after.reasons


# The command


def test_the_command_can_be_pasted() -> None:
    made = Plan("m/m", (0, 1), ("--override-generation-config", '{"a": "b c"}'), {"X": "y z"})
    assert serve_command.text(made, "q", port=8001, private=False, devices={}) == (
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1 PYTHONPATH=~/.pi/lib SPT_NOENV=1 X='y z' "
        "vllm serve m/m --served-model-name q --host 0.0.0.0 --port 8001 "
        '--middleware require_key.RequireKey --override-generation-config \'{"a": "b c"}\''
    )
