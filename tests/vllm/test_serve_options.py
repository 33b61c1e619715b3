"""pi's own arguments on a vLLM that does not know them."""

import pytest

from pi_cli.planning import catalogue, plan
from pi_cli.planning.candidates import Constraints
from pi_cli.vllm import serve_options
from pi_cli.vllm.abilities import Abilities, Option, Vllm
from tests.planning import profiles

OPTIONS = tuple(Option((f"--{name}",)) for name in ("max-model-len", "tool-call-parser", "reasoning-parser"))
PARSERS = {"tool_call_parsers": frozenset({"mistral"}), "reasoning_parsers": frozenset({"qwen3"})}


def vllm(**parts: object) -> Vllm:
    return Vllm("0.28.0", Abilities("0.28.0", **parts))  # type: ignore[arg-type]


def test_a_parser_that_the_vllm_of_the_pod_lacks_is_left_out_and_said() -> None:
    profile = profiles.from_hub(8e9).on(vllm(**PARSERS))
    made = plan.make(profile, Constraints(), profiles.spaces(1), pod="dc1")
    assert "--tool-call-parser" not in made.arguments
    assert "--enable-auto-tool-choice" not in made.arguments
    assert made.arguments[:2] == ("--reasoning-parser", "qwen3")
    newer = "get a newer one with `pi pods setup dc1 --vllm release`"
    assert made.reasons[-1] == (
        f"vLLM 0.28.0 on `dc1` has no parser `hermes` for `--tool-call-parser`, so tool calls are off; {newer}"
    )


def test_an_option_that_the_vllm_of_the_pod_lacks_is_left_out_and_said() -> None:
    arguments = ("--max_model_len", "4096", "--moe-backend", "marlin", "--max-model-len.x=1")
    kept, remarks = serve_options.known(arguments, vllm(options=OPTIONS), "dc1")
    assert kept == ("--max_model_len", "4096", "--max-model-len.x=1")
    assert remarks == (
        "vLLM 0.28.0 on `dc1` has no option `--moe-backend`; get a newer one with `pi pods setup dc1 --vllm release`",
    )


def test_a_vllm_newer_than_the_release_is_not_said_to_be_old() -> None:
    newer = Vllm("0.40.0", Abilities("0.40.0", options=OPTIONS))
    assert serve_options.known(["--swap-space", "4"], newer, "dc1") == (
        (),
        ("vLLM 0.40.0 on `dc1` has no option `--swap-space`",),
    )


@pytest.mark.parametrize("of", [vllm(), Vllm("0.31.0", is_certain=False)])
def test_what_is_not_known_to_be_missing_stays(of: Vllm) -> None:
    arguments = ("--no-such-option", "--tool-call-parser", "no-such-parser")
    assert serve_options.known(arguments, of, "dc1") == (arguments, ())


def test_the_release_knows_every_argument_of_the_catalogue() -> None:
    for entry in catalogue.entries():
        for configuration in entry.hardware:
            assert serve_options.known(configuration.args, Vllm(), "dc1") == (configuration.args, ()), entry.id
