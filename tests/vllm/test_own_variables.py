"""The variables of `pi start --env`."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.vllm import abilities, own_variables


def test_a_value_is_given_or_taken_from_here() -> None:
    given = ["VLLM_USE_DEEP_GEMM=0", "NCCL_DEBUG=", "MY_TOKEN", "X=a=b c"]
    assert own_variables.read(given, {"MY_TOKEN": "secret"}) == {
        "VLLM_USE_DEEP_GEMM": "0",
        "NCCL_DEBUG": "",
        "MY_TOKEN": "secret",
        "X": "a=b c",
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "takes NAME=VALUE"),
        ("=1", "takes NAME=VALUE"),
        ("A-B=1", "takes NAME=VALUE"),
        ("NOT_SET_HERE", "is not set here"),
        ("HF_TOKEN=hf_x", "cannot be given"),
        ("MY_API_KEY=x", "looks like a secret"),
        ("my_password=x", "looks like a secret"),
        ("CUDA_VISIBLE_DEVICES=0", "cannot be given"),
        ("PI_MODEL_UID=0", "cannot be given"),
        ("X=a\nb", "control characters"),
        ("X=" + "x" * 20_000, "too long"),
    ],
    ids=lambda text: text[:20],
)
def test_what_cannot_be_meant_is_refused(word: str, said: str) -> None:
    with pytest.raises(BadUsage, match=said) as refusal:
        own_variables.read([word], {})
    assert refusal.value.hint
    assert "hf_x" not in f"{refusal.value.message} {refusal.value.hint}"


def test_a_misspelt_variable_of_vllm_is_refused() -> None:
    known = abilities.shipped()
    own_variables.refuse_misspelt(["VLLM_USE_DEEP_GEMM", "VLLM_SOMETHING_QUITE_NEW", "NCCL_DEBUGG"], known)
    with pytest.raises(BadUsage, match="no environment variable `VLLM_USE_DEEP_GEM`") as refusal:
        own_variables.refuse_misspelt(["VLLM_USE_DEEP_GEM"], known)
    assert refusal.value.hint == "did you mean `VLLM_USE_DEEP_GEMM`?"
