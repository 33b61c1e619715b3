"""Errors that people have reported: the line that tells is shown, and the remedy is right."""

from pi_cli.diagnosis import causes
from pi_cli.diagnosis.causes import Cause
from tests.diagnosis.engine_log import of_the_engine
from tests.diagnosis.failure_rows import COMMAND, MODEL
from tests.diagnosis.public_rows import ROWS, SITE, PublicRow
from tests.every import every


def cause_of(row: PublicRow, *, with_command: bool) -> Cause:
    frames = "".join(f'  File "{SITE}/{file}", line 7, in {function}\n    x()\n' for file, function in row.frames)
    log = of_the_engine(row.error).replace(f"             ^^^^^^^^^^^^^^^^\n{row.error}", f"{frames}{row.error}")
    head = "(EngineCore pid=71) ERROR 11-23 13:31:46 [core.py:1510] "
    first = row.error.split("\n")[0]
    marked = "".join(f"{head}{line}\n" for line in frames.splitlines())
    log = log.replace(f"{head}             ^^^^^^^^^^^^^^^^\n{head}{first}", f"{marked}{head}{first}")
    cause = causes.find(log, pod="dc1", model=MODEL, command=COMMAND if with_command else None)
    assert cause
    return cause


@every(ROWS)
def test_the_line_and_the_remedy(row: PublicRow) -> None:
    for with_command in (True, False):
        cause = cause_of(row, with_command=with_command)
        assert row.line in cause.line, cause.line
        assert cause.hint
        assert row.remedy in cause.hint, cause.hint


def test_workers_of_old_versions_name_their_signal() -> None:
    log = (
        "ERROR 07-26 14:50:35 multiproc_worker_utils.py:120] Worker VllmWorkerProcess pid 214281 died, exit code: -11\n"
    )
    cause = causes.find(log, pod="dc1", model=MODEL)
    assert cause
    assert cause.summary == "the engine crashed (signal 11), which is not a lack of memory"
