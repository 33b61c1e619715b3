"""The errors of CUDA in words. The table is a part of the setup scripts (`remote/setup/cuda_errors.py`), which say the
same on a pod that pi has not seen before."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from pi_cli.store import paths

if TYPE_CHECKING:
    from setup.cuda_errors import Words


def question() -> str:
    """Return the program that asks a driver whether CUDA works."""
    return paths.asset("remote/setup/ask_cuda.py").read_text(encoding="utf-8")


def words(code: int) -> "Words":
    """Return cause and remedy of an error of CUDA; `{pod}` in them is for the name of the pod."""
    return cast("dict[int, Words]", _program()["ERRORS"])[code]


def explain(answer: Mapping[str, Any], *, pod: str) -> "Words":
    """Return why CUDA does not work on a pod, and what to do about it."""
    return cast("Callable[..., Words]", _program()["explain"])(answer, pod)


def remarks(answer: Mapping[str, Any], *, pod: str) -> "Sequence[Words]":
    """Return what is wrong with single GPUs of a pod on which CUDA works."""
    return cast("Callable[..., Sequence[Words]]", _program()["remarks"])(answer, pod)


@cache
def _program() -> dict[str, Any]:
    """Run the module without a trace: an import would need its folder on the path, and write bytecode there."""
    return runpy.run_path(str(paths.asset("remote/setup/cuda_errors.py")))
