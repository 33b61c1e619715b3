"""`pods.json` is loaded as it was saved, and what cannot be loaded is refused and left as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pi_cli.errors import StateUnreadable
from pi_cli.store import state
from pi_cli.store.records import Gpu, Model, Pod, Storage
from pi_cli.store.state import State
from tests.properties import PROPERTY

TEXT = st.text(max_size=8) | st.sampled_from(["", "\x1b[0m", "a\x07b", "\u202e", " "])
LINE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(str.isprintable), max_size=8)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([10**400, 0, -1, 8001])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
EXTRA = st.dictionaries(LINE.map(lambda key: f"x{key}"), JSON, max_size=2)
MAYBE_LINE = st.none() | LINE
STATES = st.builds(
    State,
    pods=st.dictionaries(
        LINE.filter(bool),
        st.builds(
            Pod,
            ssh=TEXT,
            gpus=st.lists(st.builds(Gpu, st.integers(), LINE, LINE, EXTRA), max_size=2),
            models=st.dictionaries(
                LINE.filter(bool),
                st.builds(
                    Model, LINE, st.integers(), st.sampled_from(["", "0", "0,1"]), st.integers(), MAYBE_LINE, EXTRA
                ),
                max_size=2,
            ),
            vllm=MAYBE_LINE,
            storage=st.none() | st.builds(Storage, LINE, MAYBE_LINE, st.none() | TEXT, EXTRA),
            provider=MAYBE_LINE,
            connect_timeout=st.none() | st.floats(0.1, 1e6) | st.integers(1, 1000),
            extra=EXTRA,
        ),
        max_size=2,
    ),
    active=st.none() | TEXT,
    extra=EXTRA,
)


def record(**values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Return objects with these values, some of which are missing or nonsense, and others beside them."""
    optional = {key: st.one_of(value, value, value, JSON) for key, value in values.items()}
    sound = st.fixed_dictionaries(values)
    return st.one_of(sound, sound, st.fixed_dictionaries({}, optional=optional), JSON)


DOCUMENTS = record(
    pods=st.dictionaries(
        TEXT,
        record(
            ssh=TEXT,
            gpus=st.lists(record(id=st.integers(), name=TEXT, memory=TEXT), max_size=2),
            models=st.dictionaries(
                TEXT,
                record(
                    model=TEXT,
                    port=st.integers(),
                    gpu=JSON | st.sampled_from(["0", "0, 1", 0, [0, 1]]),
                    pid=st.integers(),
                ),
                max_size=2,
            ),
            storage=st.none() | record(path=TEXT, size=TEXT, mount=TEXT),
            vllm=TEXT,
            provider=TEXT,
            connect_timeout=NUMBER,
        ),
        max_size=2,
    ),
    active=st.none() | TEXT,
)


@pytest.fixture
def file(environment: Path) -> Path:
    folder = environment / ".pi"
    folder.mkdir()
    return folder / "pods.json"


@PROPERTY
@given(STATES)
def test_a_state_is_loaded_as_it_was_saved(file: Path, saved: State) -> None:
    file.unlink(missing_ok=True)
    with state.edit() as current:
        current.pods, current.active, current.extra = saved.pods, saved.active, saved.extra
    assert repr(state.load()) == repr(saved)  # NaN is not equal to itself


@PROPERTY
@given(DOCUMENTS)
def test_any_document_is_loaded_and_can_be_saved_or_is_refused(file: Path, document: Any) -> None:
    text = json.dumps(document)
    file.write_text(text)
    try:
        loaded = state.load()
    except StateUnreadable:
        assert file.read_text() == text
        return
    with state.edit() as current:
        current.extra["note"] = "changed"
    again = state.load()
    assert again.extra.pop("note") == "changed"
    loaded.extra.pop("note", None)
    assert repr(again) == repr(loaded)
    for _, _, model in again.models():
        assert all(gpu >= 0 for gpu in model.gpus)


@PROPERTY
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_file_of_any_bytes_is_loaded_or_refused(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        state.load()
    except StateUnreadable:
        assert file.read_bytes() == data


def test_a_document_of_any_depth_is_saved_or_refused(file: Path) -> None:
    for depth in (10, 100, 200, 300, 400, 600, 800, 900, 950, 980, 1000, 5000, 100_000):
        text = json.dumps({"pods": {}, "x": 0})[:-2] + "[" * depth + "]" * depth + "}"
        file.write_text(text)
        try:
            with state.edit() as current:
                current.extra["note"] = "changed"
        except StateUnreadable:
            assert file.read_text() == text
        else:
            assert state.load().extra["note"] == "changed"
