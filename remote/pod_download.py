"""Bring a model into the pod's Hugging Face cache with `hf download`. Used by `pod_agent`.

Standard library only, Python 3.8 or newer.
"""

import contextlib
import json
import os
import subprocess
from typing import Any, Dict, List, Optional, Set

import pod_machine as machine
from pod_machine import HOME, MARKER, Refused

# Without these hf colours its errors, draws bars nobody sees, and asks once a day for a newer version of itself.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_COLOR": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


def fetch(model: str, settings: Dict[str, str]) -> None:
    """Run `hf download`, telling how many bytes lie in the cache; it ends when stdin does."""
    cache = Cache(model, settings)
    process = subprocess.Popen(
        [machine.find_program("hf", settings), "download", model],
        env=dict(settings, **QUIET),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    said = ""
    while process.poll() is None:
        said = (said + read_available(process.stdout))[-65536:]
        machine.emit(event="progress", done=cache.done(), total=cache.total())
        if machine.stdin_ended(machine.TICK):
            # SIGINT would let hf finish every file it has begun, which may take hours; TERM ends it at once.
            machine.end([settings[MARKER]], grace=2.0)
            cache.drop_unfinished()
            machine.forget(settings[MARKER])
            machine.leave()
    said += read_available(process.stdout)
    if process.returncode:
        raise Refused("download", said.strip() or "`hf download` ended with code %d" % process.returncode)
    machine.emit(event="progress", done=cache.done(), total=cache.total())


class Cache:
    """A model's folder in the Hugging Face cache, as huggingface_hub 1 and 2 lay it out."""

    def __init__(self, model: str, settings: Dict[str, str]) -> None:
        home = settings.get("HF_HOME") or os.path.join(HOME, ".cache", "huggingface")
        hub = settings.get("HF_HUB_CACHE") or os.path.join(home, "hub")
        self._folder = os.path.join(hub, "models--" + model.replace("/", "--"))
        self._stale = self._unfinished()

    def total(self) -> Optional[int]:
        """Return the size of the whole model; None before hf has listed its files (and always before hub 2)."""
        sizes = self._sizes()
        return sum(sizes.values()) if sizes else None

    def done(self) -> int:
        """Return how many bytes of the model are there: whole files, and what is on its way now."""
        sizes = self._sizes()
        whole = [name for name in self._blobs() if name in sizes or not sizes]
        return sum(map(self._size, whole)) + sum(map(self._size, self._unfinished() - self._stale))

    def drop_unfinished(self) -> None:
        """Delete the parts of files that this download began: hf never goes on with them, it starts such files anew."""
        for name in self._unfinished() - self._stale:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, "blobs", name))

    def _sizes(self) -> Dict[str, int]:
        """Return the size of each blob of the wanted revision, from the list that hf keeps."""
        try:
            commit = machine.read_bytes(os.path.join(self._folder, "refs", "main")).decode("ascii").strip()
            listed = json.loads(machine.read_bytes(os.path.join(self._folder, "trees", commit + ".json")))
            files = listed["files"].values()
            return {str(file.get("lfs_sha256") or file["blob_id"]): int(file["size"]) for file in files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _blobs(self) -> Set[str]:
        return {name for name in self._names() if not name.endswith(".incomplete")}

    def _unfinished(self) -> Set[str]:
        return {name for name in self._names() if name.endswith(".incomplete")}

    def _names(self) -> List[str]:
        with contextlib.suppress(OSError):
            return os.listdir(os.path.join(self._folder, "blobs"))
        return []

    def _size(self, name: str) -> int:
        try:
            return os.stat(os.path.join(self._folder, "blobs", name)).st_size
        except OSError:
            return 0


def read_available(pipe: Any) -> str:
    return (pipe.read() or b"").decode("utf-8", "replace")
