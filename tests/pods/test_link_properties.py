"""What a pod sends is read the same, however the connection cuts it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.pods.agent_link import (
    BEAT,
    DATA,
    EVENT,
    HEADER,
    KEPT_NOISE,
    MARK_BYTES,
    MAX_LINE,
    MAX_NOISE,
    MAX_PAYLOAD,
    Frame,
    Frames,
    MarkedLines,
    NotUnderstood,
)
from tests.properties import CUTS, PROPERTY, cut

SOURCES = 3
EVENTS = st.sampled_from([{"event": "beat"}, {"event": "log", "text": "\n\u2028é"}, {"event": "phase", "at": 0.5}])
REPLIES = st.sampled_from([{"result": {}}, {"refusal": {"code": "no-port"}}])
MESSAGES = (EVENTS | REPLIES).map(lambda message: b"\n" + MARK_BYTES + json.dumps(message).encode() + b"\n")
NOISE = st.binary(max_size=20) | st.sampled_from(
    [b"\n", b"Welcome\r\n", MARK_BYTES, MARK_BYTES[:2], b"{}", b"x" * KEPT_NOISE]
)
OUTPUT = st.lists(MESSAGES | NOISE, max_size=12).map(b"".join)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([DATA, EVENT, BEAT]),
        st.integers(0, SOURCES - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=40),
    ),
    max_size=8,
)


def read_lines(chunks: list[bytes]) -> tuple[list[Any], bytes, bytes, str]:
    """Return the messages, the noise, what follows the reply, and the error."""
    messages: list[Any] = []
    lines = MarkedLines("dc1", messages.append)
    rest, why = b"", ""
    for chunk in chunks:
        if messages and "event" not in messages[-1]:
            rest += chunk
            continue
        try:
            lines.feed(chunk)
        except NotUnderstood as raised:
            why = raised.message
            break
        if messages and "event" not in messages[-1]:
            rest += lines.take_rest()
    return messages, lines.noise, rest, why


def read_frames(chunks: list[bytes]) -> tuple[list[Frame], str]:
    """Return the frames, and the error."""
    found: list[Frame] = []
    frames = Frames("dc1", SOURCES)
    try:
        for chunk in chunks:
            found.extend(frames.feed(chunk))
    except NotUnderstood as raised:
        return found, raised.message
    return found, ""


@PROPERTY
@given(OUTPUT, CUTS)
def test_messages_and_noise_are_the_same_at_any_cut(output: bytes, positions: list[int]) -> None:
    assert read_lines(cut(output, positions)) == read_lines([output] if output else [])


@PROPERTY
@given(st.lists(EVENTS, max_size=5), REPLIES, st.binary(max_size=40), CUTS)
def test_every_message_arrives_and_nothing_after_the_reply_is_lost(
    events: list[Any], reply: Any, after: bytes, positions: list[int]
) -> None:
    sent = b"".join(b"motd\n" + MARK_BYTES + json.dumps(message).encode() + b"\n" for message in [*events, reply])
    messages, noise, rest, why = read_lines(cut(sent + after, positions))
    assert (messages, rest, why) == ([*events, reply], after, "")
    assert noise == b"motd" * (len(events) + 1)


@PROPERTY
@given(FRAMES, CUTS)
def test_frames_are_the_same_at_any_cut(sent: list[tuple[int, int, int, bytes]], positions: list[int]) -> None:
    output = b"".join(HEADER.pack(kind, source, len(data), offset) + data for kind, source, offset, data in sent)
    expected = [Frame(kind == EVENT, source, offset, data) for kind, source, offset, data in sent if kind != BEAT]
    assert read_frames(cut(output, positions)) == (expected, "")


@PROPERTY
@given(st.binary(max_size=200), CUTS)
def test_any_bytes_are_frames_or_refused_at_any_cut(output: bytes, positions: list[int]) -> None:
    assert read_frames(cut(output, positions)) == read_frames([output] if output else [])


@pytest.mark.parametrize("size", [1 << 15, 1 << 23])
def test_the_limits_hold_for_chunks_of_any_size(size: int) -> None:
    def chunks(data: bytes) -> list[bytes]:
        return [data[at : at + size] for at in range(0, len(data), size)]

    def line(length: int) -> bytes:
        return MARK_BYTES + b'{"event": "log", "text": "'.ljust(length - len(MARK_BYTES) - len(b'"}'), b"x") + b'"}\n'

    assert len(read_lines(chunks(line(MAX_LINE)))[0]) == 1
    for too_long in (line(MAX_LINE + 1), line(MAX_LINE + 1)[:-1]):
        messages, _, _, why = read_lines(chunks(too_long))
        assert messages == []
        assert f"a line of more than {MAX_LINE} bytes" in why
    noise = b"banner\n" * (MAX_NOISE // 6)
    assert read_lines(chunks(noise))[3] == ""
    assert f"more than {MAX_NOISE} bytes" in read_lines(chunks(noise + b"banner\n"))[3]
    assert len(read_frames(chunks(HEADER.pack(DATA, 0, MAX_PAYLOAD, 0) + bytes(MAX_PAYLOAD)))[0]) == 1
    assert read_frames([HEADER.pack(DATA, 0, MAX_PAYLOAD + 1, 0)])[1] != ""
