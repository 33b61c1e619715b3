"""Any text can be in a log."""

import re

import pytest
from hypothesis import given

from pi_cli.diagnosis import causes, circumstances
from pi_cli.diagnosis.log_statements import COLOUR, parse
from tests.properties import PROPERTY, texts_of

LOGS = texts_of(
    "\n", "\r", " ", "    ", "(EngineCore pid=71) ", "(Worker_TP1 pid=72) ", "[rank0]: ",
    "ERROR 11-23 13:31:46 [core.py:15] ", "INFO 11-23 13:31:46 [a.py:1] ", "WARNING: ", "ERROR:    ",
    "Traceback (most recent call last):\n", '  File "a.py", line 1\n', "ValueError: no", "RuntimeError",
    "During handling of the above exception", "Exception in thread Thread-1:\n", "\x1b[31m", "\x1b[0m",
    "free(): invalid pointer\n", "!!!!!!! Segfault encountered !!!!!!!\n", "E: backend raised:\n",
    ", retrying 1 of 5", "torch.OutOfMemoryError: CUDA out of memory.",
)  # fmt: skip


@PROPERTY
@given(LOGS)
def test_statements_consist_of_lines_of_the_log(log: str) -> None:
    left = re.split(r"[\r\n]+", COLOUR.sub("", log))
    for statement in parse(log):
        assert statement.lines
        for line in statement.lines:
            assert line.strip()
            source = next(whole for whole in left if whole.rstrip().endswith(line))
            left.remove(source)


@PROPERTY
@given(LOGS)
def test_colours_and_empty_lines_change_nothing(log: str) -> None:
    plain = COLOUR.sub("", log)
    bare = "\n".join(line for line in re.split(r"[\r\n]+", plain) if line.strip())
    coloured = "\x1b[36m" + bare.replace("\n", "\x1b[0m\n\n\r\n \n\x1b[36m")
    assert parse(log) == parse(plain) == parse(bare) == parse(coloured)


@PROPERTY
@given(LOGS)
def test_what_a_serving_model_repeats_changes_nothing(log: str) -> None:
    line = r"(?m)^(?:\(\w+ pid=\d+\) )?INFO 11-23 13:31:46 \[a\.py:1\] [^\r\n]*$"
    assert parse(re.sub(line, lambda found: f"{found[0]}\n" * 3, log)) == parse(log)


@pytest.mark.parametrize(
    "part", ["x", "0", ".", " ", "a.", "A", "-", "/", "\t", "`", "(", "error ", 'File "', "use --", "::", "a_b "]
)
@pytest.mark.parametrize(
    "begin", ["", "ValueError: ", 'Traceback (most recent call last):\n  File "', "WorkerProc: raised:\n"]
)
def test_a_line_without_an_end_is_read_in_time(begin: str, part: str) -> None:
    """A pod may say anything: no pattern may look at each part of it again from each other part."""
    log = begin + part * (1_000_000 // len(part))
    cause = causes.find(log, pod="dc1", model="m/m")
    circumstances.find(log, cause.line if cause else "")
