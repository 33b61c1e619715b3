"""Which tests go to one worker: those of a file that has the mark `xdist_group`, as they share a pod and its models.

pytest-xdist 3.8 does this itself with `--dist loadgroup`, but not with pytest 9.2: it writes the group into the id of a
test, which can no longer be changed. Each worker then makes a pod and models of its own, without an error.
"""

from functools import cache
from pathlib import Path

from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
MARK = "pytest.mark.xdist_group("


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out one test at a time, or all tests of a file that share a pod; the largest files first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """Return what a worker takes at once: a file, or a single test."""
    file = nodeid.partition("::")[0]
    return file if _shares_a_pod(file) else nodeid


@cache
def _shares_a_pod(file: str) -> bool:
    return MARK in (ROOT / file).read_text(encoding="utf-8")
