"""Frames from a pod, cut into chunks anywhere."""

import itertools
import random

import pytest

from pi_cli.pods.agent_link import HEADER, Frame, Frames

FRAMES = [Frame(True, 0, 0, b'{"event": "begins"}'), Frame(False, 0, 5, b"bytes"), Frame(False, 7, 1 << 40, b"")]
SENT = b"".join(
    HEADER.pack(frame.is_event, frame.source, len(frame.payload), frame.offset) + frame.payload for frame in FRAMES
)


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_assembled_from_chunks_of_any_size(seed: int) -> None:
    chance = random.Random(seed)
    cuts = sorted(chance.choices(range(len(SENT)), k=chance.randrange(len(SENT))))
    frames = Frames("dc1", sources=8)
    pieces = [SENT[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(SENT)])]
    assert [frame for piece in pieces for frame in frames.feed(piece)] == FRAMES


def test_an_incomplete_frame_is_not_passed_on() -> None:
    assert list(Frames("dc1", sources=8).feed(SENT[:-1])) == FRAMES[:2]
