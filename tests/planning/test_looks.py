"""A vLLM that can is asked not to log pi's own looks at it."""

from dataclasses import replace

from pi_cli.planning import looks
from pi_cli.planning.plan import Plan
from pi_cli.vllm import abilities
from pi_cli.vllm.abilities import Option, Vllm

PLAN = Plan("m/m", (0,), ("--max-model-len", "auto"))
ADDED = ("--disable-access-log-for-endpoints", "/health,/metrics,/.well-known/pi-model")
OLD = Vllm("0.14.0", replace(abilities.shipped(), options=(Option(("--max-model-len",)),)), is_own=True)


def test_the_release_gets_the_option_at_the_end() -> None:
    assert looks.unlogged(PLAN, Vllm()).arguments == PLAN.arguments + ADDED


def test_a_vllm_without_the_option_or_of_unknown_abilities_does_not() -> None:
    assert looks.unlogged(PLAN, OLD) == PLAN
    assert looks.unlogged(PLAN, abilities.of("0.14.0", None)) == PLAN
    assert looks.unlogged(PLAN, abilities.of(None, None)) == PLAN


def test_what_the_user_or_the_catalogue_gave_stays() -> None:
    own = replace(PLAN, is_complete=False)
    assert looks.unlogged(own, Vllm()) == own
    given = replace(PLAN, arguments=("--disable_access_log_for_endpoints=/ping",))
    assert looks.unlogged(given, Vllm()) == given


def test_a_newer_vllm_for_the_model_counts_and_not_the_old_default() -> None:
    newer = replace(PLAN, min_vllm=abilities.shipped().version)
    assert looks.unlogged(newer, OLD).arguments[-2:] == ADDED
