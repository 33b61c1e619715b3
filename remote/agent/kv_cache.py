"""Keep the size of the KV cache that a start has measured, for the next start of the very same plan.

vLLM measures at each start how much memory is left for the KV cache, and logs the value with which it need not. A start
that pi has followed until it was ready leaves it in a file, beside what was compiled:

    $PI_VLLM_CACHE/VERSION/starts/FINGERPRINT.json    with models on a volume
    ~/.pi/starts/FINGERPRINT.json                     without

The fingerprint covers what the value depends on: the model and its commit, vLLM and torch, the GPUs with their driver,
the arguments with the share of the memory, and the environment. vLLM has a plan of a start of its own, too
(VLLM_ENABLE_STARTUP_PLAN), which leaves out the share: on an empty GPU, a model that was given 40 % would take the 90 %
of an earlier start. The value counts only if the GPUs are as empty as they were then. It is in no record of a model,
and so in no lock: it holds for this machine and this moment.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional

from agent import home, machine
from agent.vllm_versions import Vllm

if TYPE_CHECKING:
    from agent import protocol

OPTION = "--kv-cache-memory-bytes"
LOGGED = re.compile(rb"`--kv-cache-memory=(\d{1,15})` \([\d.]{1,12} GiB\) to fit into requested memory")
MAX_LOG = 1 << 24  # bytes at the beginning of a log, which has the line
MAX_RECORD = 4096  # bytes
SLACK = 16  # MiB that a driver takes more or less; vLLM itself leaves 150 free
# With these, the size of the cache is the user's; parts of a model share nothing else that is measured.
OTHERS = ("--kv-cache-memory", "--num-gpu-blocks-override", "--cpu-offload-gb", "--kv-offloading", "--kv_cache_memory")
OF_VLLM = re.compile(r"(VLLM|CUDA|PYTORCH|TORCH|NCCL|FLASHINFER)_[A-Z0-9_]+")
SECRETS = ("VLLM_API_KEY", "PI_OTHER_API_KEYS")
# What vLLM says if it has less memory than this: then the record is wrong, and not the plan.
TROUBLE = re.compile(rb"[Oo]ut of memory|OutOfMemoryError|No available memory for the cache|KV cache is needed")


class Known(NamedTuple):
    """A size in bytes that was measured at a time, in seconds since 1970."""

    size: int
    at: float


class KvCache:
    """The record of one plan; `known` is what it says, None if nothing, or if the GPUs are not as empty as then."""

    def __init__(
        self, record: "protocol.Record", request: "protocol.StartRequest", settings: Dict[str, str], vllm: Vllm
    ) -> None:
        self._gpus = request["gpu_state"]
        self._path = ""
        if self._gpus and may_choose(record, request) and vllm.has_option(OPTION):
            name = fingerprint(record, self._gpus, dict(settings, **request["environment"]), vllm) + ".json"
            self._path = os.path.join(folder(settings), name)
        self.known = self._read() if self._path else None

    def arguments(self) -> List[str]:
        """Return the arguments for vLLM."""
        return [OPTION, str(self.known.size)] if self.known else []

    def learn(self, log: str) -> None:
        """Keep what a start has measured that is ready now. Its failure is not one of the start."""
        if not self._path or not self._gpus or self.known:
            return
        with contextlib.suppress(OSError):
            found = LOGGED.findall(home.read_regular(log, MAX_LOG))
            if found:  # of several workers the least: all of them get the same
                size = min(map(int, found))
                home.write_file(
                    self._path, json.dumps({"size": size, "used": self._gpus["used"], "at": int(time.time())})
                )

    def is_to_blame(self, log: str) -> bool:
        """Return whether a start that has failed may have done so because of the size."""
        with contextlib.suppress(OSError):
            return self.known is not None and TROUBLE.search(home.read_regular(log, MAX_LOG)) is not None
        return False

    def drop(self) -> None:
        """Forget the record."""
        self.known = None
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _read(self) -> Optional[Known]:
        """Return what the file says; others may write to a volume too."""
        assert self._gpus is not None
        try:
            data = json.loads(home.read_regular(self._path, MAX_RECORD))
            size, used, at = data["size"], data["used"], data["at"]
            least = min(self._gpus["total"]) << 20
            is_sane = type(size) is int and type(at) is int and 0 < size < least and 0 < at < 1 << 40
            is_as_empty = len(used) == len(self._gpus["used"]) and all(
                now <= then + SLACK
                for now, then in zip(self._gpus["used"], used)  # noqa: B905
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Known(size, at) if is_sane and is_as_empty else None


def may_choose(record: "protocol.Record", request: "protocol.StartRequest") -> bool:
    """Return whether the size is pi's to choose, and a start that fails with it can be tried again."""
    is_alone = not request["beside"] and not request["across"]
    is_ours = not request["own"] and not any(each.startswith(OTHERS) for each in record["arguments"])
    return request["wait"] and is_alone and is_ours and bool(record.get("commit"))


def fingerprint(record: "protocol.Record", gpus: "protocol.GpuState", settings: Mapping[str, str], vllm: Vllm) -> str:
    """Return a hash of all that the measured size depends on."""
    packages = glob.glob(os.path.join(glob.escape(vllm.path), "lib", "python3*", "site-packages", "*.dist-info"))
    builds = [name for name in map(os.path.basename, packages) if name.startswith(("vllm", "torch-", "flashinfer"))]
    environment = {name: settings[name] for name in settings if OF_VLLM.fullmatch(name) and name not in SECRETS}
    variables = {name: settings.get(name) for name in [*record["variables"], *record["given"]] if name not in SECRETS}
    proof = [
        *(record["model"], record.get("commit"), vllm.version, sorted(builds), gpus["kind"], gpus["total"]),
        *(record["memory"], record["arguments"], environment, variables),
    ]
    return hashlib.sha256(json.dumps(proof, sort_keys=True).encode()).hexdigest()[:32]


def folder(settings: Mapping[str, str]) -> str:
    """Return the folder of what starts have found out."""
    volume, root = settings.get("PI_VLLM_CACHE", ""), settings.get("VLLM_CACHE_ROOT", "")
    is_on_volume = volume and root.startswith(volume + "/")
    return os.path.join(root if is_on_volume else machine.PLACE, "starts")
