"""`pi start --cors`: which pages may use a model from a browser."""

from dataclasses import replace

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import browsers
from pi_cli.planning.plan import Plan

PLAN = Plan("Qwen/Qwen3-8B", (0,), ("--max-model-len", "1000"), {"A": "b"})
LOCAL = "http://localhost:3000"


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ([LOCAL], [LOCAL]),
        ([LOCAL, "https://Chat.Example:443", LOCAL], [LOCAL, "https://chat.example"]),
        (["http://[::1]:8080", "http://a.example:80"], ["http://[::1]:8080", "http://a.example"]),
        (["*"], ["*"]),
        (["null", "chrome-extension://abcdef"], ["null", "chrome-extension://abcdef"]),
    ],
)
def test_origins_are_read_as_browsers_write_them(given: list[str], origins: list[str]) -> None:
    assert list(browsers.read(given)) == origins


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("http://localhost:3000/", "`--cors http://localhost:3000`"),
        ("https://a.example/chat?x", "`--cors https://a.example`"),
        ("a.example", "`--cors https://a.example`"),
        ("localhost:3000", "for example `--cors http://localhost:3000`"),
        ("", "for example"),
        ("http://", "for example"),
        ("https://a.example https://b.example", "for example"),
        ("https://*.example", "for example"),
        ('http://a"b', "for example"),
    ],
)
def test_what_is_not_an_origin_is_refused(text: str, hint: str) -> None:
    with pytest.raises(BadUsage, match="is not the origin of a page") as refused:
        browsers.read([text])
    assert hint in (refused.value.hint or "")


def test_the_origins_are_given_once() -> None:
    with pytest.raises(BadUsage, match="are given"):
        browsers.read([LOCAL], ["--allowed_origins", '["*"]'])


def test_vllm_and_the_guard_get_the_same_origins() -> None:
    made = browsers.let_in(PLAN, (LOCAL, "https://a.example"))
    assert made.arguments == (*PLAN.arguments, "--allowed-origins", f'["{LOCAL}", "https://a.example"]')
    assert made.environment == {"A": "b", "PI_ALLOWED_ORIGINS": f"{LOCAL} https://a.example"}
    assert browsers.let_in(PLAN, ()) == PLAN


@pytest.mark.parametrize(
    ("value", "told"),
    [('["*"]', "*"), ("[]", None), ("x", None), ('{"a": 1}', None), ("[1, null]", None), ('["a b", "c\\n"]', None)],
)
def test_the_users_own_arguments_are_understood_too(value: str, told: str | None) -> None:
    own = replace(PLAN, arguments=("--allowed-origins", value), is_complete=False)
    made = browsers.let_in(own, ())
    assert made.arguments == own.arguments
    assert made.environment.get("PI_ALLOWED_ORIGINS") == told
