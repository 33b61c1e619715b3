"""The client: what a request contains, and the errors when there is no answer."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from pi_cli.chat.client import ServedModel, TooLong, open_client
from pi_cli.chat.turn import Sampling
from pi_cli.errors import PiError

from .conversation import KEY, ask, begin
from .server import Reply, refusal, streamed

ANSWER = streamed({"content": "Done."})


def test_nothing_from_the_users_openai_account_reaches_the_pod(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = {
        "OPENAI_API_KEY": "sk-users-own",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-users-own",
        "OPENAI_PROJECT_ID": "proj-users-own",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_CUSTOM_HEADERS": "X-Team: team-users-own\nAuthorization: Bearer sk-custom",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    for name, value in account.items():
        monkeypatch.setenv(name, value)

    request = ask("Hello", ANSWER, cwd=cwd).requests[0]

    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert not [value for value in request.headers.values() if "users-own" in value or "sk-" in value]
    assert not [name for name in request.headers if name.startswith(("openai-", "x-"))]


@pytest.mark.parametrize(
    ("status", "message", "shown", "hint"),
    [
        (401, "Unauthorized", "`qwen` refused the API key (401)", "PI_API_KEY"),
        (404, "The model `qwen` does not exist.", "the server has no model `qwen`", "pi list"),
        (
            400,
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens.",
            "the conversation is too long for `qwen`: This model's maximum context length is 8192",
            "--context",
        ),
        (
            400,
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
            "the conversation is too long",
            "--context",
        ),
        (400, "1 validation error:\n  'x'", "the request to `qwen` failed: 1 validation error: 'x'", "pi logs qwen"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    cwd: Path, status: int, message: str, shown: str, hint: str
) -> None:
    outcome = ask("Hello", refusal(status, message), cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert shown in outcome.error.message
    assert hint in (outcome.error.hint or "")
    assert KEY not in str(outcome.error)


def test_hints_use_the_users_names_for_pod_and_key(cwd: Path) -> None:
    model = ServedModel("qwen", pod="dc2", key_variable="TEAM_KEY")
    refused = ask("Hello", refusal(401, "Unauthorized"), cwd=cwd, model=model).error
    failed = ask("Hello", refusal(400, "no"), cwd=cwd, model=model).error

    assert refused is not None
    assert refused.hint == "set TEAM_KEY to the key that the model was started with"
    assert failed is not None
    assert failed.hint == "see why with `pi logs qwen --pod dc2`"


def test_a_request_is_retried_after_a_server_error(cwd: Path) -> None:
    outcome = ask("Hello", refusal(500, "EngineDeadError"), ANSWER, cwd=cwd)

    assert outcome.text == "Done."


def test_an_unreachable_server_is_reported_as_such(cwd: Path) -> None:
    async def talk() -> None:
        nowhere = httpx2.AsyncHTTPTransport(uds=str(cwd / "none"))
        async with open_client(nowhere, api_key=KEY) as client:
            await begin(cwd, print).ask(client, "Hello")

    with pytest.raises(PiError, match="`qwen` cannot be reached"):
        asyncio.run(talk())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"data: " + b"[" * 100_000 + b"\n\n", "it sent invalid data"),
        (b"data: " + b"x" * (17 << 20), "it sent an event of more than 16 MiB"),
        ((b"data: {}\n: " + b"x" * (1 << 20) + b"\n\n") * 65, "it sent more than 64 MiB"),
    ],
    ids=["deep", "long event", "long answer"],
)
def test_what_no_answer_may_be_is_an_error(cwd: Path, body: bytes, reason: str) -> None:
    outcome = ask("Hello", Reply(body), cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert outcome.error.message.startswith(f"`qwen` stopped answering: {reason}")
    assert outcome.error.hint == "see why with `pi logs qwen`"


def test_an_error_with_a_huge_body_is_an_error_like_others(cwd: Path) -> None:
    outcome = ask("Hello", Reply(b"x" * (1 << 20), status=400), cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert outcome.error.message.startswith("the request to `qwen` failed: ")
    assert len(outcome.error.message) < 500


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens=999999 cannot be greater than max_model_len=32768. Please request fewer output tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 999999. This model's maximum context length is 32768",
    ],
)
def test_an_impossible_limit_on_the_answer_is_called_that(cwd: Path, message: str) -> None:
    outcome = ask("Hello", refusal(400, message), cwd=cwd, sampling=Sampling(max_tokens=999_999))
    without = ask("Hello", refusal(400, message), cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert outcome.error.message.startswith("`qwen` cannot answer with `--max-tokens 999999`: ")
    assert (outcome.error.exit_code, outcome.messages) == (2, [])
    assert isinstance(without.error, TooLong)
