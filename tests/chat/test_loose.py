"""Servers and models that are not quite the API, and are understood."""

import json
from pathlib import Path
from typing import Any

import pytest

from pi_cli.errors import PiError

from .conversation import ask
from .server import Reply, streamed

ANSWER = streamed({"content": "Done."})
CALL = {"path": "/tmp"}


def called(*pieces: dict[str, Any]) -> Reply:
    return streamed(*({"tool_calls": [{"index": 0, **piece}]} for piece in pieces))


@pytest.mark.parametrize(
    "name",
    ["ls<|channel|>commentary", "ls<|channel|>json <|message|>", "functions.ls", "functions.ls:0", " ls\n", "LS",
     "tools.ls", "default_api:ls"],
)  # fmt: skip
def test_known_malformed_names_of_tools_are_understood(cwd: Path, name: str) -> None:
    reply = called({"id": "a", "function": {"name": name, "arguments": json.dumps(CALL)}})
    outcome = ask("List", reply, ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in outcome.calls] == [("ls", CALL)]
    assert outcome.messages[1]["tool_calls"][0]["function"]["name"] == "ls"


@pytest.mark.parametrize("name", ["lsx", "functions.cat", "<|channel|>ls", ""])
def test_other_names_stay_unknown(cwd: Path, name: str) -> None:
    outcome = ask("List", called({"id": "a", "function": {"name": name, "arguments": "{}"}}), ANSWER, cwd=cwd)

    assert [result.failed for result in outcome.results] == [True]
    assert "there is no tool" in outcome.results[0].output


@pytest.mark.parametrize("tool", ["ls", "read", "rg"])
def test_a_name_in_pieces_is_put_together_and_a_repeated_one_is_not(cwd: Path, tool: str) -> None:
    pieces = [{"function": {"name": letter}} for letter in tool]
    repeated = [{"function": {"name": tool, "arguments": "{"}}, {"function": {"name": tool, "arguments": "}"}}]
    for reply in (called({"id": "a"}, *pieces, {"function": {"arguments": "{}"}}), called({"id": "a"}, *repeated)):
        assert [call.name for call in ask("List", reply, ANSWER, cwd=cwd).calls] == [tool]


@pytest.mark.parametrize("arguments", [CALL, json.dumps(json.dumps(CALL)), json.dumps(json.dumps(json.dumps(CALL)))])
def test_arguments_that_are_an_object_or_encoded_twice_are_read(cwd: Path, arguments: Any) -> None:
    outcome = ask("List", called({"id": "a", "function": {"name": "ls", "arguments": arguments}}), ANSWER, cwd=cwd)

    assert [json.loads(call.arguments) for call in outcome.calls] == [CALL]


def test_the_call_of_the_older_api_is_a_call(cwd: Path) -> None:
    reply = streamed({"function_call": {"name": "ls"}}, {"function_call": {"arguments": json.dumps(CALL)}})

    assert [(call.name, json.loads(call.arguments)) for call in ask("List", reply, ANSWER, cwd=cwd).calls] == [
        ("ls", CALL)
    ]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": [{"type": "text", "text": "Do"}, {"type": "text", "text": "ne."}]},
        {"content": None, "refusal": "Done."},
    ],
)
def test_text_in_parts_and_a_refusal_are_text(cwd: Path, delta: Any) -> None:
    assert ask("Hello", streamed(delta), cwd=cwd).text == "Done."


def test_of_several_answers_the_first_is_read(cwd: Path) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Done."}}, {"index": 1, "delta": {"content": "Also."}}]}
    body = f"data: {json.dumps(chunk)}\n\n".encode() + streamed().body

    assert ask("Hello", Reply(body), cwd=cwd).text == "Done."


@pytest.mark.parametrize(
    "block",
    ["retry: 3000", "data:", "data: ", ": ping", "id: 7\n\n: ping", "id: 7\n: ping", "event: ping",
     "event: ping\ndata:", "id: 1\nretry: 5"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_blocks_that_keep_a_stream_alive_are_not_events(cwd: Path, block: str, end: str) -> None:
    first, *rest = streamed({"content": "One, "}, {"content": "two"}).body.decode().split("\n\n")
    body = "\n\n".join([first, block, block, *rest]).replace("\n", end)
    outcome = ask("Count", Reply(body.encode()), cwd=cwd)

    assert (outcome.text, outcome.error) == ("One, two", None)


def test_a_byte_order_mark_is_left_out(cwd: Path) -> None:
    body = b"data: {}\n\n\xef\xbb\xbf" + ANSWER.body
    assert ask("Hello", Reply(body), cwd=cwd).text == "Done."


@pytest.mark.parametrize(
    "error",
    [
        {"object": "error", "message": "no memory", "type": "InternalServerError", "code": 500},
        {"error": {"message": "no memory", "code": 500}},
        {"error": "no memory"},
        {"detail": "no memory"},
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False], ids=["stream", "body"])
def test_an_error_inside_a_200_keeps_its_message(cwd: Path, error: Any, is_streamed: bool) -> None:
    text = json.dumps(error)
    outcome = ask(
        "Hello", Reply(f"data: {text}\n\ndata: [DONE]\n\n".encode() if is_streamed else text.encode()), cwd=cwd
    )

    assert isinstance(outcome.error, PiError)
    assert outcome.error.message == "`qwen` stopped answering: no memory"


def test_an_answer_in_one_piece_is_an_answer(cwd: Path) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Done."}, "finish_reason": "stop"}]}
    outcome = ask("Hello", Reply(json.dumps(body).encode()), cwd=cwd)

    assert (outcome.text, outcome.error) == ("Done.", None)
