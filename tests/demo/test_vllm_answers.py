"""The HTTP interface of the simulated vLLM, with one model for all tests."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.demo.model import KEY, TOOLS, Model, ready

RECORDINGS = Path(__file__).parents[1] / "chat" / "streams"
PARSERS = "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"


@pytest.fixture(scope="module")
def tiny() -> Iterator[Model]:
    with EmbeddedPod() as pod:
        yield ready(pod, f"{PARSERS} --simulate rate=2000 --max-model-len 32k", environ=f"VLLM_API_KEY={KEY}")


@pytest.fixture
def client(tiny: Model) -> Iterator[openai.OpenAI]:
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(base_url=f"{tiny.url}/v1", api_key=KEY, http_client=http, max_retries=0) as client,
    ):
        yield client


MILESTONES = [
    "version 0.32.0",
    "non-default args: {'model_tag': 'tiny/model'",
    "SIMULATED",
    "Resolved architecture: LlamaForCausalLM",
    "Using max model len 32000",
    "Initializing a V1 LLM engine (v0.32.0) with config:",
    "Starting to load model tiny/model...",
    "Loading safetensors checkpoint shards: 100% Completed | 1/1",
    "Loading weights took",
    "Model loading took",
    "Dynamo bytecode transform time:",
    "torch.compile took",
    "Available KV cache memory:",
    "GPU KV cache size:",
    "Capturing CUDA graphs",
    "Graph capturing finished in",
    "init engine (profile, create kv cache, warmup model) took",
    "Starting vLLM server on http://127.0.0.1:",
    "Application startup complete.",
]


def test_the_log_has_vllms_milestones_in_order_and_format(tiny: Model) -> None:
    log, position = tiny.log, 0
    for milestone in MILESTONES:
        position = log.find(milestone, position)
        assert position >= 0, milestone
    assert re.search(
        r"^\(APIServer pid=\d+\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[model\.py:733\] Resolved", log, re.MULTILINE
    )
    assert re.search(r"^\(EngineCore pid=\d+\) \rLoading safetensors checkpoint shards:   0%", log, re.MULTILINE)
    assert KEY not in log


def recorded(name: str) -> list[Any]:
    return [normal(event) for event in (RECORDINGS / name).read_text().split("\n\n") if event]


def normal(event: str) -> Any:
    """Return an event with the values that differ between answers replaced."""
    if event == "data: [DONE]":
        return event
    chunk = json.loads(event.removeprefix("data: "))
    chunk |= {"id": "<id>", "created": 0}
    if chunk.get("usage"):
        chunk["usage"] = sorted(chunk["usage"])
    if "system_fingerprint" in chunk:
        chunk["system_fingerprint"] = "<fingerprint>"
    for choice in chunk["choices"]:
        for call in choice["delta"].get("tool_calls", []):
            if "id" in call:
                call["id"] = re.sub("[0-9a-f]{16}$", "<id>", call["id"])
    return json.dumps(chunk)  # as text, so that the order of the keys is compared too


@pytest.mark.parametrize(
    ("recording", "request_body"),
    [
        ("chat_qa_nousage.sse", {"messages": "What is 2+2?"}),
        (
            "chat_qa_contusage.sse",
            {
                "messages": "What is 2+2?",
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
        ),
        (
            "chat_tool.sse",
            {"messages": "List the files in /tmp/ab", "tools": TOOLS, "stream_options": {"include_usage": True}},
        ),
        (
            "chat_parallel.sse",
            {"messages": "Survey /x", "tools": TOOLS, "stream_options": {"include_usage": True}},
        ),
        (
            "chat_nothink.sse",
            {"messages": "What is 2+2?", "chat_template_kwargs": {"enable_thinking": False}},
        ),
    ],
)
def test_a_stream_equals_the_recording_of_the_real_one(
    tiny: Model, recording: str, request_body: dict[str, Any]
) -> None:
    body = {"model": "tiny", "stream": True, **request_body}
    body["messages"] = [{"role": "user", "content": body["messages"]}]
    response = httpx2.post(
        f"{tiny.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [normal(event) for event in response.text.split("\n\n") if event] == recorded(recording)


def comparable_events(stream: str) -> list[Any]:
    """Return the events of `/v1/responses` without values that differ between answers, and with joined text deltas.

    The parts of the request that the server repeats are left out.
    """
    events: list[Any] = []
    for lines in filter(None, stream.split("\n\n")):
        name, data = lines.split("\n")
        event = json.loads(re.sub(r'"((rs|msg|fc|resp|chatcmpl-tool)[_-])[0-9a-f]{16}"', r'"\1<id>"', data[6:]))
        assert name == f"event: {event['type']}"
        assert event.pop("sequence_number") >= len(events)
        if whole := event.pop("response", None):
            event |= {name: whole[name] for name in ("status", "output", "model", "object")}
        if "delta" in event and events and events[-1]["type"] == event["type"]:
            events[-1]["delta"] += event["delta"]
        else:
            events.append(event)
    return events


@pytest.mark.parametrize(
    ("recording", "question"),
    [
        ("resp_qa.sse", "What is 2+2?"),
        ("resp_tool.sse", "List the files in /tmp/ab"),
        ("resp_parallel.sse", "Survey /x"),
    ],
)
def test_a_stream_of_responses_equals_the_recording_of_the_real_one(tiny: Model, recording: str, question: str) -> None:
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    body = {"model": "tiny", "stream": True, "tools": tools, "input": [{"role": "user", "content": question}]}
    response = httpx2.post(
        f"{tiny.url}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )
    assert comparable_events(response.text) == comparable_events((RECORDINGS / recording).read_text())


def test_a_response_in_one_piece_continues_with_a_tool_result(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="List the files in /srv", tools=[], max_output_tokens=5)
    assert (first.status, first.usage and first.usage.output_tokens) == ("incomplete", 5)
    second = client.responses.create(
        model="tiny",
        instructions="You are a CLI.",
        input=[
            {"role": "user", "content": "List the files in /srv"},
            {"type": "function_call", "call_id": "a", "name": "ls", "arguments": '{"path": "/srv"}'},
            {"type": "function_call_output", "call_id": "a", "output": "a.txt"},
        ],
    )
    assert second.output_text.strip() == 'Listed. The first entry in it is "a.txt"'


def test_the_openai_client_gets_reasoning_answer_and_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    thinking, answer, usage = "", "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thinking += getattr(choice.delta, "reasoning", None) or ""
            answer += choice.delta.content or ""
    assert "Paris" in thinking
    assert answer.strip() == "Paris"
    assert usage is not None
    assert usage.completion_tokens > 5


@pytest.fixture
def claude(tiny: Model) -> Iterator[anthropic.Anthropic]:
    with (
        httpx2.Client(trust_env=False) as http,
        anthropic.Anthropic(base_url=tiny.url, auth_token=KEY, http_client=http, max_retries=0) as client,
    ):
        yield client


LIST = "List the files in /srv"
LS: Any = {"name": "ls", "description": "List.", "input_schema": {"type": "object", "properties": {"path": {}}}}


def test_the_anthropic_client_gets_thinking_and_an_answer(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 100, "messages": [{"role": "user", "content": "What is 2+2?"}]}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.content[-1].model_dump()["text"].strip() == "4"
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    assert claude.messages.create(**asked | {"max_tokens": 2}).stop_reason == "max_tokens"


def test_the_anthropic_client_calls_a_tool_and_its_result_is_used(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 200, "tools": [LS]}
    conversation: Any = [{"role": "user", "content": LIST}]
    whole = claude.messages.create(**asked, messages=conversation)
    with claude.messages.stream(**asked, messages=conversation) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        call = message.content[-1].model_dump()
        assert (message.stop_reason, call["name"], call["input"]) == ("tool_use", "ls", {"path": "/srv"})
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "notes.txt"}
    conversation += [{"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    answer = claude.messages.create(**asked, messages=conversation)
    assert answer.content[-1].model_dump()["text"].strip() == 'Listed. The first entry in it is "notes.txt"'


def test_a_tool_is_called_and_its_result_used(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Find **/*.md and read the first match"}]
    for name, arguments, result in (
        ("glob", {"pattern": "**/*.md"}, 'docs/"a".md\nb.md'),
        ("read", {"file_path": "docs/"}, "# Title\ntext"),
    ):
        choice = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    choice = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS).choices[0]
    assert choice.finish_reason == "stop"
    assert (choice.message.content or "").strip() == 'Done. The file starts with this line: "# Title"'


def test_without_tools_a_call_is_plain_text(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "List the files in /x"}]
    ).choices[0]
    assert '<tool_call>\n{"name": "ls", "arguments": {"path": "/x"}}\n</tool_call>' in (choice.message.content or "")


def test_an_answer_cut_off_at_the_token_limit_has_that_finish_reason(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Count to 100"}], max_tokens=30
    ).choices[0]
    assert choice.finish_reason == "length"


def test_errors_have_the_real_messages(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=[])
    assert unknown.value.response.text == (RECORDINGS / "err_model.txt").read_text().splitlines()[0]
    with pytest.raises(openai.BadRequestError) as malformed:
        client.chat.completions.create(model="tiny", messages="x")  # type: ignore[arg-type]
    assert malformed.value.response.text == (RECORDINGS / "err_body.txt").read_text().splitlines()[0]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 32000 tokens"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 32001}])


def test_the_list_of_models_has_the_real_format_but_says_simulated(tiny: Model) -> None:
    models = httpx2.get(f"{tiny.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).json()
    real = json.loads((RECORDINGS / "models.json").read_text())
    assert models["data"][0].keys() == real["data"][0].keys()
    assert models["data"][0]["permission"][0].keys() == real["data"][0]["permission"][0].keys()
    assert models["data"][0]["owned_by"] == "vllm (simulated)"


def test_metrics_count_tokens(tiny: Model, client: openai.OpenAI) -> None:
    client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hello"}])
    metrics = httpx2.get(f"{tiny.url}/metrics", trust_env=False).text
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total")
    first_token = ("time_to_first_token_seconds_sum", "time_to_first_token_seconds_count")
    for name in (*names, "generation_tokens_total", *first_token):
        assert re.search(rf'^vllm:{name}\{{engine="0",model_name="tiny"\}} [0-9.]+$', metrics, re.MULTILINE), name
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in metrics
    assert {line.partition(" Sim")[2] for line in metrics.splitlines() if line.startswith("# HELP")} == {"ulated."}


def test_the_servers_own_key_protects_only_v1_like_the_real_one(tiny: Model) -> None:
    assert [tiny.status(path) for path in ("/v1/models", "/health", "/version", "/metrics")] == [401, 200, 200, 200]
    body = {"messages": [{"role": "user", "content": "What is 2+2?"}]}
    answer = httpx2.post(f"{tiny.url}/invocations", json=body, trust_env=False).json()
    assert answer["choices"][0]["message"]["content"].strip() == "4"


def test_every_request_is_in_the_access_log(tiny: Model) -> None:
    tiny.status("/nowhere")
    assert re.search(
        r'\(APIServer pid=\d+\) INFO:     127\.0\.0\.1:\d+ - "GET /nowhere HTTP/1\.1" 404 Not Found', tiny.log
    )
