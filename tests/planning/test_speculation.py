"""What speculative decoding in the user's own arguments adds to the estimate of the memory, and what is said of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.planning import plan, speculation
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.planning.shards import Shards
from pi_cli.planning.speculation import Speculation
from tests.planning.profiles import from_hub, spaces
from tests.properties import PROPERTY

HYBRID = Architecture(
    "X",
    24,
    (Layers("linear", 48, state_bytes=3207168), Layers("full", 16, kv_heads=4, head_dim=256)),
    262144,
    shards=Shards(mtp_layers=1),
)


@pytest.mark.parametrize(
    ("arguments", "draft"),
    [
        ((), None),
        (("--max-model-len", "1000"), None),
        (("-sc", '{"method": "mtp", "num_speculative_tokens": 3}'), Speculation("mtp", "", 3)),
        (("--speculative_config={}",), None),
        (("--speculative-config", "{broken"), None),
        (("--speculative-config", "[1]"), None),
        (("--speculative-config.method", "eagle3", "--speculative-config.model=a/b"), Speculation("eagle3", "a/b")),
        (("--speculative-config.num-speculative-tokens", "2"), Speculation(tokens=2)),
        (("--spec-method", "ngram", "--spec-tokens", "4"), Speculation("ngram", "", 4)),
        (("--spec_model", "a/b"), Speculation("", "a/b")),
        (("-sc.num_speculative_tokens=x",), Speculation()),
    ],
)
def test_every_form_is_read(arguments: tuple[str, ...], draft: Speculation | None) -> None:
    assert speculation.parse(arguments) == draft


@PROPERTY
@given(st.lists(st.text(max_size=10) | st.sampled_from(["-sc", "--spec-tokens", "-sc.", "-sc.a.b", '{"method": 1}'])))
def test_any_arguments_can_be_read(arguments: list[str]) -> None:
    draft = speculation.parse(arguments)
    assert draft is None or isinstance(draft.method, str)


def make(*arguments: str, architecture: Architecture = HYBRID) -> Plan:
    own = Constraints(("--max-num-seqs", "64", *arguments))
    return plan.make(from_hub(28.9e9, "fp8", architecture), own, spaces(1), pod="dc1")


def tokens(made: Plan) -> int:
    assert made.fit is not None
    assert made.fit.tokens is not None
    return made.fit.tokens


def test_the_layers_of_the_model_that_draft_take_a_part_of_the_kv_cache() -> None:
    alone, drafting = make(), make("-sc", '{"method": "mtp", "num_speculative_tokens": 2}')
    assert 0.8 < tokens(drafting) / tokens(alone) < 0.95
    assert any("the model's own prediction layers is counted" in reason for reason in drafting.reasons)
    assert not any("speculative" in reason for reason in alone.reasons)


def test_more_drafted_tokens_take_more_states_of_linear_layers() -> None:
    layers = speculation.with_drafts(HYBRID, Speculation("ngram", "", 4)).layers
    assert [each.states for each in layers if each.kind == "linear"] == [6]
    assert [each.count for each in layers] == [48, 16]
    assert tokens(make("--spec-method", "ngram", "--spec-tokens", "4")) < tokens(make())


def test_a_draft_model_is_said_not_to_be_counted() -> None:
    made = make("-sc", '{"method": "eagle3", "model": "someone/draft", "num_speculative_tokens": 3}')
    assert any("draft model's weights and KV cache are not counted" in reason for reason in made.reasons)


def test_drafting_without_a_model_is_said_to_take_nothing() -> None:
    dense = replace(HYBRID, layers=(Layers("full", 16, kv_heads=4, head_dim=256),))
    made = make("--spec-method=ngram", "--spec-tokens=4", architecture=dense)
    assert tokens(made) == tokens(make(architecture=dense))
    assert any("takes no memory of the GPUs" in reason for reason in made.reasons)
