"""A key that is good at one port: heads are written anew, everything else passes unchanged, at any cut."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.models import run_key
from pi_cli.models.run_key import KeySwap
from pi_cli.ssh.forwarding import NotPassed
from tests.properties import PROPERTY

RUN, REAL = "pi-run-1", "the-real-key"


def swap() -> KeySwap:
    return KeySwap(RUN, REAL)


def head(*headers: str, first: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: x", *headers, "", ""]).encode()


def passed(data: bytes, cuts: tuple[int, ...] = ()) -> bytes:
    """Feed data in pieces that end at these places."""
    swapping, ends = swap(), [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return b"".join(swapping.feed(data[begin:end]) for begin, end in zip([0, *ends], ends, strict=False))


@pytest.mark.parametrize(
    ("given_header", "passed_header"),
    [
        ("Authorization: Bearer pi-run-1", "Authorization: Bearer the-real-key"),
        ("authorization: bearer   pi-run-1 ", "authorization: Bearer the-real-key"),
        ("X-Api-Key: pi-run-1", "X-Api-Key: the-real-key"),
        ("x-api-key: pi-run-12", "x-api-key: pi-run-12"),
        ("Authorization: Bearer sk-other", "Authorization: Bearer sk-other"),
        ("Authorization: Basic pi-run-1", "Authorization: Basic pi-run-1"),
        ("X-Other: pi-run-1", "X-Other: pi-run-1"),
    ],
)
def test_only_the_key_of_the_run_is_swapped(given_header: str, passed_header: str) -> None:
    assert passed(head(given_header)) == head(passed_header)


def message(number: int, body: bytes, *, chunked: bool, ours: bool) -> tuple[bytes, bytes]:
    """Return a request as the client sends it and as the model gets it."""
    if chunked:
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        content = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: t\r\n\r\n"
        framing = "Transfer-Encoding: chunked"
    else:
        content, framing = body, f"Content-Length: {len(body)}"
    sent = [head(f"Authorization: Bearer {key}", framing, f"X-Number: {number}") for key in (RUN, REAL)]
    return sent[0 if ours else 1] + content, sent[1] + content


MESSAGES = st.lists(
    st.tuples(st.binary(max_size=60) | st.just(head(f"Authorization: Bearer {RUN}")), st.booleans(), st.booleans()),
    min_size=1, max_size=4,
)  # fmt: skip


@PROPERTY
@given(MESSAGES, st.lists(st.integers(1, 900), max_size=6))
def test_bodies_pass_unchanged_at_any_cut(requests: list[tuple[bytes, bool, bool]], cuts: list[int]) -> None:
    pairs = [message(number, body, chunked=chunked, ours=ours) for number, (body, chunked, ours) in enumerate(requests)]
    assert passed(b"".join(sent for sent, _ in pairs), tuple(cuts)) == b"".join(wanted for _, wanted in pairs)


def test_a_body_passes_before_it_is_complete() -> None:
    swapping = swap()
    assert swapping.feed(head("Content-Length: 10", "Expect: 100-continue")).endswith(b"\r\n\r\n")
    assert swapping.feed(b"12345") == b"12345"
    chunks = swap()
    chunks.feed(head("Transfer-Encoding: chunked"))
    assert chunks.feed(b"5\r\nab") == b"5\r\nab"
    assert chunks.feed(b"c") == b"c"


def test_after_a_change_of_protocol_everything_passes() -> None:
    swapping = swap()
    upgrade = head("Connection: Upgrade", "Upgrade: websocket", f"Authorization: Bearer {RUN}", first="GET / HTTP/1.1")
    assert REAL.encode() in swapping.feed(upgrade + b"\x81\x05hello")
    assert swapping.awaits_answer
    assert swapping.answered(b"HTTP/1.1 101 Switching Protocols\r\n") == b"\x81\x05hello"
    assert swapping.feed(head(f"Authorization: Bearer {RUN}")) == head(f"Authorization: Bearer {RUN}")


def test_after_a_refused_change_of_protocol_the_next_request_is_swapped() -> None:
    swapping = swap()
    upgrade = head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "Content-Length: 2")
    assert swapping.feed(upgrade + b"{}" + head(f"X-Api-Key: {RUN}")) == upgrade + b"{}"
    assert swapping.answered(b"HTTP/1.1 200 OK\r\n") == head(f"X-Api-Key: {REAL}")


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        head("Content-Length: 3", "Content-Length: 4"),
        head("Content-Length: -1"),
        head("Transfer-Encoding: gzip"),
        head("X: " + "y" * 2 * run_key.MAX_HEAD),
        head("Transfer-Encoding: chunked") + b"zz\r\n",
    ],
    ids=["http2", "tls", "two-lengths", "negative", "encoding", "long", "chunk"],
)
def test_what_is_not_http_is_not_passed(data: bytes) -> None:
    with pytest.raises(NotPassed) as refused:
        passed(data, (run_key.MAX_HEAD + 1,))
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refused.value.answer)
    answer = client.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == 400


def test_keys_of_runs_differ() -> None:
    assert len({run_key.new() for _ in range(100)}) == 100
