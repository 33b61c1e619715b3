"""The installed versions of vLLM, the default one (`~/venv`, or the machine's own), and the choice between them."""

import glob
import os
import re
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

from agent import home, machine, place
from agent.home import PI
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

SHARED = os.path.realpath(os.path.join(PI, "venvs"))
OWN = os.path.realpath(os.path.join(machine.OWN, "venvs"))
ELSEWHERE = os.path.realpath(os.path.join(place.root(), "venvs")) if place.chosen() else ""
VENVS = ELSEWHERE or (OWN if os.path.isdir(OWN) else SHARED)
NOTE = ".pi-vllm"  # in an environment that setup has made
ABILITIES = ".pi-abilities.json"  # there, what vLLM said about itself
MAX_ABILITIES: "protocol.MaxAbilities" = 1048576


class Vllm(NamedTuple):
    """A vLLM in its own virtual environment; `version` is None if it is unknown."""

    path: str
    version: Optional[str]

    @property
    def is_for_cpu(self) -> bool:
        return (self.version or "").endswith("+cpu")

    def is_at_least(self, version: str) -> bool:
        """Compare releases: a pre-release of 0.33.0 counts as 0.33.0, for any build variant."""
        return release_of(self.version or "") >= release_of(version)

    def has_option(self, name: str) -> bool:
        """Return whether this vLLM has said at setup that it has an option."""
        try:
            said = home.read_regular(os.path.join(self.path, ABILITIES), MAX_ABILITIES)
        except OSError:
            return False
        return b'"%s"' % name.encode() in said

    def settings(self, settings: Dict[str, str]) -> Dict[str, str]:
        """Return the environment for running it: first in PATH, with a cache of compiled kernels per version."""
        ours = dict(settings, PATH=os.pathsep.join([os.path.join(self.path, "bin"), settings["PATH"]]))
        if self.is_for_cpu:
            ours["VLLM_TARGET_DEVICE"] = "cpu"
        elif self.version and ours.get("VLLM_TARGET_DEVICE") == "cpu":
            del ours["VLLM_TARGET_DEVICE"]
        if self.version and ours.get("PI_VLLM_CACHE"):
            ours.setdefault("VLLM_CACHE_ROOT", os.path.join(ours["PI_VLLM_CACHE"], self.version))
        return ours


def default() -> Vllm:
    """Return the vLLM that the link of this machine leads to."""
    path = os.path.realpath(machine.VENV)
    if os.path.dirname(path) in (OWN, SHARED, ELSEWHERE) or os.path.isfile(os.path.join(path, NOTE)):
        return Vllm(path, os.path.basename(path) if os.path.isdir(path) else None)
    infos = glob.glob(os.path.join(glob.escape(path), "lib", "python3*", "site-packages", "vllm-*.dist-info"))
    return Vllm(path, os.path.basename(infos[0])[len("vllm-") : -len(".dist-info")] if infos else None)


def choose(minimum: Optional[str]) -> Vllm:
    """Return the default vLLM if it is new enough or its version is unknown, else the newest that is new enough."""
    first = default()
    if not minimum or not first.version or first.is_at_least(minimum):
        return first
    fitting = [vllm for vllm in kept() if vllm.is_at_least(minimum) and vllm.is_for_cpu == first.is_for_cpu]
    if not fitting:
        raise Refused({"code": "vllm-too-old", "names": versions()})
    return fitting[-1]


def version() -> Optional[str]:
    return default().version


def versions() -> List[str]:
    """Return all installed versions, oldest first."""
    found = {vllm.version for vllm in kept()} | {version()}
    return sorted((number for number in found if number), key=age)


def kept() -> List[Vllm]:
    """Return the vLLMs that setup has installed, oldest first."""
    names = [name for name in os.listdir(VENVS) if name[:1].isdigit()] if os.path.isdir(VENVS) else []
    return [Vllm(os.path.join(VENVS, name), name) for name in sorted(names, key=age)]


def age(version: str) -> Tuple[List[int], bool, str]:
    """Return a sort key for versions, pre-releases before the release: `0.32.0`, `0.33.0rc1.dev7`, `0.33.0`."""
    is_final = bool(re.match(r"[\d.]+(\+|$)", version))
    return release_of(version), is_final, version


def release_of(version: str) -> List[int]:
    """Return the numbers of a release without trailing zeros.

    >>> release_of("0.33.0rc1+cu129")
    [0, 33]
    """
    leading = re.match(r"[\d.]*", version)
    numbers = [int(number) for number in re.findall(r"\d+", leading.group() if leading else "")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
