"""Whatever the setup script and its programs print, the steps stay in order."""

from hypothesis import given
from hypothesis import strategies as st

from pi_cli.events import Announced, Counted, Note, Output, Step
from pi_cli.pods.steps import MAX_LINE, LineBuffer, Script
from tests.properties import CUTS, PROPERTY, cut

TEXT = st.text(max_size=12)
NAMES = st.sampled_from(["uv", "vllm", "ready"])
LINES = st.lists(
    st.one_of(
        TEXT,
        st.builds("==> {}: {}".format, NAMES, TEXT),
        st.builds("    {} {} {}".format, NAMES, st.sampled_from("|*!x?~%"), TEXT),
        st.builds("    {} {} {} {} {}".format, NAMES, st.sampled_from("~%"), *(st.integers() for _ in range(2)), TEXT),
        st.builds("<== {}: {}".format, NAMES, st.sampled_from(["done", "skipped", "stopped", "failed 15", "gone"])),
        st.builds("error: {}".format, TEXT),
    ),
    max_size=25,
)
ENDS = {"done", "skipped", "stopped", "failed"}


def lines_of(chunks: list[bytes]) -> list[str]:
    buffer = LineBuffer()
    return [*(line for chunk in chunks for line in buffer.feed(chunk)), *buffer.end()]


@PROPERTY
@given(st.binary(max_size=200) | st.text().map(str.encode), CUTS)
def test_lines_are_the_same_at_any_cut(output: bytes, positions: list[int]) -> None:
    lines = lines_of(cut(output, positions))
    assert lines == lines_of([output])
    assert "\n".join(lines).replace("\r", "") == output.decode("utf-8", "replace").removesuffix("\n").replace("\r", "")


@PROPERTY
@given(st.integers(1, 3 * MAX_LINE), CUTS)
def test_a_line_without_an_end_is_passed_on_whole(length: int, positions: list[int]) -> None:
    assert "".join(lines_of(cut(b"x" * length, positions))) == "x" * length


@PROPERTY
@given(LINES)
def test_every_step_that_began_ends_once(lines: list[str]) -> None:
    script = Script("dc1")
    events = [event for line in lines if (event := script.read(line))]
    events += script.end()
    running: set[str] = set()
    for event in events:
        assert isinstance(event, Step | Announced | Counted | Output | Note)
        if isinstance(event, Announced | Counted):
            assert event.name in running
        if isinstance(event, Output):
            assert event.step in running
        if isinstance(event, Step):
            if event.state == "began":
                running.add(event.name)
            assert event.name in running
            if event.state in ENDS:
                running.remove(event.name)
    assert running == set()
    assert list(script.end()) == []
    assert isinstance(script.failure(), str)
