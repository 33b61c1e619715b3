"""The line of an error's message that tells what happened: often it is not the first one. Pure."""

import re
from collections.abc import Sequence

# First lines that only announce: what they announce is on one of the next lines.
ANNOUNCES = re.compile(
    r"[:{]$|\bat \d+:\d+:|codegen error$|^terminate called|\b\d+ validation errors? for |Ninja build failed"
    r"|Segfault encountered|CompilationError"
)
# What tells, most telling first: the first line that matches the first of these which matches any.
TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"^\s*what\(\):\s*(?P<what>.*\S)",
        r"^\s*Value error, (?P<what>.*\S)",
        r"^\s*(?:\w+\.)*\w*(?:Error|Exception)\((?P<what>.*\S)\)$",  # as Triton quotes an exception
        r"(?P<what>\bptxas fatal\b.*\S)",
        r"(?P<what>(?<!\w)(?:fatal )?error\s*:.*\S)",  # of compilers and linkers
        r"^(?P<what>(?:/bin/)?sh: .*(?:not found|[Pp]ermission denied|No such file or directory))",
        r"^(?P<what>(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b.*\S)",
        r'^\s*File "(?!<unknown>)(?P<what>[^"]*", line \d+, in .*\S)',  # the frames of a crash
    )
)
DETAILS = re.compile(r"\s*\[type=\w+, input_value=.*$")


def telling(lines: Sequence[str]) -> str:
    """Return what a message says, from its lines.

    >>> telling(["PTXASError: Internal Triton PTX codegen error", "ptxas fatal   : Value 'sm_121a' is not defined"])
    "ptxas fatal   : Value 'sm_121a' is not defined"
    """
    first, rest = lines[0], lines[1:]
    if not rest or not ANNOUNCES.search(first.rstrip()):
        return first
    for pattern in TELLING:
        for line in rest:
            if match := pattern.search(line):
                return DETAILS.sub("", match["what"]).strip()
    return next((line.strip() for line in rest if line.strip(" ^~")), first)
