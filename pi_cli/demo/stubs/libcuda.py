"""The simulated CUDA library of an embedded pod: the calls of `remote/setup/ask_cuda.py`, for the pod's own GPUs.

`$HOME/.demo/cuda.json` makes calls fail with an error of CUDA: `{"cuInit": 802}`, `{"cuMemAlloc_v2": {"1": 2}}` on
GPU 1 only; `{"count": 1}` is the number of GPUs that CUDA finds, `{"hangs": true}` a driver that does not answer.
"""

import ctypes
import json
import time
from pathlib import Path
from typing import Any

VERSION = 13000  # CUDA 13.0
HANGING = 600  # seconds


class Library:
    """Every call that is not listed here succeeds and does nothing."""

    def __init__(self) -> None:
        self._folder = Path.home() / ".demo"
        self._faults = self._read("cuda.json", {})
        self._device = 0

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> int:
            return self._fault(name)

        return call

    def cuInit(self, flags: int) -> int:  # noqa: N802, ARG002 - CUDA's own name
        if self._faults.get("hangs"):
            time.sleep(HANGING)
        return self._fault("cuInit")

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        return self._give(version, VERSION, "cuDriverGetVersion")

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        cards = self._read("gpus.json", {"gpus": [None]})["gpus"]
        return self._give(count, self._faults.get("count", len(cards)), "cuDeviceGetCount")

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        self._device = number
        return self._give(device, number, "cuDeviceGet")

    def _give(self, place: Any, value: int, call: str) -> int:
        ctypes.cast(place, ctypes.POINTER(ctypes.c_int))[0] = value
        return self._fault(call)

    def _fault(self, call: str) -> int:
        fault = self._faults.get(call, 0)
        return int(fault.get(str(self._device), 0) if isinstance(fault, dict) else fault)

    def _read(self, name: str, default: Any) -> Any:
        try:
            return json.loads((self._folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return default


LIBRARY = Library()
