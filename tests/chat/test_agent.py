"""The conversation with a model, over real HTTP with the real client, and with recorded answers of vLLM."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pi_cli.chat.client import TooLong, open_client
from pi_cli.chat.events import ChatEvent, Notice, Text, Usage
from pi_cli.chat.turn import Sampling, silence_notice
from pi_cli.errors import NoAnswer, PiError

from .conversation import KEY, ask, begin
from .server import Reply, called, recorded, refusal, serving, streamed

ANSWER = streamed({"content": "Done."})


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_reasoning_and_answer_arrive_complete_however_the_bytes_are_split(cwd: Path, piece: int) -> None:
    outcome = ask("What is 2+2?", recorded("chat_qa_contusage.sse", piece=piece), cwd=cwd)

    assert outcome.thinking.strip() == "Simple arithmetic: two plus two is four."
    assert outcome.text.strip() == "4"
    assert outcome.messages == [
        {"role": "user", "content": "What is 2+2?"},
        {"role": "assistant", "content": outcome.text},
    ]


def test_usage_has_the_servers_token_counts(cwd: Path) -> None:
    outcome = ask("What is 2+2?", recorded("chat_qa_contusage.sse"), cwd=cwd)

    assert isinstance(usage := outcome.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (6, 15)
    assert usage.seconds > 0


def test_completion_tokens_are_summed_over_the_turns(cwd: Path) -> None:
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "ls", "arguments": '{"path": "."}'}}]}
    outcome = ask("List", streamed(call, usage=(10, 5)), streamed({"content": "Ok"}, usage=(30, 2)), cwd=cwd)

    assert isinstance(usage := outcome.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (30, 7)


def test_a_server_may_omit_usage(cwd: Path) -> None:
    outcome = ask("What is 2+2?", recorded("chat_qa_nousage.sse"), cwd=cwd)

    assert outcome.text.strip() == "4"
    assert isinstance(usage := outcome.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (None, None)


@pytest.mark.parametrize("stream", ["chat_noreasoning.sse", "chat_nothink.sse"])
def test_a_model_may_answer_without_reasoning(cwd: Path, stream: str) -> None:
    outcome = ask("What is 2+2?", recorded(stream), cwd=cwd)

    assert (outcome.thinking, outcome.text.strip()) == ("", "4")


def test_the_older_field_for_reasoning_is_read(cwd: Path) -> None:
    outcome = ask("Hello", streamed({"reasoning_content": "Hm."}, {"content": "Hi"}), cwd=cwd)

    assert (outcome.thinking, outcome.text) == ("Hm.", "Hi")


@pytest.mark.parametrize("piece", [1, 11, 1 << 20])
def test_pieces_with_the_same_index_in_one_chunk_are_one_call(cwd: Path, piece: int) -> None:
    outcome = ask("List the files in /tmp/ab", recorded("chat_tool.sse", piece=piece), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in outcome.calls] == [("ls", {"path": "/tmp/ab"})]
    assert outcome.text.strip() == "Done."


def test_two_calls_in_one_turn_are_both_answered_in_order(cwd: Path) -> None:
    (cwd / "a.py").write_text("# TODO: all of it\n")
    outcome = ask("Survey /x", recorded("chat_parallel.sse"), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in outcome.calls] == [
        ("ls", {"path": "/x"}),
        ("rg", {"args": "TODO"}),
    ]
    tool_messages = outcome.requests[1].body["messages"][-2:]
    assert [message["tool_call_id"] for message in tool_messages] == [call.id for call in outcome.calls]
    assert tool_messages[0]["content"].startswith("error: /x is not open to tools")
    assert tool_messages[1]["content"] == "a.py:1:# TODO: all of it"


def test_calls_that_all_have_index_0_are_distinguished_by_id(cwd: Path) -> None:
    def call(id: str, path: str) -> dict[str, object]:
        function = {"name": "ls", "arguments": json.dumps({"path": path})}
        return {"tool_calls": [{"index": 0, "id": id, "function": function}]}

    outcome = ask("Survey", streamed(call("a", "/x"), call("b", "/y")), ANSWER, cwd=cwd)

    assert [json.loads(call.arguments)["path"] for call in outcome.calls] == ["/x", "/y"]


def test_a_turn_with_a_call_continues_even_if_its_finish_reason_is_stop(cwd: Path) -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "ls", "arguments": '{"path": "."}'}}]}
    outcome = ask("List", streamed(call, finish="stop"), ANSWER, cwd=cwd)

    assert outcome.text == "Done."
    assert outcome.calls[0].id


def test_the_model_gets_its_reasoning_its_calls_and_their_results(cwd: Path) -> None:
    (cwd / "notes.txt").write_text("remember the milk\n")
    path = str(cwd / "notes.txt")
    call = {"index": 0, "id": "call-7", "type": "function",
            "function": {"name": "read", "arguments": json.dumps({"file_path": path})}}  # fmt: skip
    outcome = ask("Read it", streamed({"reasoning": "A file."}, {"tool_calls": [call]}), ANSWER, cwd=cwd)

    assert outcome.requests[1].body["messages"][1:] == [
        {"role": "user", "content": "Read it"},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "A file.",
            "tool_calls": [{"id": "call-7", "type": "function", "function": call["function"]}],
        },
        {"role": "tool", "tool_call_id": "call-7", "content": "remember the milk"},
    ]
    assert outcome.messages == [*outcome.requests[1].body["messages"][1:], {"role": "assistant", "content": "Done."}]


def test_the_request_has_the_working_directory_and_the_tools(cwd: Path) -> None:
    request = ask("Hello", ANSWER, cwd=cwd).requests[0]

    assert request.path == "/v1/chat/completions"
    assert str(cwd) in request.body["messages"][0]["content"]
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["ls", "read", "glob", "rg"]
    assert request.body["tools"][0]["function"]["parameters"]["required"] == ["path"]


def test_without_tools_the_request_mentions_none(cwd: Path) -> None:
    request = ask("Hello", ANSWER, cwd=cwd, use_tools=False).requests[0]

    assert "tools" not in request.body
    assert "with the tools" not in request.body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("ls", '{"path": "/tm', "the arguments are not valid JSON"),
        ("ls", '["/tmp"]', "the arguments must be a JSON object; `ls` takes path, ignore"),
        ("ls", "", "`path` is missing"),
        ("ls", '{"path": null}', "`path` is missing"),
        ("ls", '{"path": 7}', "`path` must be a string, not 7"),
        ("ls", '{"path": ".", "ignore": [1]}', "`ignore` must be a list of strings"),
        ("ls", '{"path": ".", "recursive": true}', "there is no parameter `recursive`"),
        ("read", '{"file_path": "x", "offset": "many"}', "`offset` must be a whole number"),
        ("read", '{"file_path": "x", "limit": true}', "`limit` must be a whole number"),
        ("read", '{"file_path": "x", "limit": 1e400}', "`limit` must be a whole number"),
        ("bash", '{"command": "id"}', "there is no tool `bash`; there are ls, read, glob, rg"),
        ("", "{}", "there is no tool ``"),
        ("ls", "[" * 200_000, "the arguments are not valid JSON"),
        ("ls", json.dumps({"path": "\0"}), "is not a usable path"),
        ("ls", json.dumps({"path": "\ud800"}), "is not a usable path"),
        ("ls", json.dumps({"path": "a" * 100_000}), "file name too long"),
    ],
)
def test_an_invalid_call_is_returned_to_the_model_as_an_error(
    cwd: Path, name: str, arguments: str, answer: str
) -> None:
    outcome = ask("Go", called((name, arguments)), ANSWER, cwd=cwd)

    assert outcome.error is None
    assert [result.failed for result in outcome.results] == [True]
    assert answer in outcome.results[0].output
    assert outcome.text == "Done."
    sent_back = outcome.requests[1].body["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert isinstance(json.loads(sent_back), dict)


def test_a_number_written_as_a_string_is_accepted(cwd: Path) -> None:
    (cwd / "a").write_text("one\ntwo\nthree\n")
    outcome = ask("Go", called(("read", {"file_path": "a", "offset": "2", "limit": 1.0})), ANSWER, cwd=cwd)

    assert outcome.results[0].output.startswith("two\n[lines 2 to 2")


def test_the_twelfth_turn_has_to_be_the_answer(cwd: Path) -> None:
    outcome = ask("Go", *[called(("ls", {"path": "."}))] * 12, cwd=cwd)

    assert len(outcome.requests) == 12
    assert [request.body["tool_choice"] for request in outcome.requests] == ["auto"] * 11 + ["none"]
    assert len(outcome.results) == 11
    assert outcome.notices[0] == "11 turns with tools, which is the limit; asking for the answer now"


def test_of_a_thousand_calls_only_the_first_32_are_run(cwd: Path) -> None:
    outcome = ask("Go", called(*[("ls", {"path": "."})] * 1000), ANSWER, cwd=cwd)

    assert len(outcome.results) == 32
    assert outcome.notices == ["the model made 1000 tool calls at once; only the first 32 are run"]
    answers = [message["content"] for message in outcome.requests[1].body["messages"][3:]]
    assert answers[31:33] == [
        "(an empty directory)",
        "error: at most 32 calls run at once; repeat this call",
    ]
    assert len(answers) == 1000


def test_without_a_tool_parser_the_model_answers_and_a_notice_says_how_to_enable_tools(cwd: Path) -> None:
    """Fault 85."""
    wanting = refusal(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    outcome = ask("Hello", wanting, ANSWER, cwd=cwd)

    assert outcome.text == "Done."
    assert "tools" not in outcome.requests[1].body
    assert outcome.notices == [
        "`qwen` was started without a tool-call parser, so it cannot look at files",
        "to enable tools, start it with `--vllm … --enable-auto-tool-choice --tool-call-parser PARSER`",
    ]


def test_the_answer_does_not_wait_for_the_name_of_the_parser(cwd: Path) -> None:
    async def parser() -> str:
        await asyncio.Event().wait()
        return "hermes"

    async def talk() -> list[str]:
        wanting = refusal(400, "--tool-call-parser to be set")
        async with serving(wanting, ANSWER) as model, open_client(model.transport(), api_key=KEY) as client:
            events: list[ChatEvent] = []
            await begin(cwd, events.append, tool_parser=parser).ask(client, "One")
            return [event.text for event in events if isinstance(event, Notice)]

    assert asyncio.run(talk())[1].endswith("--tool-call-parser PARSER`")


def test_the_notice_names_the_parser_if_known_and_later_requests_have_no_tools(cwd: Path) -> None:
    """Fault 85."""

    async def parser() -> str:
        return "hermes"

    async def talk() -> list[bool]:
        wanting = refusal(400, "--tool-call-parser to be set")
        async with serving(wanting, ANSWER, ANSWER) as model, open_client(model.transport(), api_key=KEY) as client:
            events: list[ChatEvent] = []
            conversation = begin(cwd, events.append, tool_parser=parser)
            await conversation.ask(client, "One")
            await conversation.ask(client, "Two")
            assert [e.text for e in events if isinstance(e, Notice) and "--tool-call-parser hermes`" in e.text]
            return ["tools" in request.body for request in model.requests]

    assert asyncio.run(talk()) == [True, False, False]


def test_a_server_that_keeps_asking_for_a_parser_is_asked_only_twice(cwd: Path) -> None:
    wanting = refusal(400, "--tool-call-parser to be set")
    outcome = ask("Hello", wanting, wanting, cwd=cwd)

    assert isinstance(outcome.error, PiError)
    assert len(outcome.requests) == 2


# An answer up to its last word, without the chunk with the reason for its end.
BEGUN = streamed({"reasoning": "Hm."}, {"content": "One, two"}, finish=None).body.removesuffix(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(BEGUN, ending="cut"), "the connection was lost"),
        (Reply(BEGUN), "the stream ended early"),
        (Reply(BEGUN + b"data: [DONE]\n\n"), "the stream ended early"),
        (Reply(BEGUN + b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'), "EngineCore died"),
        (Reply(BEGUN + b"data: <html>\n\n"), "it sent invalid data"),
        (Reply(BEGUN + b"data: \xff\n\n"), "it sent invalid data"),
    ],
)
def test_an_interrupted_answer_is_kept_and_the_reason_is_shown(cwd: Path, reply: Reply, reason: str) -> None:
    """Fault 84."""
    outcome = ask("Count", reply, cwd=cwd)

    assert outcome.text == "One, two"
    assert isinstance(outcome.error, PiError)
    assert outcome.error.message.startswith(f"`qwen` stopped answering: {reason}")
    assert outcome.messages == [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, two"}]


@pytest.mark.parametrize(
    "chunk",
    [
        "null",
        "[]",
        '"text"',
        "{}",
        '{"choices": null, "usage": null}',
        '{"choices": {}, "usage": {"prompt_tokens": "many"}}',
        '{"choices": [null, {}, {"delta": null}, {"delta": []}, {"delta": {}, "finish_reason": ""}]}',
        '{"choices": [{"delta": {"content": {"text": "no"}, "reasoning": 3, "tool_calls": {}}}]}',
        '{"choices": [{"delta": {"content": null, "tool_calls": [null, []]}}]}',
    ],
)
def test_malformed_data_in_a_stream_is_skipped(cwd: Path, chunk: str) -> None:
    reply = streamed({"content": "One, "}, {"content": "two"})
    pieces = reply.body.split(b"\n\n")
    assert b"One, " in pieces[0]
    pieces.insert(1, f"data: {chunk}".encode())
    outcome = ask("Count", Reply(b"\n\n".join(pieces)), cwd=cwd)

    assert (outcome.text, outcome.thinking, outcome.calls, outcome.error) == ("One, two", "", [], None)


def test_a_call_without_an_index_is_a_call(cwd: Path) -> None:
    pieces = [{"id": "a", "function": {"name": "ls"}}, {"function": {"arguments": '{"path": "/tmp/ab"}'}}]
    outcome = ask("List", streamed(*({"tool_calls": [piece]} for piece in pieces)), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in outcome.calls] == [("ls", {"path": "/tmp/ab"})]


def test_an_answer_cut_off_at_the_token_limit_is_reported(cwd: Path) -> None:
    outcome = ask("Count", streamed({"content": "1, 2"}, finish="length"), cwd=cwd)

    assert outcome.notices == ["the answer was cut off at the token limit"]


@pytest.mark.parametrize(
    ("delta", "finish", "reason"),
    [
        ({"reasoning": "Hm."}, "stop", "it only reasoned"),
        ({"content": "\n\n"}, "stop", "it ended without text"),
        ({"reasoning": "Hm."}, "length", "the token limit was reached before there was one"),
        ({"content": "One, "}, "abort", "its server aborted it"),
        ({"content": "One, "}, "content_filter", "its server filtered it"),
    ],
)
def test_an_answer_that_is_none_is_an_error_with_its_own_code(
    cwd: Path, delta: dict[str, str], finish: str, reason: str
) -> None:
    outcome = ask("Hello", streamed(delta, finish=finish), cwd=cwd)

    assert isinstance(outcome.error, NoAnswer)
    assert (outcome.error.message, outcome.error.exit_code) == (f"`qwen` gave no answer: {reason}", 6)
    assert outcome.error.hint
    assert outcome.messages[-1]["content"] == delta.get("content", "")


ENDLESS = Reply(BEGUN, ending="hang")


def test_cancelling_closes_the_stream_and_the_server_stops(cwd: Path) -> None:
    async def talk() -> None:
        has_answered = asyncio.Event()

        def report(event: ChatEvent) -> None:
            if event == Text("One, two"):
                has_answered.set()

        async with serving(ENDLESS) as model, open_client(model.transport(), api_key=KEY) as client:
            talking = asyncio.create_task(begin(cwd, report).ask(client, "Count"))
            await has_answered.wait()
            talking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await talking
            await asyncio.wait_for(model.was_left.wait(), 5)

    asyncio.run(talk())


def test_a_broken_pipe_on_stdout_stops_the_server(cwd: Path) -> None:
    def report(event: ChatEvent) -> None:
        if isinstance(event, Text):
            raise BrokenPipeError

    async def talk() -> None:
        async with serving(ENDLESS) as model, open_client(model.transport(), api_key=KEY) as client:
            with pytest.raises(BrokenPipeError):
                await begin(cwd, report).ask(client, "Count")
            await asyncio.wait_for(model.was_left.wait(), 5)

    asyncio.run(talk())


def test_silence_is_reported_once() -> None:
    events: list[ChatEvent] = []

    async def wait() -> None:
        was_reported = asyncio.Event()

        def report(event: ChatEvent) -> None:
            events.append(event)
            was_reported.set()

        with silence_notice(report, after=0.01):
            await asyncio.wait_for(was_reported.wait(), 5)

    asyncio.run(wait())
    assert [type(event) for event in events] == [Notice]


def test_silence_is_measured_from_the_last_data() -> None:
    events: list[ChatEvent] = []

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now  # type: ignore[method-assign]

        async def let_pass(seconds: float) -> None:
            nonlocal now
            now += seconds
            for _ in range(3):
                await asyncio.sleep(0)

        with silence_notice(events.append, after=10) as data_arrived:
            for _ in range(5):
                await let_pass(9)
                data_arrived()
            assert not events
            await let_pass(11)
            await let_pass(11)
            assert len(events) == 1
            data_arrived()
            await let_pass(11)

    asyncio.run(wait())
    assert [type(event) for event in events] == [Notice, Notice]


def test_a_second_question_continues_the_conversation(cwd: Path) -> None:
    async def talk() -> list[object]:
        async with serving(ANSWER, ANSWER) as model, open_client(model.transport(), api_key=KEY) as client:
            conversation = begin(cwd, print)
            await conversation.ask(client, "One")
            await conversation.ask(client, "Two")
            json.dumps(conversation.messages)
            return [message["content"] for message in model.requests[1].body["messages"][1:]]

    assert asyncio.run(talk()) == ["One", "Done.", "Two"]


def test_lone_surrogates_reach_the_model_as_question_marks(cwd: Path) -> None:
    (cwd / "caf\udce9").touch()
    outcome = ask("caf\udce9?", called(("ls", {"path": "."})), ANSWER, cwd=cwd)

    assert outcome.requests[0].body["messages"][1]["content"] == "caf??"
    assert outcome.requests[1].body["messages"][-1]["content"] == "caf?"


def test_text_is_reported_while_the_answer_streams(cwd: Path) -> None:
    outcome = ask("Hello", streamed({"content": "a"}, {"content": "b"}), cwd=cwd)

    assert outcome.events[:2] == [Text("a"), Text("b")]


def test_sampling_and_the_users_own_system_prompt_are_passed_on(cwd: Path) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=9)
    [request] = ask("Hello", ANSWER, cwd=cwd, sampling=sampling, system="You are terse.").requests

    assert (request.body["temperature"], request.body["max_tokens"]) == (0.0, 9)
    system = request.body["messages"][0]["content"]
    assert system.startswith("You are terse. The working directory is ")
    assert str(cwd) in system


def test_unset_sampling_parameters_are_left_to_the_server(cwd: Path) -> None:
    [request] = ask("Hello", ANSWER, cwd=cwd).requests

    assert not {"temperature", "max_tokens"} & set(request.body)


def later(cwd: Path, *replies: Reply) -> list[Any]:
    """Ask a second question after a first one that failed; return the messages of the last request."""

    async def talk() -> list[Any]:
        async with serving(*replies) as model, open_client(model.transport(), api_key=KEY) as client:
            conversation = begin(cwd, print)
            with pytest.raises(PiError):
                await conversation.ask(client, "One")
            await conversation.ask(client, "Two")
            return [(message["role"], message["content"]) for message in model.requests[-1].body["messages"][1:]]

    return asyncio.run(talk())


def test_a_question_without_any_answer_is_removed_from_the_conversation(cwd: Path) -> None:
    assert later(cwd, refusal(400, "no"), ANSWER) == [("user", "Two")]


def test_after_half_an_answer_the_conversation_continues_from_there(cwd: Path) -> None:
    half = Reply(BEGUN + b"data: [DONE]\n\n")
    assert later(cwd, half, ANSWER) == [("user", "One"), ("assistant", "One, two"), ("user", "Two")]


def test_after_tool_calls_without_an_answer_roles_still_alternate(cwd: Path) -> None:
    messages = later(cwd, called(("ls", {"path": "."})), refusal(400, "no"), ANSWER)
    assert [role for role, _ in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[3] == ("assistant", "(interrupted)")


OVERFLOW = refusal(
    400, "This model's maximum context length is 4096 tokens. However, your prompt contains 30000 input tokens."
)


def test_tool_results_are_truncated_until_they_fit_the_context(cwd: Path) -> None:
    lines = [f"line {number}" for number in range(1, 2001)]
    (cwd / "long.txt").write_text("\n".join(lines))
    reading = called(("read", {"file_path": "long.txt"}))
    outcome = ask("Read it", reading, OVERFLOW, OVERFLOW, ANSWER, cwd=cwd)

    assert outcome.text == "Done."
    sent = [request.body["messages"][-1]["content"] for request in outcome.requests[1:]]
    assert len(sent[0]) > len(sent[1]) > len(sent[2]) > 1000
    *kept, note = sent[2].splitlines()
    assert kept == lines[: len(kept)]
    assert note == f"[truncated to the first {len(kept)} lines to fit the context; request less at once]"
    assert outcome.notices == ["the model's context is full: tool results were truncated"] * 2


def test_a_question_that_does_not_fit_is_removed_from_the_conversation(cwd: Path) -> None:
    assert later(cwd, OVERFLOW, ANSWER) == [("user", "Two")]


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, your prompt contains 9000 input tokens",
        "Input length (9000) exceeds model's maximum context length (8192).",
        "The engine prompt length 9000 exceeds the max_model_len 8192. Please reduce prompt.",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
    ],
)
def test_every_wording_of_vllm_for_a_full_context_is_recognised(cwd: Path, message: str) -> None:
    outcome = ask("Hello", refusal(400, message), cwd=cwd)

    assert isinstance(outcome.error, TooLong)
    assert outcome.messages == []
