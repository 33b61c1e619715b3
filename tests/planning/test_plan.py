"""On which GPUs and with which arguments a model is started, and why."""

import pytest

from pi_cli.errors import BadUsage, DoesNotFit, NoRoom
from pi_cli.planning import plan, vllm_arguments
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.fit import MeasuredMemory
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import ModelProfile
from tests.planning.profiles import known, running, spaces, unknown

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
TWO = ("--tensor-parallel-size", "2")


def make(
    profile: ModelProfile, places: list[GpuSpace], constraints: Constraints | None = None, *, is_cpu: bool = False
) -> Plan:
    return plan.make(profile, constraints or Constraints(), places, pod="dc1", is_cpu=is_cpu)


# A model of the catalogue


def test_a_known_model_takes_the_fewest_gpus_that_serve_its_whole_context_to_several_at_once() -> None:
    made = make(known(("H100", 1, ()), ("H100", 2, TWO), ("H100", 4, ("-tp", "4"))), spaces(8))
    assert made.gpus == (0, 1)
    assert made.arguments == TWO
    assert made.fit is not None
    assert made.fit.context == 131072
    assert not made.is_tight
    assert "serve its context to 2 requests or more" in made.reasons[1]


def test_where_no_number_serves_that_many_the_longest_context_is_taken_and_vllm_may_shorten_it() -> None:
    made = make(known(("H100", 1, ())), spaces(1))
    assert made.arguments == ("--max-model-len", "auto")
    assert made.is_tight
    assert made.fit is not None
    assert made.fit.context is not None
    assert 4096 < made.fit.context < 131072


def test_a_context_of_the_catalogue_that_fits_is_left_as_it_is() -> None:
    made = make(known(("H100", 1, ("--max-model-len", "16384"))), spaces(1))
    assert made.arguments == ("--max-model-len", "16384")


def test_with_fewer_free_gpus_than_the_best_the_nearest_smaller_number_is_taken() -> None:
    profile = known(("H100", 1, ()), ("H100", 2, TWO))
    made = make(profile, spaces(2, a=running("1")))
    assert made.gpus == (0,)
    assert made.beside == ()


def test_a_number_of_gpus_asked_for_is_kept_to() -> None:
    profile = known(("H100", 1, ()), ("H100", 2, TWO))
    assert make(profile, spaces(8), Constraints(gpus=1)).gpus == (0,)
    four = make(profile, spaces(8), Constraints(gpus=4))
    assert four.gpus == (0, 1, 2, 3)
    assert vllm_arguments.value(four.arguments, vllm_arguments.TENSOR_PARALLEL) == "4"
    assert four.reasons[0].startswith("derived from the catalogue's for 4x H100")


def test_what_every_configuration_has_is_derived_and_what_is_about_the_hardware_is_not() -> None:
    profile = known(
        ("H100", 1, ("--tool-call-parser", "hermes", "--max-model-len", "9000", "--enforce-eager")),
        ("H100", 2, (*TWO, "--tool-call-parser", "hermes", "--gpu-memory-utilization", "0.95")),
    )
    made = make(profile, spaces(2, "A100"))
    assert made.arguments == (*TWO, "--tool-call-parser", "hermes")


def test_a_model_of_the_catalogue_names_the_vllm_it_needs() -> None:
    profile = known(("H100", 2, TWO))
    assert make(profile, spaces(2)).min_vllm is None


# A model that is in no catalogue


def test_an_unknown_model_is_split_as_its_size_demands_with_the_parsers_of_its_architecture() -> None:
    made = make(unknown(), spaces(4))
    assert made.gpus == (0, 1)
    assert made.arguments == (*TWO, *TOOLS)
    assert made.reasons[0].startswith("computed from its weights and architecture for 2x H100")


def test_heads_decide_over_how_many_gpus_a_model_can_be_split() -> None:
    architecture = Architecture("X", 40, (Layers("full", 64, kv_heads=8, head_dim=128),), 32768)
    made = make(unknown(140e9, architecture=architecture), spaces(3))
    assert made.gpus == (0, 1)
    with pytest.raises(DoesNotFit, match="40 attention heads cannot be split over 3 GPUs"):
        make(unknown(140e9, architecture=architecture), spaces(3), Constraints(gpus=3))


def test_blocks_of_quantised_experts_that_would_be_cut_are_shared_out_whole() -> None:
    layers = (Layers("full", 62, kv_heads=8, head_dim=128),)
    architecture = Architecture("X", 96, layers, 131072, expert_size=2560, block_size=128)
    made = make(unknown(480e9, "fp8", architecture), spaces(8))
    assert vllm_arguments.value(made.arguments, vllm_arguments.TENSOR_PARALLEL) == "8"
    assert "--enable-expert-parallel" in made.arguments


def test_a_model_of_which_nothing_is_known_gets_one_gpu_and_the_context_that_vllm_finds() -> None:
    made = make(ModelProfile("someone/model", unknown="the Hub cannot be reached"), spaces(4))
    assert (made.gpus, made.arguments) == ((0,), ("--max-model-len", "auto"))
    assert made.reasons[0] == "not in the catalogue: the Hub cannot be reached"
    two = make(ModelProfile("someone/model"), spaces(4), Constraints(gpus=2, context=9000, memory=0.5))
    assert two.arguments == (*TWO, "--gpu-memory-utilization", "0.50", "--max-model-len", "9000")


# Capabilities


def test_an_older_gpu_computes_in_half_precision() -> None:
    made = make(unknown(8e9), spaces(1, "T4"))
    assert made.arguments[:2] == ("--dtype", "half")


@pytest.mark.parametrize(
    ("dtype", "kind", "needs", "has"), [("fp8", "A100", "8.9", "8.0"), ("nvfp4", "H100", "10.0", "9.0")]
)
def test_weights_that_a_gpu_cannot_compute_with_are_refused(dtype: str, kind: str, needs: str, has: str) -> None:
    with pytest.raises(DoesNotFit, match=f"{dtype.upper()} weights need compute capability {needs}, and it has {has}"):
        make(unknown(dtype=dtype), spaces(8, kind))


# What the user wishes


def test_a_context_asked_for_is_served_and_more_gpus_taken_for_it() -> None:
    made = make(unknown(), spaces(4), Constraints(context=8192))
    assert made.gpus == (0,)
    assert made.arguments[-2:] == ("--max-model-len", "8192")


def test_a_context_longer_than_the_models_is_refused() -> None:
    with pytest.raises(BadUsage, match="at most 131,072 tokens, and 200,000 are asked for"):
        make(unknown(), spaces(4), Constraints(context=200_000))


def test_a_context_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(DoesNotFit, match=r"enough for [0-9,]+ tokens of context") as caught:
        make(unknown(), spaces(1), Constraints(context=131072))
    assert "it fits with `--context " in str(caught.value.hint)


def test_a_share_of_the_memory_asked_for_is_given() -> None:
    made = make(unknown(8e9), spaces(1), Constraints(memory=0.5))
    assert vllm_arguments.value(made.arguments, vllm_arguments.MEMORY_SHARE) == "0.50"
    assert made.memory == 0.5


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(BadUsage, match="is to use 3 GPUs and `dc1` has 2"):
        make(unknown(), spaces(2), Constraints(gpus=3))


# Others on the GPUs


def test_a_second_model_on_a_gpu_gets_what_the_first_leaves() -> None:
    made = make(unknown(8e9), spaces(1, a=running("0", 0.5)))
    share = float(vllm_arguments.value(made.arguments, vllm_arguments.MEMORY_SHARE) or 0)
    assert 0.45 <= share < 0.5
    assert made.memory == share
    assert made.beside == ("a",)


def test_a_model_that_loads_counts_with_all_that_it_will_take() -> None:
    loading = make(unknown(8e9), spaces(1, used={0: 2000}, a=running("0", 0.5)))
    assert loading.memory is not None
    assert loading.memory < 0.5


def test_memory_held_by_others_is_left_to_them() -> None:
    made = make(unknown(8e9), spaces(1, used={0: 40_000}))
    assert made.memory == 0.5
    assert "shared with somebody else" in made.reasons[1]


def test_a_full_gpu_is_said_with_who_holds_it() -> None:
    """Fault 34."""
    with pytest.raises(NoRoom, match=r"GPU 0: 73\.3 of 79\.6 GiB are held by `a`") as caught:
        make(unknown(), spaces(1, a=running("0")))
    assert "pi stop a --pod dc1" in str(caught.value.hint)
    with pytest.raises(NoRoom, match="are held by nothing that pi started") as caught:
        make(unknown(), spaces(1, used={0: 75_000}))
    assert "pi ssh dc1 nvidia-smi" in str(caught.value.hint)


def test_what_cannot_fit_an_empty_pod_is_not_blamed_on_others() -> None:
    with pytest.raises(DoesNotFit, match="its weights take 130") as caught:
        make(unknown(140e9), spaces(1, a=running("0")))
    fitting = "8x L4, 8x RTX 4090, 4x L40S, 2x A100, 2x H100, 2x H200, 1x B200"
    assert f"it would fit {fitting}" in str(caught.value.hint)


def test_a_model_stays_on_gpus_of_one_kind() -> None:
    made = make(unknown(), [*spaces(1, "L4"), *spaces(3)[1:]])
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
def test_own_arguments_are_kept_and_ask_for_as_many_gpus_as_they_say(own: list[str], count: int) -> None:
    made = make(unknown(), spaces(8), Constraints(tuple(own)))
    assert len(made.gpus) == count
    assert made.arguments == tuple(own)


@pytest.mark.parametrize(
    "argument",
    ["--port", "--port=1", "--host", "--api-key", "--api-key=x", "--api_key=x", "--served-model-name", "--uds"],
)
def test_what_pi_sets_itself_cannot_be_given(argument: str) -> None:
    with pytest.raises(BadUsage, match="cannot be given after `--vllm`"):
        make(unknown(), spaces(1), Constraints((argument, "1")))


def test_own_arguments_that_ask_for_more_than_is_left_are_told_how_much_that_is() -> None:
    with pytest.raises(NoRoom) as caught:
        make(unknown(), spaces(1, a=running("0", 0.5)), Constraints(("--enforce-eager",)))
    assert "add `--gpu-memory-utilization 0.49` after `--vllm`" in str(caught.value.hint)
    with pytest.raises(NoRoom) as caught:
        make(unknown(), spaces(2, a=running("0", 0.5)), Constraints(TWO))
    assert "add `--gpu-memory-utilization 0.49` after `--vllm`" in str(caught.value.hint)
    fitting = Constraints(("--gpu-memory-utilization", "0.4"))
    assert make(unknown(), spaces(1, a=running("0", 0.5)), fitting).memory == 0.4


# Slices, processors


def test_slices_cannot_be_joined() -> None:
    """Fault 81: CUDA shows a program only one of them."""
    assert make(unknown(8e9), spaces(2, "slice")).gpus == (0,)
    for constraints in (Constraints(TWO), Constraints(gpus=2)):
        with pytest.raises(BadUsage, match="a model cannot use 2 MIG slices"):
            make(unknown(), spaces(2, "slice"), constraints)


def test_what_fits_a_card_is_not_taken_for_its_slices() -> None:
    """Fault 81."""
    with pytest.raises(DoesNotFit, match="its weights take 61"):
        make(known(("H100", 1, ())), spaces(2, "slice"))


def test_on_a_cpu_pod_a_model_gets_no_gpu() -> None:
    made = make(ModelProfile("someone/model"), [], is_cpu=True)
    assert (made.gpus, made.arguments) == ((), ("--max-model-len", "auto"))
    own = make(ModelProfile("someone/model"), [], Constraints(("-tp", "2")), is_cpu=True)
    assert (own.gpus, own.arguments) == ((), ("-tp", "2"))


def test_what_the_catalogue_has_for_gpus_only_is_refused_on_a_cpu_pod() -> None:
    with pytest.raises(DoesNotFit, match="for GPUs only, and `dc1` is a CPU pod"):
        make(known(("H100", 1, ())), [], is_cpu=True)


def test_a_small_model_of_the_catalogue_runs_on_a_cpu_pod_with_its_parsers() -> None:
    small = ModelProfile("maker/small", None, unknown(3e9).shape, "hermes", "qwen3")
    assert make(small, [], is_cpu=True).arguments == (*TOOLS, "--max-model-len", "auto")
    with pytest.raises(DoesNotFit, match="GB of weights in fp8"):
        make(unknown(3e9, "fp8"), [], is_cpu=True)


def test_a_pod_without_gpus_is_refused() -> None:
    with pytest.raises(BadUsage, match="pod `dc1` has no GPUs"):
        make(unknown(), [])


# What earlier starts have told


def test_what_an_earlier_start_told_is_used() -> None:
    before = make(unknown(), spaces(1))
    learned = ModelProfile(
        "someone/model-32b", None, unknown().shape, "hermes", "qwen3", measured={("H100", 1): MeasuredMemory(70.0)}
    )
    after = make(learned, spaces(1))
    assert before.fit is not None
    assert after.fit is not None
    assert not before.fit.is_measured
    assert after.fit.is_measured
    assert after.fit.memory.weights + after.fit.memory.overhead == pytest.approx(70.0)
    assert "the memory it needs is what an earlier start here told" in after.reasons


# The command


def test_the_command_can_be_pasted() -> None:
    made = Plan("m/m", (0, 1), ("--override-generation-config", '{"a": "b c"}'), {"X": "y z"})
    assert plan.command(made, "q", port=8001) == (
        "CUDA_VISIBLE_DEVICES=0,1 X='y z' vllm serve m/m --served-model-name q --host 0.0.0.0 --port 8001 "
        '--middleware require_key.RequireKey --override-generation-config \'{"a": "b c"}\''
    )
