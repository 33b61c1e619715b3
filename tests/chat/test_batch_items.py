"""Requests of a batch: what a line may be, and how a wrong one is refused."""

import json
from typing import Any

import pytest

from pi_cli.chat.batch_items import Item, read
from pi_cli.chat.turn import Sampling
from pi_cli.errors import BadUsage

DEFAULT = Sampling(0.5, 100, "low")
SCHEMA = {"type": "object"}


def items(*lines: object) -> list[Item]:
    return read("\n".join(map(json.dumps, lines)), DEFAULT, "Be short.")


def test_a_text_is_asked_as_the_command_says() -> None:
    assert items("What is 2+2?") == [
        Item(1, None, ({"role": "user", "content": "What is 2+2?"},), "Be short.", DEFAULT)
    ]


def test_what_a_line_says_is_asked_instead() -> None:
    [item] = items({"id": 7, "prompt": "Hello", "system": "", "temperature": 0, "max_tokens": 5, "reasoning": "high"})
    assert (item.id, item.system, item.sampling) == ("7", "", Sampling(0.0, 5, "high"))


def test_lines_of_openai_batches_are_understood() -> None:
    body: dict[str, Any] = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 9,
    }
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {**body, "response_format": form},
    }
    [item] = items(line)
    assert (item.id, item.messages, item.sampling) == ("a", tuple(body["messages"]), Sampling(0.5, 9, "low", SCHEMA))


def test_blank_lines_are_skipped_and_line_separators_in_texts_do_not_end_a_line() -> None:
    text = '"one\u2028still one"\r\n\n  \n"two"\n'
    assert [(item.number, item.messages[0]["content"]) for item in read(text, DEFAULT, None)] == [
        (1, "one\u2028still one"),
        (4, "two"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("What is 2+2?", "it is not JSON: What is 2+2?"),
        ("7", "it is neither a text nor an object"),
        ("[" * 100_000, "it is not JSON: [[["),
        ("{}", "it needs either `prompt`, a text, or `messages`, a list"),
        ('{"prompt": "a", "messages": []}', "it needs either"),
        ('{"messages": []}', "it needs either"),
        ('{"messages": ["a"]}', 'each of its `messages` needs a "role"'),
        ('{"prompt": "a", "n": 2}', "pi does not know `n`"),
        ('{"prompt": "a", "body": {"tools": []}}', "pi does not know `tools`"),
        ('{"prompt": "a", "max_tokens": true}', "`max_tokens` has the wrong type"),
        ('{"prompt": "a", "temperature": "hot"}', "`temperature` has the wrong type"),
        ('{"prompt": "a", "reasoning": "huge"}', "`reasoning` is not one of none, low, medium, high"),
        ('{"prompt": "a", "response_format": {"type": "grammar"}}', "knows only the type `json_schema`"),
    ],
    ids=range(13),
)
def test_another_line_is_refused_with_its_number(line: str, reason: str) -> None:
    with pytest.raises(BadUsage) as caught:
        read(f'"first"\n{line}\n', DEFAULT, None)
    assert caught.value.message.startswith("line 2 of the batch cannot be asked: ")
    assert reason in caught.value.message


def test_an_id_must_not_occur_twice() -> None:
    with pytest.raises(BadUsage, match="lines 1 and 3 have the same id `a`"):
        items({"id": "a", "prompt": "x"}, "y", {"id": "a", "prompt": "z"})


def test_a_batch_without_requests_is_refused() -> None:
    with pytest.raises(BadUsage, match="the batch has no requests"):
        read("\n \n", DEFAULT, None)
