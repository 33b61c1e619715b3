"""Where the arguments of a plan come from."""

from pi_cli.planning import looks, plan
from pi_cli.planning.candidates import Constraints, Locked
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import ModelProfile, UnknownModel
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.abilities import Vllm
from tests.planning.profiles import catalogued, from_hub, spaces

TWO = ("--tensor-parallel-size", "2")


def origins(profile: ModelProfile, count: int, constraints: Constraints | None = None) -> dict[str, str]:
    """Plan, and return the origin of each option; a value has that of its option."""
    made: Plan = plan.make(profile, constraints or Constraints(), spaces(count), pod="dc1")
    made = looks.unlogged(made, Vllm())
    assert len(made.origins) == len(made.arguments)
    found: dict[str, str] = {}
    index = 0
    for group in vllm_arguments.groups(made.arguments):
        [found[group[0]]] = set(made.origins[index : index + len(group)])
        index += len(group)
    return found


def test_a_configuration_of_the_catalogue_and_what_pi_adds_have_other_origins() -> None:
    assert origins(catalogued(("H100", 1, ("--enforce-eager",))), 1) == {
        "--enforce-eager": "catalogue",
        "--max-model-len": "planned",
        looks.OPTION: "pi",
    }


def test_what_is_derived_for_another_number_of_gpus_is_planned_but_what_is_about_the_model_is_not() -> None:
    profile = catalogued(("H100", 4, ("-tp", "4", "--trust-remote-code", "--max-num-seqs", "8")))
    found = origins(profile, 2)
    assert (found["--tensor-parallel-size"], found["--trust-remote-code"]) == ("planned", "catalogue")


def test_a_model_that_is_not_in_the_catalogue_is_planned() -> None:
    assert set(origins(from_hub(), 2).values()) == {"planned", "pi"}
    assert set(origins(UnknownModel("m/m"), 1).values()) == {"planned", "pi"}


def test_options_of_the_command_decide_theirs() -> None:
    found = origins(catalogued(("H100", 2, TWO)), 2, Constraints(gpus=2, memory=0.8, context=8192))
    options = ("--tensor-parallel-size", "--gpu-memory-utilization", "--max-model-len")
    assert [found[option] for option in options] == ["command"] * 3


def test_arguments_of_the_user_are_theirs_and_those_of_a_lock_keep_what_they_had() -> None:
    own = Constraints(own_arguments=("--max-model-len", "4096"))
    assert origins(from_hub(), 2, own) == {"--max-model-len": "command"}
    locked = Constraints(
        own_arguments=("--enforce-eager", "--revision", "a"),
        environment=(("A", "mine"),),
        locked=Locked(("catalogue", "lock", "lock"), (("A", "1"), ("B", "2")), "0.33.0"),
    )
    assert origins(from_hub(), 2, locked) == {"--enforce-eager": "catalogue", "--revision": "lock"}
    made = plan.make(from_hub(), locked, spaces(2), pod="dc1")
    assert made.environment == {"A": "mine", "B": "2"}
    assert made.min_vllm == "0.33.0"
    assert made.reasons[0] == "the vLLM arguments of the lock"
