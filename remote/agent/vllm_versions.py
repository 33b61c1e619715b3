"""Which vLLM runs: the versions that setup keeps side by side, and the one that ~/venv leads to."""

import glob
import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from agent.home import HOME, PI
from agent.wire import Refused

VENVS = os.path.join(PI, "venvs")


class Vllm(NamedTuple):
    """A vLLM in an environment of its own; `version` is None where it cannot be told."""

    path: str
    version: Optional[str]

    @property
    def is_for_cpu(self) -> bool:
        return (self.version or "").endswith("+cpu")

    def is_at_least(self, version: str) -> bool:
        """Compare releases: what leads up to 0.33.0 counts as 0.33.0, whatever it was built for."""
        return release_of(self.version or "") >= release_of(version)

    def settings(self, settings: Dict[str, str]) -> Dict[str, str]:
        """Return the environment for running it: it goes first, and what it compiles is kept by version."""
        ours = dict(settings, PATH=os.pathsep.join([os.path.join(self.path, "bin"), settings["PATH"]]))
        if self.is_for_cpu:
            ours["VLLM_TARGET_DEVICE"] = "cpu"
        elif self.version and ours.get("VLLM_TARGET_DEVICE") == "cpu":
            del ours["VLLM_TARGET_DEVICE"]
        if self.version and ours.get("PI_VLLM_CACHE"):
            ours.setdefault("VLLM_CACHE_ROOT", os.path.join(ours["PI_VLLM_CACHE"], self.version))
        return ours


def default() -> Vllm:
    """Return the vLLM that ~/venv leads to now."""
    path = os.path.realpath(os.path.join(HOME, "venv"))
    if os.path.dirname(path) == os.path.realpath(VENVS):
        return Vllm(path, os.path.basename(path) if os.path.isdir(path) else None)
    found = glob.glob(os.path.join(glob.escape(path), "lib", "python3*", "site-packages", "vllm-*.dist-info"))
    return Vllm(path, os.path.basename(found[0])[len("vllm-") : -len(".dist-info")] if found else None)


def choose(least: Optional[str]) -> Vllm:
    """Return the default vLLM, or the newest that is at least `least`. Where nothing can be told, anything goes."""
    first = default()
    if not least or not first.version or first.is_at_least(least):
        return first
    fitting = [vllm for vllm in kept() if vllm.is_at_least(least) and vllm.is_for_cpu == first.is_for_cpu]
    if not fitting:
        raise Refused({"code": "vllm-too-old", "names": versions()})
    return fitting[-1]


def version() -> Optional[str]:
    return default().version


def versions() -> List[str]:
    """Return all versions that are here, oldest first."""
    here = {vllm.version for vllm in kept()} | {version()}
    return sorted((each for each in here if each), key=age)


def kept() -> List[Vllm]:
    """Return what setup keeps side by side, oldest first."""
    names = [name for name in os.listdir(VENVS) if name[:1].isdigit()] if os.path.isdir(VENVS) else []
    return [Vllm(os.path.join(os.path.realpath(VENVS), name), name) for name in sorted(names, key=age)]


def age(version: str) -> Tuple[List[int], bool, str]:
    """Sort versions, what leads up to a release before it: `0.32.0`, `0.33.0rc1.dev7`, `0.33.0`."""
    is_final = bool(re.match(r"[\d.]+(\+|$)", version))
    return release_of(version), is_final, version


def release_of(version: str) -> List[int]:
    """Return the numbers of a release without the zeros at its end.

    >>> release_of("0.33.0rc1+cu129")
    [0, 33]
    """
    leading = re.match(r"[\d.]*", version)
    numbers = [int(number) for number in re.findall(r"\d+", leading.group() if leading else "")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
