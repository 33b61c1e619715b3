"""The client: what leaves this machine with a request, and what the user is told when there is no answer."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from pi_cli.chat.client import Served, open_client
from pi_cli.errors import PiError

from .conversation import KEY, ask, begin
from .server import refusal, streamed

ANSWER = streamed({"content": "Done."})


def test_nothing_of_the_users_openai_account_reaches_the_pod(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    ("status", "message", "said", "hint"),
    [
        (401, "Unauthorized", "`qwen` refused the API key (401)", "PI_API_KEY"),
        (404, "The model `qwen` does not exist.", "there is no model `qwen` there", "pi list"),
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
        (400, "1 validation error:\n  'x'", "`qwen` did not answer: 1 validation error: 'x'", "pi logs qwen"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    cwd: Path, status: int, message: str, said: str, hint: str
) -> None:
    heard = ask("Hello", refusal(status, message), cwd=cwd)

    assert isinstance(heard.error, PiError)
    assert said in heard.error.message
    assert hint in (heard.error.hint or "")
    assert KEY not in str(heard.error)


def test_hints_have_the_names_that_this_model_has_here(cwd: Path) -> None:
    model = Served("qwen", pod="dc2", key_variable="TEAM_KEY")
    refused = ask("Hello", refusal(401, "Unauthorized"), cwd=cwd, model=model).error
    failed = ask("Hello", refusal(400, "no"), cwd=cwd, model=model).error

    assert refused is not None
    assert refused.hint == "set TEAM_KEY to the key that the model was started with"
    assert failed is not None
    assert failed.hint == "see why with `pi logs qwen --pod dc2`"


def test_a_server_that_fails_for_a_moment_is_asked_again(cwd: Path) -> None:
    heard = ask("Hello", refusal(500, "EngineDeadError"), ANSWER, cwd=cwd)

    assert heard.text == "Done."


def test_a_server_that_is_not_there_is_said_to_be_unreachable(cwd: Path) -> None:
    async def talk() -> None:
        nowhere = httpx2.AsyncHTTPTransport(uds=str(cwd / "none"))
        async with open_client(nowhere, api_key=KEY) as client:
            await begin(cwd, print).ask(client, "Hello")

    with pytest.raises(PiError, match="`qwen` cannot be reached"):
        asyncio.run(talk())
