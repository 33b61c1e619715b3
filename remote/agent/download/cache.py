"""A model in the Hugging Face cache, as huggingface_hub 1 and 2 lay it out.

Of an interrupted download hub 1 and later keep nothing but the files that were complete: the parts of the others
(`SHA.8hex.incomplete`) have names of their own for every download, so that no later one goes on with them. Older ones
go on with `ETAG.incomplete`.
"""

import contextlib
import json
import os
import re
import tempfile
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from agent import disks, home, processes, records, wire
from agent.home import HOME

UNFINISHED = ".incomplete"
COMMIT = re.compile("[0-9a-f]{40}")
NEVER_RESUMED = re.compile(r".+\.(?:[0-9a-f]{8}|[0-9a-f]{32})\.incomplete")
LEFT_ALONE = 600.0  # seconds without a change, after which nobody on another machine writes to a file any more


class File(NamedTuple):
    """A file of the wanted revision: where it is in the repository, which blob it is, and its size in bytes."""

    path: str
    blob: str
    size: int


class Cache:
    """The folder of one model; `hub` is that of all of them. The wanted `revision` is a branch, a tag or a commit."""

    def __init__(self, model: str, settings: Dict[str, str], revision: str = "main") -> None:
        self.model = model
        self.revision = revision
        self.home = settings.get("HF_HOME") or os.path.join(HOME, ".cache", "huggingface")
        self.hub = os.path.realpath(settings.get("HF_HUB_CACHE") or os.path.join(self.home, "hub"))
        self._folder = os.path.join(self.hub, folder_of(model))
        self._blobs = os.path.join(self._folder, "blobs")
        self._listed: Tuple[str, List[File]] = ("", [])
        self._whole: Set[File] = set()
        self._before = {name: self._size(name) for name in self._unfinished()}

    @property
    def lease(self) -> str:
        """Return where who downloads the model says so: hf takes all in `hub` but this folder for repositories."""
        return os.path.join(self.hub, ".locks", folder_of(self.model) + ".pi-lease")

    @property
    def snapshot(self) -> Optional[str]:
        """Return the folder of the wanted revision, if it has ever been looked up."""
        commit = self._commit()
        return os.path.join(self._folder, "snapshots", commit) if commit else None

    def files(self) -> List[File]:
        """Return the files of the wanted revision; none before hf has listed them (and always before hub 2)."""
        commit = self._commit()
        if commit and self._listed[0] != commit:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                listed = json.loads(home.read_bytes(os.path.join(self._folder, "trees", commit + ".json")))
                files = [
                    File(path, str(file.get("lfs_sha256") or file["blob_id"]), int(file["size"]))
                    for path, file in listed["files"].items()
                ]
                self._listed = (commit, files)
        return self._listed[1] if self._listed[0] == commit else []

    def total(self) -> Optional[int]:
        """Return the size of the whole model, None where the files are not listed."""
        sizes = {file.blob: file.size for file in self.files()}
        return sum(sizes.values()) if sizes else None

    def done(self) -> int:
        """Return how many bytes of the model are there: whole files, and the parts that somebody is writing now.

        What lay there unfinished before and does not grow is nobody's.
        """
        parts = {name: self._size(name) for name in self._unfinished()}
        growing = sum(size for name, size in parts.items() if size != self._before.get(name))
        if self.files():
            return growing + sum({file.blob: file.size for file in self.files() if self._has(file)}.values())
        return growing + sum(self._size(name) for name in self._names() if not name.endswith(UNFINISHED))

    def is_complete(self) -> bool:
        """Tell whether every file of the revision looked up last is there: then nobody has to be asked."""
        files, snapshot = self.files(), self.snapshot
        return bool(files) and all(size_of(os.path.join(snapshot or "", file.path)) == file.size for file in files)

    def is_usable(self) -> bool:
        """Tell whether there is a revision of which nothing is known to be missing; who made it kept no list."""
        has_list, snapshot = bool(self.files()), self.snapshot
        return not has_list and snapshot is not None and os.path.isdir(snapshot) and not self._unfinished()

    def needs_xet(self) -> bool:
        """Tell whether a file is still to come that is too large to be had without Xet: over 50 GB."""
        return any(file.size > 50 * 10**9 and not self._has(file) for file in self.files())

    def locks(self) -> List[str]:
        """Return the lock files of what is still to come."""
        missing = {file.blob + ".lock" for file in self.files() if not self._has(file)}
        folder = os.path.join(self.hub, ".locks", folder_of(self.model))
        return [os.path.join(folder, name) for name in names_in(folder) if name in missing or not self.files()]

    def drop_unfinished(self) -> None:
        """Delete the parts of files that this download began, once it has ended."""
        begun = [name for name in self._unfinished() if NEVER_RESUMED.fullmatch(name) and name not in self._before]
        paths = {os.path.join(self._blobs, name) for name in begun}
        for path in paths - open_files(paths)[0]:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def drop_orphans(self) -> Tuple[int, int]:
        """Delete parts of files that earlier downloads have left; return how many, and how many bytes they were."""
        gone = []
        for path, size in orphans(self._blobs):
            with contextlib.suppress(OSError):
                os.unlink(path)
                gone.append(size)
        return len(gone), sum(gone)

    def deletable(self, needed: int) -> Tuple[List[str], int]:
        """Return what else could be deleted to make so much room, and its size: at most three, the largest first.

        Parts of broken downloads come first, then models that nothing started here uses.
        """
        in_use = json.dumps(records.living()).replace("/", "--")
        parts: List[Tuple[str, int]] = []
        models: List[Tuple[str, int]] = []
        for name in names_in(self.hub):
            blobs = os.path.join(self.hub, name, "blobs")
            if name.startswith("models--") and name != folder_of(self.model):
                parts += orphans(blobs)
                if name[len("models--") :] not in in_use:
                    models.append((os.path.dirname(blobs), sum(size_of(path) or 0 for path in paths_in(blobs))))
        chosen: Dict[str, int] = {}
        for path, size in sorted(parts, key=by_size) + sorted(models, key=by_size):
            has_part = any(other.startswith(path + os.sep) for other in chosen)
            if size and not has_part and len(chosen) < 3 and sum(chosen.values()) < needed:
                chosen[path] = size
        return list(chosen), sum(chosen.values())

    def _commit(self) -> str:
        if COMMIT.fullmatch(self.revision):
            return self.revision
        with contextlib.suppress(OSError, ValueError):
            looked_up = os.path.join(self._folder, "refs", self.revision)
            return home.read_bytes(looked_up).decode("ascii", "replace").strip()
        return ""

    def _has(self, file: File) -> bool:
        """Tell whether a file is whole, as a blob or, where there are no links, in its place; it will not change."""
        if file not in self._whole:
            place = os.path.join(self.snapshot or "", file.path)
            if file.size not in (size_of(os.path.join(self._blobs, file.blob)), size_of(place)):
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


def orphans(blobs: str) -> List[Tuple[str, int]]:
    """Return the parts of files in a folder that nobody goes on with, and their sizes.

    Who writes to one holds it open, which can be seen on this machine only. So where others use the folder too, or not
    every process lets us look, it must also have been left alone for a while, by the clock of the file system itself.
    """
    paths = [path for path in paths_in(blobs) if NEVER_RESUMED.fullmatch(os.path.basename(path))]
    if not paths:
        return []
    held, sees_all = open_files(paths)
    is_ours = sees_all and not disks.is_network(disks.mount_of(os.path.realpath(blobs))[2])
    now = 0.0 if is_ours else clock_of(blobs)
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            about = os.stat(path)
            if path not in held and (is_ours or now - about.st_mtime > LEFT_ALONE):
                found.append((path, about.st_size))
    return found


def open_files(paths: Iterable[str]) -> Tuple[Set[str], bool]:
    """Return which of these files a process has open, and whether we could look at every process."""
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
    """Return what a process has open. Raises `OSError` when it has ended, `PermissionError` when it is not ours."""
    folder = "/proc/%d/fd" % pid
    found = set()
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.add(os.readlink(os.path.join(folder, name)))
    return found


def clock_of(folder: str) -> float:
    """Return what time it is by the clock that stamps files in a folder; 0 where nothing can be written."""
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


def by_size(found: Tuple[str, int]) -> int:
    """Sort the largest first."""
    return -found[1]
