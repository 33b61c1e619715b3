"""A batch against a real HTTP server: order, lost connections, errors, and how it continues."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pi_cli.chat import batch, batch_items, batch_results
from pi_cli.chat.batch import Answer, Batch
from pi_cli.chat.client import ConnectionLost, RequestFailed, ServedModel, open_client
from pi_cli.chat.turn import Sampling
from pi_cli.errors import BadUsage, PiError

from .server import ModelServer, Reply, refusal, serving, streamed

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

MODEL = ServedModel("qwen")
ITEMS = batch_items.read('"one"\n"two"\n"three"\n', Sampling(), None)


def said(text: str) -> Reply:
    return streamed({"content": text}, usage=(3, 2))


CUT = Reply(said("half").body[:200], ending="cut")


def run(*replies: Reply, items: list[batch_items.Item] = ITEMS, parallel: int = 1) -> tuple[list[Answer], ModelServer]:
    """Ask a server that sends these replies; raises what the batch raises."""
    answers: list[Answer] = []

    async def ask() -> ModelServer:
        async with serving(*replies) as model:

            @asynccontextmanager
            async def connect() -> AsyncIterator["Client"]:
                async with open_client(model.transport(), api_key="key") as client:
                    client.max_retries = 0
                    yield client

            await Batch(MODEL, items, answers.append, parallel).run(connect)
            return model

    return answers, asyncio.run(ask())


@pytest.fixture(autouse=True)
def without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "FIRST_DELAY", 0.0)


def test_every_question_is_asked_once() -> None:
    answers, model = run(said("1"), said("2"), said("3"))
    assert [(answer.number, answer.text, answer.completion_tokens) for answer in answers] == [
        (1, "1", 2), (2, "2", 2), (3, "3", 2),
    ]  # fmt: skip
    assert [request.body["messages"] for request in model.requests] == [list(item.messages) for item in ITEMS]


def test_after_a_lost_connection_only_what_has_no_answer_is_asked_again() -> None:
    answers, model = run(said("1"), CUT, said("2"), said("3"))
    assert [(answer.number, answer.text) for answer in answers] == [(1, "1"), (3, "2"), (2, "3")]
    assert len(model.requests) == 4


def test_a_model_that_never_answers_ends_the_batch() -> None:
    with pytest.raises(ConnectionLost):
        run(*[CUT] * (batch.MAX_RECONNECTS + 1))


def test_a_request_that_the_server_refuses_does_not_stop_the_others() -> None:
    answers, model = run(said("1"), refusal(400, "bad schema"), said("3"))
    assert [(answer.number, answer.error) for answer in answers] == [
        (1, None), (2, "the request to `qwen` failed: bad schema"), (3, None),
    ]  # fmt: skip
    assert len(model.requests) == 3


def test_a_request_that_the_server_fails_at_is_asked_twice() -> None:
    answers, _ = run(refusal(500, "boom"), said("2"), said("3"), said("1"))
    assert sorted((answer.number, answer.text) for answer in answers) == [(1, "1"), (2, "2"), (3, "3")]


def test_a_dead_engine_is_not_asked_every_question() -> None:
    many = batch_items.read('"x"\n' * 100, Sampling(), None)
    with pytest.raises(RequestFailed, match="EngineCore"):
        run(*[refusal(500, "EngineCore encountered an issue")] * 100, items=many)


def test_a_refused_key_ends_the_batch() -> None:
    with pytest.raises(PiError, match="refused the API key"):
        run(refusal(401, "no"))


# Results


def digests() -> dict[int, str]:
    return {item.number: batch_results.digest("qwen", item) for item in ITEMS}


def answer(number: int) -> Answer:
    return Answer(number, None, f"answer {number}", finish="stop")


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


def test_the_file_has_the_answers_in_the_order_of_the_questions(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with batch_results.kept(out, ITEMS, digests()) as results:
        for number in (3, 1, 2):
            results.add(answer(number))
        assert not out.exists()
        results.finish()
    assert numbers(out) == [1, 2, 3]
    assert not batch_results.partial_of(out).exists()


def test_another_run_keeps_the_answers_of_one_that_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with batch_results.kept(out, ITEMS, digests()) as results:
        results.add(answer(3))
        results.add(Answer(2, None, error="boom"))
    with batch_results.partial_of(out).open("a") as journal:
        journal.write('{"line": 1, "requ')  # killed while it wrote
    with batch_results.kept(out, ITEMS, digests()) as results:
        assert set(results.done) == {3}
        results.add(answer(1))
        results.add(answer(2))
        results.finish()
    assert numbers(out) == [1, 2, 3]
    with batch_results.kept(out, ITEMS, digests()) as results:
        assert set(results.done) == {1, 2, 3}


def test_an_answer_to_another_question_is_not_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with batch_results.kept(out, ITEMS, digests()) as results:
        results.add(answer(1))
    changed = batch_items.read('"another one"\n"two"\n', Sampling(), None)
    others = {item.number: batch_results.digest("qwen", item) for item in changed}
    with batch_results.kept(out, changed, others) as results:
        assert not results.done


def test_a_file_with_something_else_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("my notes\n")
    with (
        pytest.raises(BadUsage, match="exists, and line 1 in it is not an answer"),
        batch_results.kept(out, ITEMS, digests()),
    ):
        pass
    assert out.read_text() == "my notes\n"
