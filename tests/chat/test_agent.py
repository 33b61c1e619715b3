"""The conversation with a model, over real HTTP and through the real client, with what vLLM really sent."""

import asyncio
import json
from pathlib import Path

import pytest

from pi_cli.chat import agent
from pi_cli.chat.client import open_client
from pi_cli.chat.events import ChatEvent, Notice, Text, Usage
from pi_cli.chat.stream import impatience
from pi_cli.errors import PiError

from .conversation import KEY, ask
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
    assert usage.seconds >= 0


def test_usage_is_summed_over_the_turns(cwd: Path) -> None:
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "ls", "arguments": '{"path": "."}'}}]}
    heard = ask("List", streamed(call, usage=(10, 5)), streamed({"content": "Ok"}, usage=(30, 2)), cwd=cwd)

    assert isinstance(usage := heard.events[-1], Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (30, 7)


def test_a_server_that_counts_nothing_is_fine(cwd: Path) -> None:
    heard = ask("What is 2+2?", recorded("chat_qa_nousage.sse"), cwd=cwd)

    assert heard.text.strip() == "4"
    assert not any(isinstance(event, Usage) for event in heard.events)


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
    wanting = refusal(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    heard = ask("Hello", wanting, ANSWER, cwd=cwd)

    assert heard.text == "Done."
    assert "tools" not in heard.requests[1].body
    assert "--vllm … --enable-auto-tool-choice --tool-call-parser PARSER" in heard.notices[0]


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
    heard = ask("Count", reply, cwd=cwd)

    assert heard.text == "One, two"
    assert isinstance(heard.error, PiError)
    assert heard.error.message.startswith(f"`qwen` stopped answering: {reason}")


def test_an_answer_cut_by_the_token_limit_says_so(cwd: Path) -> None:
    heard = ask("Count", streamed({"content": "1, 2"}, finish="length"), cwd=cwd)

    assert heard.notices == ["the answer is cut off: the model's limit of tokens was reached"]


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
            talking = asyncio.create_task(agent.answer("Count", client=client, model="qwen", cwd=cwd, report=report))
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
                await agent.answer("Count", client=client, model="qwen", cwd=cwd, report=report)
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


def test_a_second_question_goes_on_with_the_conversation(cwd: Path) -> None:
    async def talk() -> list[object]:
        async with serving(ANSWER, ANSWER) as model, open_client(model.transport(), api_key=KEY) as client:
            said = await agent.answer("One", client=client, model="qwen", cwd=cwd, report=print)
            await agent.answer("Two", client=client, model="qwen", cwd=cwd, report=print, messages=said)
            json.dumps(said)
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
