"""The conversation with a model, over real HTTP and through the real client, with what vLLM really sent."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pi_cli.chat.client import TooLong, open_client
from pi_cli.chat.events import ChatEvent, Notice, Text, Usage
from pi_cli.chat.turn import Sampling, impatience
from pi_cli.errors import PiError

from .conversation import KEY, ask, begin
from .server import Reply, called, recorded, refusal, serving, streamed

ANSWER = streamed({"content": "Done."})


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_thinking_and_answer_arrive_whole_however_the_bytes_are_cut(cwd: Path, piece: int) -> None:
    heard = ask("What is 2+2?", recorded("chat_qa_contusage.sse", piece=piece), cwd=cwd)

    assert heard.thinking.strip() == "Simple arithmetic: two plus two is four."
    assert heard.text.strip() == "4"
    assert heard.messages == [
        {"role": "user", "content": "What is 2+2?"},
        {"role": "assistant", "content": heard.text},
    ]


def test_usage_counts_what_the_server_counted(cwd: Path) -> None:
    heard = ask("What is 2+2?", recorded("chat_qa_contusage.sse"), cwd=cwd)

    assert isinstance(usage := heard.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (6, 15)
    assert usage.seconds > 0


def test_usage_is_summed_over_the_turns(cwd: Path) -> None:
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "ls", "arguments": '{"path": "."}'}}]}
    heard = ask("List", streamed(call, usage=(10, 5)), streamed({"content": "Ok"}, usage=(30, 2)), cwd=cwd)

    assert isinstance(usage := heard.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (30, 7)


def test_a_server_that_counts_nothing_is_fine(cwd: Path) -> None:
    heard = ask("What is 2+2?", recorded("chat_qa_nousage.sse"), cwd=cwd)

    assert heard.text.strip() == "4"
    assert isinstance(usage := heard.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (None, None)


@pytest.mark.parametrize("stream", ["chat_noreasoning.sse", "chat_nothink.sse"])
def test_a_model_that_does_not_think_just_answers(cwd: Path, stream: str) -> None:
    heard = ask("What is 2+2?", recorded(stream), cwd=cwd)

    assert (heard.thinking, heard.text.strip()) == ("", "4")


def test_thinking_in_the_older_field_is_thinking_too(cwd: Path) -> None:
    heard = ask("Hello", streamed({"reasoning_content": "Hm."}, {"content": "Hi"}), cwd=cwd)

    assert (heard.thinking, heard.text) == ("Hm.", "Hi")


@pytest.mark.parametrize("piece", [1, 11, 1 << 20])
def test_a_tool_call_in_pieces_with_one_index_twice_in_a_chunk_is_one_call(cwd: Path, piece: int) -> None:
    heard = ask("List the files in /tmp/ab", recorded("chat_tool.sse", piece=piece), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in heard.calls] == [("ls", {"path": "/tmp/ab"})]
    assert heard.text.strip() == "Done."


def test_two_calls_in_one_turn_are_both_answered_in_their_order(cwd: Path) -> None:
    (cwd / "a.py").write_text("# TODO: all of it\n")
    heard = ask("Survey /x", recorded("chat_parallel.sse"), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in heard.calls] == [
        ("ls", {"path": "/x"}),
        ("rg", {"args": "TODO"}),
    ]
    tool_messages = heard.requests[1].body["messages"][-2:]
    assert [message["tool_call_id"] for message in tool_messages] == [call.id for call in heard.calls]
    assert "no such file or directory: /x" in tool_messages[0]["content"]
    assert tool_messages[1]["content"] == "a.py:1:# TODO: all of it"


def test_calls_that_all_have_index_0_are_told_apart_by_their_ids(cwd: Path) -> None:
    def call(id: str, path: str) -> dict[str, object]:
        function = {"name": "ls", "arguments": json.dumps({"path": path})}
        return {"tool_calls": [{"index": 0, "id": id, "function": function}]}

    heard = ask("Survey", streamed(call("a", "/x"), call("b", "/y")), ANSWER, cwd=cwd)

    assert [json.loads(call.arguments)["path"] for call in heard.calls] == ["/x", "/y"]


def test_a_turn_that_says_stop_but_holds_a_call_goes_on(cwd: Path) -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "ls", "arguments": '{"path": "."}'}}]}
    heard = ask("List", streamed(call, finish="stop"), ANSWER, cwd=cwd)

    assert heard.text == "Done."
    assert heard.calls[0].id


def test_the_model_gets_back_what_it_thought_and_called_and_what_came_of_it(cwd: Path) -> None:
    (cwd / "notes.txt").write_text("remember the milk\n")
    path = str(cwd / "notes.txt")
    call = {"index": 0, "id": "call-7", "type": "function",
            "function": {"name": "read", "arguments": json.dumps({"file_path": path})}}  # fmt: skip
    heard = ask("Read it", streamed({"reasoning": "A file."}, {"tool_calls": [call]}), ANSWER, cwd=cwd)

    assert heard.requests[1].body["messages"][1:] == [
        {"role": "user", "content": "Read it"},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "A file.",
            "tool_calls": [{"id": "call-7", "type": "function", "function": call["function"]}],
        },
        {"role": "tool", "tool_call_id": "call-7", "content": "remember the milk"},
    ]
    assert heard.messages == [*heard.requests[1].body["messages"][1:], {"role": "assistant", "content": "Done."}]


def test_the_model_is_told_where_it_is_and_which_tools_it_has(cwd: Path) -> None:
    request = ask("Hello", ANSWER, cwd=cwd).requests[0]

    assert request.path == "/v1/chat/completions"
    assert str(cwd) in request.body["messages"][0]["content"]
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["ls", "read", "glob", "rg"]
    assert request.body["tools"][0]["function"]["parameters"]["required"] == ["path"]


def test_without_tools_none_are_mentioned(cwd: Path) -> None:
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
def test_a_broken_call_goes_back_to_the_model_as_an_error(cwd: Path, name: str, arguments: str, answer: str) -> None:
    heard = ask("Go", called((name, arguments)), ANSWER, cwd=cwd)

    assert heard.error is None
    assert [result.failed for result in heard.results] == [True]
    assert answer in heard.results[0].output
    assert heard.text == "Done."
    sent_back = heard.requests[1].body["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert isinstance(json.loads(sent_back), dict)


def test_a_number_written_as_text_is_understood(cwd: Path) -> None:
    (cwd / "a").write_text("one\ntwo\nthree\n")
    heard = ask("Go", called(("read", {"file_path": "a", "offset": "2", "limit": 1.0})), ANSWER, cwd=cwd)

    assert heard.results[0].output.startswith("two\n[lines 2 to 2")


def test_after_twelve_turns_the_answer_is_demanded(cwd: Path) -> None:
    heard = ask("Go", *[called(("ls", {"path": "."}))] * 12, cwd=cwd)

    assert len(heard.requests) == 12
    assert [request.body["tool_choice"] for request in heard.requests] == ["auto"] * 11 + ["none"]
    assert len(heard.results) == 11
    assert "11 turns with tools are enough" in heard.notices[0]


def test_a_thousand_calls_at_once_are_not_all_done(cwd: Path) -> None:
    heard = ask("Go", called(*[("ls", {"path": "."})] * 1000), ANSWER, cwd=cwd)

    assert len(heard.results) == 32
    assert heard.notices == ["the model wants 1000 things at once, doing the first 32"]
    answers = [message["content"] for message in heard.requests[1].body["messages"][3:]]
    assert answers[31:33] == [
        "(an empty directory)",
        "error: only 32 calls are answered at once; ask again for this one",
    ]
    assert len(answers) == 1000


def test_a_model_without_a_tool_parser_answers_without_tools_and_says_how_to_get_them(cwd: Path) -> None:
    """Fault 85."""
    wanting = refusal(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    heard = ask("Hello", wanting, ANSWER, cwd=cwd)

    assert heard.text == "Done."
    assert "tools" not in heard.requests[1].body
    [notice] = heard.notices
    assert notice.startswith("`qwen` was started without tools, so it answers without looking at files; start it with")
    assert notice.endswith("`--vllm … --enable-auto-tool-choice --tool-call-parser PARSER`")


def test_the_parser_is_named_where_it_is_known_and_tools_are_offered_no_more(cwd: Path) -> None:
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


def test_a_server_that_never_stops_asking_for_a_parser_is_not_asked_for_ever(cwd: Path) -> None:
    wanting = refusal(400, "--tool-call-parser to be set")
    heard = ask("Hello", wanting, wanting, cwd=cwd)

    assert isinstance(heard.error, PiError)
    assert len(heard.requests) == 2


# An answer up to its last word, without the chunk that says why it ended.
BEGUN = streamed({"reasoning": "Hm."}, {"content": "One, two"}, finish=None).body.removesuffix(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(BEGUN, ending="cut"), "the connection was lost"),
        (Reply(BEGUN), "its answer ended early"),
        (Reply(BEGUN + b"data: [DONE]\n\n"), "its answer ended early"),
        (Reply(BEGUN + b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'), "EngineCore died"),
        (Reply(BEGUN + b"data: <html>\n\n"), "it sent what is no answer"),
        (Reply(BEGUN + b"data: \xff\n\n"), "it sent what is no answer"),
    ],
)
def test_an_answer_that_breaks_off_keeps_what_was_said_and_says_why(cwd: Path, reply: Reply, reason: str) -> None:
    """Fault 84."""
    heard = ask("Count", reply, cwd=cwd)

    assert heard.text == "One, two"
    assert isinstance(heard.error, PiError)
    assert heard.error.message.startswith(f"`qwen` stopped answering: {reason}")
    assert heard.messages == [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, two"}]


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
def test_what_no_model_should_send_is_passed_over(cwd: Path, chunk: str) -> None:
    reply = streamed({"content": "One, "}, {"content": "two"})
    pieces = reply.body.split(b"\n\n")
    assert b"One, " in pieces[0]
    pieces.insert(1, f"data: {chunk}".encode())
    heard = ask("Count", Reply(b"\n\n".join(pieces)), cwd=cwd)

    assert (heard.text, heard.thinking, heard.calls, heard.error) == ("One, two", "", [], None)


def test_a_call_without_a_number_is_a_call(cwd: Path) -> None:
    pieces = [{"id": "a", "function": {"name": "ls"}}, {"function": {"arguments": '{"path": "/tmp/ab"}'}}]
    heard = ask("List", streamed(*({"tool_calls": [piece]} for piece in pieces)), ANSWER, cwd=cwd)

    assert [(call.name, json.loads(call.arguments)) for call in heard.calls] == [("ls", {"path": "/tmp/ab"})]


def test_an_answer_cut_by_the_token_limit_says_so(cwd: Path) -> None:
    heard = ask("Count", streamed({"content": "1, 2"}, finish="length"), cwd=cwd)

    assert heard.notices == ["the answer is cut off: the limit of tokens was reached"]


def test_a_model_that_says_nothing_is_noticed(cwd: Path) -> None:
    heard = ask("Hello", streamed({"reasoning": "Hm."}), cwd=cwd)

    assert heard.notices == ["the model ended without an answer"]


ENDLESS = Reply(BEGUN, ending="hang")


def test_cancelling_closes_the_stream_so_that_the_server_stops(cwd: Path) -> None:
    async def talk() -> None:
        spoke = asyncio.Event()

        def report(event: ChatEvent) -> None:
            if event == Text("One, two"):
                spoke.set()

        async with serving(ENDLESS) as model, open_client(model.transport(), api_key=KEY) as client:
            talking = asyncio.create_task(begin(cwd, report).ask(client, "Count"))
            await spoke.wait()
            talking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await talking
            await asyncio.wait_for(model.was_left.wait(), 5)

    asyncio.run(talk())


def test_a_reader_who_goes_away_stops_the_server_too(cwd: Path) -> None:
    def report(event: ChatEvent) -> None:
        if isinstance(event, Text):
            raise BrokenPipeError

    async def talk() -> None:
        async with serving(ENDLESS) as model, open_client(model.transport(), api_key=KEY) as client:
            with pytest.raises(BrokenPipeError):
                await begin(cwd, report).ask(client, "Count")
            await asyncio.wait_for(model.was_left.wait(), 5)

    asyncio.run(talk())


def test_silence_is_remarked_on_once() -> None:
    events: list[ChatEvent] = []

    async def wait() -> None:
        remarked = asyncio.Event()

        def report(event: ChatEvent) -> None:
            events.append(event)
            remarked.set()

        with impatience(report, after=0.01):
            await asyncio.wait_for(remarked.wait(), 5)

    asyncio.run(wait())
    assert [type(event) for event in events] == [Notice]


def test_silence_is_measured_from_what_came_last() -> None:
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

        with impatience(events.append, after=10) as came:
            for _ in range(5):
                await let_pass(9)
                came()
            assert not events
            await let_pass(11)
            await let_pass(11)
            assert len(events) == 1
            came()
            await let_pass(11)

    asyncio.run(wait())
    assert [type(event) for event in events] == [Notice, Notice]


def test_a_second_question_goes_on_with_the_conversation(cwd: Path) -> None:
    async def talk() -> list[object]:
        async with serving(ANSWER, ANSWER) as model, open_client(model.transport(), api_key=KEY) as client:
            conversation = begin(cwd, print)
            await conversation.ask(client, "One")
            await conversation.ask(client, "Two")
            json.dumps(conversation.messages)
            return [message["content"] for message in model.requests[1].body["messages"][1:]]

    assert asyncio.run(talk()) == ["One", "Done.", "Two"]


def test_text_that_is_no_unicode_reaches_the_model_as_question_marks(cwd: Path) -> None:
    (cwd / "caf\udce9").touch()
    heard = ask("caf\udce9?", called(("ls", {"path": "."})), ANSWER, cwd=cwd)

    assert heard.requests[0].body["messages"][1]["content"] == "caf??"
    assert heard.requests[1].body["messages"][-1]["content"] == "caf?"


def test_text_is_reported_while_the_answer_still_streams(cwd: Path) -> None:
    heard = ask("Hello", streamed({"content": "a"}, {"content": "b"}), cwd=cwd)

    assert heard.events[:2] == [Text("a"), Text("b")]


def test_sampling_and_the_users_own_system_prompt_are_passed_on(cwd: Path) -> None:
    wishes = Sampling(temperature=0.0, max_tokens=9)
    [request] = ask("Hello", ANSWER, cwd=cwd, sampling=wishes, system="You are terse.").requests

    assert (request.body["temperature"], request.body["max_tokens"]) == (0.0, 9)
    system = request.body["messages"][0]["content"]
    assert system.startswith("You are terse. The working directory is ")
    assert str(cwd) in system


def test_what_is_not_wished_for_is_left_to_the_server(cwd: Path) -> None:
    [request] = ask("Hello", ANSWER, cwd=cwd).requests

    assert not {"temperature", "max_tokens"} & set(request.body)


def later(cwd: Path, *replies: Reply) -> list[Any]:
    """Ask a second question after a first that breaks off; return the messages of the last request."""

    async def talk() -> list[Any]:
        async with serving(*replies) as model, open_client(model.transport(), api_key=KEY) as client:
            conversation = begin(cwd, print)
            with pytest.raises(PiError):
                await conversation.ask(client, "One")
            await conversation.ask(client, "Two")
            return [(message["role"], message["content"]) for message in model.requests[-1].body["messages"][1:]]

    return asyncio.run(talk())


def test_after_a_question_without_a_word_of_an_answer_it_is_as_if_it_had_not_been_asked(cwd: Path) -> None:
    assert later(cwd, refusal(400, "no"), ANSWER) == [("user", "Two")]


def test_after_half_an_answer_the_conversation_goes_on_from_there(cwd: Path) -> None:
    half = Reply(BEGUN + b"data: [DONE]\n\n")
    assert later(cwd, half, ANSWER) == [("user", "One"), ("assistant", "One, two"), ("user", "Two")]


def test_after_tools_without_an_answer_roles_still_alternate(cwd: Path) -> None:
    said = later(cwd, called(("ls", {"path": "."})), refusal(400, "no"), ANSWER)
    assert [role for role, _ in said] == ["user", "assistant", "tool", "assistant", "user"]
    assert said[3] == ("assistant", "(interrupted)")


OVERFLOW = refusal(
    400, "This model's maximum context length is 4096 tokens. However, your prompt contains 30000 input tokens."
)


def test_what_tools_said_is_cut_until_it_fits_the_context(cwd: Path) -> None:
    lines = [f"line {number}" for number in range(1, 2001)]
    (cwd / "long.txt").write_text("\n".join(lines))
    reading = called(("read", {"file_path": "long.txt"}))
    heard = ask("Read it", reading, OVERFLOW, OVERFLOW, ANSWER, cwd=cwd)

    assert heard.text == "Done."
    sent = [request.body["messages"][-1]["content"] for request in heard.requests[1:]]
    assert len(sent[0]) > len(sent[1]) > len(sent[2]) > 1000
    *kept, note = sent[2].splitlines()
    assert kept == lines[: len(kept)]
    assert note == f"[only the first {len(kept)} lines are left, for want of room: ask for less at once]"
    assert heard.notices == ["the model's context has no room for all that the tools have said, so it is cut"] * 2


def test_a_question_that_does_not_fit_is_not_in_the_way_of_the_next(cwd: Path) -> None:
    assert later(cwd, OVERFLOW, ANSWER) == [("user", "Two")]


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens. However, your prompt contains 9000 input tokens",
        "Input length (9000) exceeds model's maximum context length (8192).",
        "The engine prompt length 9000 exceeds the max_model_len 8192. Please reduce prompt.",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
    ],
)
def test_every_way_of_vllm_to_say_that_the_context_is_full_is_understood(cwd: Path, words: str) -> None:
    heard = ask("Hello", refusal(400, words), cwd=cwd)

    assert isinstance(heard.error, TooLong)
    assert heard.messages == []
