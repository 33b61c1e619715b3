"""The conversation over `/v1/responses`, with recorded answers of vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from pi_cli.chat import responses
from pi_cli.chat.events import Usage
from pi_cli.chat.turn import Sampling
from pi_cli.errors import PiError

from .conversation import Outcome, ask
from .server import Reply, recorded, refusal


def asked(prompt: str, *replies: Reply, cwd: Path, **options: Any) -> Outcome:
    return ask(prompt, *replies, cwd=cwd, take_turn=responses.take_turn, **options)


def events(*sent: dict[str, Any]) -> Reply:
    """Return a stream in vLLM's format."""
    return Reply("".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in sent).encode())


def delta(text: str, kind: str = "response.output_text.delta") -> dict[str, Any]:
    return {"type": kind, "delta": text, "item_id": "a", "output_index": 0, "content_index": 0, "sequence_number": 1}


def completed(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "sequence_number": 9, "response": {"status": status, "output": [], **more}}


@pytest.mark.parametrize("piece", [1, 13, 1 << 20])
def test_reasoning_answer_and_usage_arrive_complete(cwd: Path, piece: int) -> None:
    outcome = asked("What is 2+2?", recorded("resp_qa.sse", piece=piece), cwd=cwd)

    assert outcome.thinking.strip() == "Simple arithmetic: two plus two is four."
    assert outcome.text.strip() == "4"
    assert isinstance(usage := outcome.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (6, 15)


def test_reasoning_call_and_result_are_sent_back_to_the_model(cwd: Path) -> None:
    outcome = asked("List the files in /tmp/ab", recorded("resp_tool.sse"), recorded("resp_qa.sse"), cwd=cwd)

    [call] = outcome.calls
    assert (call.name, json.loads(call.arguments)) == ("ls", {"path": "/tmp/ab"})
    prompt, reasoning, message, called, result = outcome.requests[1].body["input"]
    assert prompt == {"type": "message", "role": "user", "content": "List the files in /tmp/ab"}
    assert reasoning["content"] == [
        {"type": "reasoning_text", "text": "\nListing a directory is a job for the ls tool.\n"}
    ]
    assert message["content"][0]["text"] == "\n\n"
    assert called == {"type": "function_call", "call_id": call.id, "name": "ls", "arguments": call.arguments}
    assert result["type"] == "function_call_output"
    assert (result["call_id"], result["output"]) == (call.id, outcome.results[0].output)
    assert outcome.text.strip() == "4"


def test_two_calls_in_one_turn_are_both_answered(cwd: Path) -> None:
    outcome = asked("Survey /x", recorded("resp_parallel.sse"), recorded("resp_qa.sse"), cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in outcome.calls] == [
        ("ls", {"path": "/x"}),
        ("rg", {"args": "TODO"}),
    ]
    outputs = [item for item in outcome.requests[1].body["input"] if item["type"] == "function_call_output"]
    assert [item["call_id"] for item in outputs] == [call.id for call in outcome.calls]


def test_the_request_uses_the_fields_of_this_api_and_asks_the_server_to_store_nothing(cwd: Path) -> None:
    sampling = Sampling(temperature=0.5, max_tokens=7)
    [request] = asked("Hello", recorded("resp_qa.sse"), cwd=cwd, sampling=sampling).requests

    assert request.path == "/v1/responses"
    assert request.body["store"] is False
    assert (request.body["temperature"], request.body["max_output_tokens"]) == (0.5, 7)
    assert str(cwd) in request.body["instructions"]
    assert request.body["tools"][0]["name"] == "ls"
    assert request.body["tools"][0]["type"] == "function"


def test_a_call_may_arrive_in_one_piece(cwd: Path) -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "ls", "arguments": '{"path": "."}'}
    whole = {"type": "response.output_item.done", "item": item, "output_index": 0, "sequence_number": 3}
    outcome = asked("List", events(whole, completed()), events(delta("Ok"), completed()), cwd=cwd)

    assert [call.id for call in outcome.calls] == ["c1"]
    assert outcome.text == "Ok"


def test_older_names_for_reasoning_events_are_understood(cwd: Path) -> None:
    outcome = asked("Hello", events(delta("Hm.", "response.reasoning.delta"), delta("Hi"), completed()), cwd=cwd)

    assert (outcome.thinking, outcome.text) == ("Hm.", "Hi")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.of.a.later.api", "delta": {}},
        {"type": "response.output_text.delta"},
        {"type": ["response.reasoning_text.delta"], "delta": "Hm."},
        {"type": "response.reasoning_text.delta", "delta": None},
        {"type": "response.output_item.added", "output_index": 0, "item": None},
        {"type": "response.output_item.done", "item": {"type": "function_call", "name": "ls"}},
        {"type": "response.function_call_arguments.delta", "output_index": None, "delta": "{}"},
        {"type": "response.completed", "response": None},
    ],
)
def test_malformed_data_in_a_stream_is_skipped(cwd: Path, event: dict[str, Any]) -> None:
    outcome = asked("Hello", events(delta("Hel"), event, delta("lo"), completed()), cwd=cwd)

    assert (outcome.text, outcome.thinking, outcome.calls, outcome.error) == ("Hello", "", [], None)


def test_an_answer_cut_off_at_the_token_limit_is_reported(cwd: Path) -> None:
    outcome = asked("Count", events(delta("1, 2"), completed("incomplete")), cwd=cwd)

    assert outcome.notices == ["the answer was cut off at the token limit"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ([], "the stream ended early"),
        ([{"type": "response.failed", "response": {"error": {"message": "it broke", "code": "x"}}}], "it broke"),
        ([{"type": "error", "message": "EngineCore died", "code": "500"}], "EngineCore died"),
        ([{"type": "error", "error": {"message": "EngineCore died", "code": 500}}], "EngineCore died"),
    ],
)
def test_an_interrupted_answer_is_kept_and_the_reason_is_shown(
    cwd: Path, end: list[dict[str, Any]], reason: str
) -> None:
    """Fault 84."""
    outcome = asked("Count", events(delta("One, two"), *end), cwd=cwd)

    assert outcome.text == "One, two"
    assert isinstance(outcome.error, PiError)
    assert outcome.error.message == f"`qwen` stopped answering: {reason}"
    assert outcome.messages[-1] == {"role": "assistant", "content": "One, two"}


def test_a_missing_api_is_distinguished_from_a_missing_model(cwd: Path) -> None:
    missing = Reply(b'{"detail":"Not Found"}', status=404)
    outcome = asked("Hello", missing, cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert outcome.error.message == "`qwen` does not serve /v1/responses"
    assert outcome.error.hint == "leave out `--api`"


def test_a_server_without_a_tool_parser_is_asked_again_without_tools(cwd: Path) -> None:
    """Fault 85."""
    wanting = refusal(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    outcome = asked("Hello", wanting, recorded("resp_qa.sse"), cwd=cwd)

    assert outcome.text.strip() == "4"
    assert "tools" not in outcome.requests[1].body
