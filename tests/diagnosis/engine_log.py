"""Logs as vLLM 0.32 writes them: a process name before every record, tracebacks without one, the launcher last.

Where its output is a pipe instead of a file, tracebacks have the process name too.
"""

from collections.abc import Iterable

LAUNCHER = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)
TIME = "11-23 13:31:46"
BEGIN = """\
(APIServer pid=7) INFO 11-23 13:31:40 [utils.py:299]   █▄█▀ █     █     █     █  model   Qwen/Qwen3-8B
(APIServer pid=7) INFO 11-23 13:31:40 [utils.py:233] non-default args: {'model': 'Qwen/Qwen3-8B', 'port': 8001}
(APIServer pid=7) INFO 11-23 13:31:42 [model.py:733] Resolved architecture: Qwen3ForCausalLM
(APIServer pid=7) INFO 11-23 13:31:42 [model.py:2152] Using max model len 40960
(EngineCore pid=71) INFO 11-23 13:31:45 [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: model='…'
"""


def record(process: str, level: str, source: str, text: str) -> str:
    """Write a log record: every line of it has the full head."""
    return "".join(f"({process}) {level} {TIME} [{source}] {line}\n" for line in text.split("\n"))


def raw(process: str, text: str) -> str:
    """Write text that is not a log record, e.g. a traceback on stderr."""
    return "".join(f"({process}) {line}\n" for line in text.split("\n"))


def traceback(error: str, *code: str) -> str:
    """Write a traceback that ends with an error; `code` are lines of source code in its frames."""
    frames = "\n".join(
        f'  File "/root/venv/lib/python3.12/site-packages/vllm/v1/engine/core.py", line {number}, in step\n    {line}'
        for number, line in enumerate(["engine_core = EngineCoreProc(*args, **kwargs)", *code], start=1501)
    )
    return f"Traceback (most recent call last):\n{frames}\n             ^^^^^^^^^^^^^^^^\n{error}"


def of_the_engine(error: str, *code: str, before: str = "") -> str:
    """Write the log of a start whose engine failed: it logs the reason twice, then the launcher logs the failure."""
    return "".join(
        [
            BEGIN,
            before,
            record("EngineCore pid=71", "ERROR", "core.py:1510", "EngineCore failed to start."),
            record("EngineCore pid=71", "ERROR", "core.py:1510", traceback(error, *code)),
            f"Process EngineCore:\n{traceback(error, *code)}\n",
            f"{traceback(LAUNCHER, 'raise RuntimeError(')}\n",
        ]
    )


def of_the_server(error: str) -> str:
    """Write the log of a start that failed before there was an engine."""
    return BEGIN[: BEGIN.index("(EngineCore")] + raw("APIServer pid=7", traceback(error))


def of_workers(errors: Iterable[str]) -> str:
    """Write the log of a start in which several workers failed at once, their lines interleaved."""
    names = [(f"Worker_TP{rank} pid={80 + rank}", error) for rank, error in enumerate(errors)]
    records = [
        record(
            name, "ERROR", "multiproc_executor.py:890", f"WorkerProc failed to start.\n{traceback(error)}"
        ).splitlines()
        for name, error in names
    ]
    longest = max(map(len, records), default=0)
    lines = [lines[index] for index in range(longest) for lines in records if index < len(lines)]
    executor = (
        "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace."
    )
    return (
        BEGIN
        + "\n".join(lines)
        + "\n"
        + record("EngineCore pid=71", "ERROR", "core.py:1510", f"EngineCore failed to start.\n{traceback(executor)}")
        + f"Process EngineCore:\n{traceback(executor)}\n{traceback(LAUNCHER)}\n"
    )
