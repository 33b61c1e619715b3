"""A model in the Hugging Face cache, in the layout of huggingface_hub 1 and 2.

From an interrupted download, hub 1 and later can use only the complete files: each download gives partial files new
names (`SHA.8hex.incomplete`), so no later download resumes them. Older versions resume `ETAG.incomplete`.
"""

import contextlib
import json
import os
import re
import tempfile
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from agent import home, mounts, processes, records, variables, wire

UNFINISHED = ".incomplete"
COMMIT = re.compile("[0-9a-f]{40}")
NEVER_RESUMED = re.compile(r".+\.(?:[0-9a-f]{8}|[0-9a-f]{32})\.incomplete")
ABANDONED = 600.0  # seconds without a change, after which no other machine still writes to a file


class File(NamedTuple):
    """A file of the requested revision: its path in the repository, its blob, and its size in bytes."""

    path: str
    blob: str
    size: int


class Cache:
    """The folder of one model; `hub` is that of all models. The requested `revision` is a branch, a tag or a commit."""

    def __init__(self, model: str, settings: Dict[str, str], revision: str = "main") -> None:
        self.model = model
        self.revision = revision
        self.hub = os.path.realpath(variables.hub(settings))
        self._folder = os.path.join(self.hub, folder_of(model))
        self._blobs = os.path.join(self._folder, "blobs")
        self._listed: Tuple[str, List[File]] = ("", [])
        self._whole: Set[File] = set()
        self._before = {name: self._size(name) for name in self._unfinished()}

    @property
    def lease(self) -> str:
        """Return the path of the lease file. It is in `.locks`, the only folder in `hub` that hf does not list as a
        repository."""
        return os.path.join(self.hub, ".locks", folder_of(self.model) + ".pi-lease")

    @property
    def snapshot(self) -> Optional[str]:
        """Return the folder of the requested revision, if it was ever looked up."""
        commit = self.commit
        return os.path.join(self._folder, "snapshots", commit) if commit else None

    @property
    def commit(self) -> str:
        """Return the commit of the requested revision; empty if it was never looked up."""
        if COMMIT.fullmatch(self.revision):
            return self.revision
        with contextlib.suppress(OSError, ValueError):
            looked_up = os.path.join(self._folder, "refs", self.revision)
            return home.read_bytes(looked_up).decode("ascii", "replace").strip()
        return ""

    def files(self) -> List[File]:
        """Return the files of the requested revision; empty until hf has listed them (before hub 2, it never does)."""
        commit = self.commit
        if commit and self._listed[0] != commit:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                tree = json.loads(home.read_bytes(os.path.join(self._folder, "trees", commit + ".json")))
                files = [
                    File(path, str(file.get("lfs_sha256") or file["blob_id"]), int(file["size"]))
                    for path, file in tree["files"].items()
                ]
                self._listed = (commit, files)
        return self._listed[1] if self._listed[0] == commit else []

    def total(self) -> Optional[int]:
        """Return the size of the whole model, None if its files are not listed."""
        sizes = {file.blob: file.size for file in self.files()}
        return sum(sizes.values()) if sizes else None

    def done(self) -> int:
        """Return how many bytes of the model are in the cache: complete files, and partial files that grow.

        A partial file that existed before and does not grow does not count.
        """
        parts = {name: self._size(name) for name in self._unfinished()}
        growing = sum(size for name, size in parts.items() if size != self._before.get(name))
        if self.files():
            return growing + sum({file.blob: file.size for file in self.files() if self._has(file)}.values())
        return growing + sum(self._size(name) for name in self._names() if not name.endswith(UNFINISHED))

    def is_complete(self) -> bool:
        """Return whether every file of the latest known revision is in the cache: then the Hub is not needed."""
        files, snapshot = self.files(), self.snapshot
        return bool(files) and all(size_of(os.path.join(snapshot or "", file.path)) == file.size for file in files)

    def is_usable(self) -> bool:
        """Return whether a revision without a list of files seems complete: an older hf downloaded it."""
        has_list, snapshot = bool(self.files()), self.snapshot
        return not has_list and snapshot is not None and os.path.isdir(snapshot) and not self._unfinished()

    def needs_xet(self) -> bool:
        """Return whether a missing file is too large to be downloaded without Xet (over 50 GB)."""
        return any(file.size > 50 * 10**9 and not self._has(file) for file in self.files())

    def locks(self) -> List[str]:
        """Return the lock files of missing files."""
        missing = {file.blob + ".lock" for file in self.files() if not self._has(file)}
        folder = os.path.join(self.hub, ".locks", folder_of(self.model))
        return [os.path.join(folder, name) for name in names_in(folder) if name in missing or not self.files()]

    def drop_unfinished(self) -> None:
        """Delete the partial files of this download, after it has ended."""
        names = [name for name in self._unfinished() if NEVER_RESUMED.fullmatch(name) and name not in self._before]
        paths = {os.path.join(self._blobs, name) for name in names}
        for path in paths - open_files(paths)[0]:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def drop_abandoned(self) -> Tuple[int, int]:
        """Delete partial files of earlier downloads; return their number and their total size."""
        sizes = []
        for path, size in abandoned(self._blobs):
            with contextlib.suppress(OSError):
                os.unlink(path)
                sizes.append(size)
        return len(sizes), sum(sizes)

    def deletable(self, needed: int) -> Tuple[List[str], int]:
        """Return up to three paths that could be deleted to free this many bytes, the largest first, and their size.

        Partial files of broken downloads come first, then models that no running model uses.
        """
        found = records.look()  # models of other machines with this home may run, too
        in_use = json.dumps(records.living(found.records) + found.others).replace("/", "--")
        parts: List[Tuple[str, int]] = []
        models: List[Tuple[str, int]] = []
        for name in names_in(self.hub):
            blobs = os.path.join(self.hub, name, "blobs")
            if name.startswith("models--") and name != folder_of(self.model):
                parts += abandoned(blobs)
                if name[len("models--") :] not in in_use:
                    models.append((os.path.dirname(blobs), sum(size_of(path) or 0 for path in paths_in(blobs))))
        chosen: Dict[str, int] = {}
        for path, size in sorted(parts, key=by_size) + sorted(models, key=by_size):
            has_part = any(other.startswith(path + os.sep) for other in chosen)
            if size and not has_part and len(chosen) < 3 and sum(chosen.values()) < needed:
                chosen[path] = size
        return list(chosen), sum(chosen.values())

    def _has(self, file: File) -> bool:
        """Return whether a file is complete, as a blob or, without symbolic links, in the snapshot.

        A complete file does not change, so the result is kept.
        """
        if file not in self._whole:
            path = os.path.join(self.snapshot or "", file.path)
            if file.size not in (size_of(os.path.join(self._blobs, file.blob)), size_of(path)):
                return False
            self._whole.add(file)
        return True

    def _names(self) -> List[str]:
        return names_in(self._blobs)

    def _unfinished(self) -> Set[str]:
        return {name for name in self._names() if name.endswith(UNFINISHED)}

    def _size(self, name: str) -> int:
        return size_of(os.path.join(self._blobs, name)) or 0


def folder_of(model: str) -> str:
    return "models--" + model.replace("/", "--")


def abandoned(blobs: str) -> List[Tuple[str, int]]:
    """Return the partial files in a folder that no process will complete, and their sizes.

    A process that writes to a file holds it open, which is visible on its own machine only. So if other machines use
    the folder too, or some processes cannot be inspected, the file must also be unchanged for `ABANDONED` seconds, by
    the clock of the file system itself.
    """
    paths = [path for path in paths_in(blobs) if NEVER_RESUMED.fullmatch(os.path.basename(path))]
    if not paths:
        return []
    held, sees_all = open_files(paths)
    is_ours = sees_all and not mounts.is_network(mounts.mount_of(os.path.realpath(blobs))[2])
    now = 0.0 if is_ours else clock_of(blobs)
    parts = []
    for path in paths:
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            if path not in held and (is_ours or now - stat.st_mtime > ABANDONED):
                parts.append((path, stat.st_size))
    return parts


def open_files(paths: Iterable[str]) -> Tuple[Set[str], bool]:
    """Return which of these files a process has open, and whether every process could be inspected."""
    wanted, sees_all = set(paths), True
    held: Set[str] = set()
    for pid in processes.all_pids():
        try:
            held |= wanted & files_of(pid)
        except PermissionError:
            sees_all = False
        except OSError:
            pass  # it has ended
    return held, sees_all


def files_of(pid: int) -> Set[str]:
    """Return the open files of a process. `OSError`: it has exited; `PermissionError`: it is another user's."""
    folder = "/proc/%d/fd" % pid
    paths = set()
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            paths.add(os.readlink(os.path.join(folder, name)))
    return paths


def clock_of(folder: str) -> float:
    """Return the time by the clock that sets modification times in a folder; 0 if the folder is not writable."""
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".pi-") as file:
        file.write(b"!")
        file.flush()
        return os.fstat(file.fileno()).st_mtime
    return 0.0


def names_in(folder: str) -> List[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def paths_in(folder: str) -> Iterator[str]:
    return (os.path.join(folder, name) for name in names_in(folder))


def size_of(path: str) -> Optional[int]:
    wire.beat()
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def by_size(entry: Tuple[str, int]) -> int:
    """Return a sort key: the largest first."""
    return -entry[1]
