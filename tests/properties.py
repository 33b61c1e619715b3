"""How the property tests run: the same examples each time, and few, since the default suite runs them all."""

from itertools import pairwise

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

# Each test has an `environment` of its own, which its examples may share.
PROPERTY = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],  # shrinking and explaining a failure may take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    """Return data in chunks, without empty ones, as they arrive from a connection."""
    bounds = sorted({0, len(data), *(position % (len(data) + 1) for position in positions)})
    return [data[begin:end] for begin, end in pairwise(bounds)]


def texts_of(*pieces: str) -> SearchStrategy[str]:
    """Return texts that are made of these pieces and of any characters."""
    return st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=30).map("".join)
