"""Download a model into the pod's Hugging Face cache with `hf download`."""

import contextlib
import errno
import os
import re
import subprocess
import time
from typing import IO, TYPE_CHECKING, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Set

from agent import disks, ending, home, lockless, memory, records, storage_speed, variables, warm_up, wire
from agent.arguments import Question
from agent.download import full_disk, hub, stall
from agent.download.cache import Cache
from agent.download.lease import Lease
from agent.processes import MARKER
from agent.serve_command import OFFLINE
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

# Without these, hf colours its errors, draws progress bars, and checks once a day for a newer version.
PLAIN_OUTPUT = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_COLOR": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
# Xet then keeps more of each file in memory, and has more requests open. The Hub's documentation names this much RAM.
HIGH_PERFORMANCE, ENOUGH_MEMORY = "HF_XET_HIGH_PERFORMANCE", 64 * 10**9
USUAL_WORKERS, MOST_WORKERS = 8, 16  # files that hf downloads at a time by itself, and at most
WORTH_MEASURING = 20 * 10**9  # bytes of a download
STALL = 60.0  # seconds without data; PI_STALL_SECONDS makes it shorter in tests
LOOK = 0.5  # seconds between two checks of the cache
MAX_REASON = 4000  # characters of the end of hf's output
SAVE = 2.0  # seconds between two updates of the record

QUOTA = ("Disk quota exceeded", "os error 122")
DISK_FULL = re.compile("No space left on device|os error 28|" + "|".join(QUOTA))


class Fetched(NamedTuple):
    """The folder of a model, its commit, and the environment variables about the Hub that vLLM needs."""

    folder: str
    commit: str
    environment: Dict[str, str]


def fetch(
    record: "protocol.Record",
    request: "protocol.StartRequest",
    settings: Dict[str, str],
    question: Question,
    warm: warm_up.WarmUp,
) -> Fetched:
    """Download a model unless it is complete, and report the progress; exit when stdin ends.

    Meanwhile vLLM compiles, if that is possible (`warm`); it is ended with the download.

    If vLLM refuses the arguments meanwhile, the download is stopped, as with Ctrl+C.

    A complete model needs no access to the Hub. But the user's own arguments may name other repositories, so with them
    vLLM may use the Hub if it answers.
    """
    require_models_path(settings)
    cache = Cache(record["model"], settings, request["revision"] or "main")
    if not cache.is_complete():
        question.ask()
        download = Download(record, cache, settings, request["size"], request["pod"], question, warm)
        is_offline = download.run() or not request["own"]
    else:
        is_offline = not request["own"] or not hub.answers(settings, record["model"])
    return Fetched(cache.snapshot or "", cache.commit, dict(OFFLINE) if is_offline else {})


def require_models_path(settings: Dict[str, str]) -> None:
    """Refuse if the volume for models is gone: the download would go to a disk that is deleted with the machine."""
    cache, hub = variables.hf_home(settings), variables.hub(settings)
    is_moved = hub != os.path.join(cache, "hub")  # by a variable of its own, in ~/.pi/env
    was_set_up = os.path.islink(variables.hf_home({})) or "PI_VLLM_CACHE" in settings  # by setup, with the models path
    trouble = disks.disk(hub if is_moved else cache)["trouble"]
    if trouble and ((was_set_up and not is_moved) or trouble != os.strerror(errno.ENOENT)):
        path = variables.models_path(settings) or os.path.dirname(cache)
        raise Refused({"code": "not-mounted", "path": path, "reason": trouble.lower()})


class Stalled(Exception):
    """No data arrived for too long, and hf was stopped."""


class LeaseLost(Exception):
    """Another start downloads the model now."""


class Download:
    """The download of one model for one start, or the wait for the download of another start."""

    def __init__(
        self,
        record: "protocol.Record",
        cache: Cache,
        settings: Dict[str, str],
        size: Optional[int],
        pod: str,
        question: Question,
        warm: warm_up.WarmUp,
    ) -> None:
        self._record = record
        self._warm = warm
        self._cache = cache
        self._settings = settings
        self._size = size
        self._question = question
        self._lease = Lease(cache.lease, record["uid"], pod)
        self._stall = float(settings.get("PI_STALL_SECONDS", STALL))
        self._done = 0
        self._looked = self._saved = 0.0
        self._free: Optional[int] = None
        self._checked = -1
        self._workers = 0  # files at a time; 0: not measured
        self._locks: Set[str] = set()
        self._locks_before: Optional[Set[str]] = None  # on a file system without locks, those that are files

    def run(self) -> bool:
        """Return when the model is in the cache: whether the Hub did not answer, so that vLLM must not use it."""
        while True:
            self._take_turn()
            try:
                return not self._cache.is_complete() and self._load()
            except LeaseLost:
                continue
            finally:
                self._lease.release()
                self._unsave()

    def _take_turn(self) -> None:
        """Return when this start has the lease: immediately, or after the start that has it ended."""
        if self._lease.take():
            return
        holder = None
        with placeholder(self._record["uid"]) as process:
            while not self._lease.take():
                uid, by = self._lease.holder()
                if holder != uid:
                    holder = uid
                    wire.emit({"event": "waits-for-download", "by": by})
                self._report(by)
                if process.poll() is not None:
                    raise self._stopped()
                self._question.require_no_refusal()
                if wire.stdin_ended(LOOK):
                    self._leave()

    def _load(self) -> bool:
        """Run hf, again if it stalls; return whether the Hub did not answer and the model in the cache is used."""
        count, freed = self._cache.drop_abandoned()
        if count:
            wire.emit({"event": "parts-deleted", "files": count, "bytes": freed})
        self._check_disk()
        settings = dict(self._settings, **PLAIN_OUTPUT)
        if memory.whole_memory() >= ENOUGH_MEMORY:
            settings.setdefault(HIGH_PERFORMANCE, "1")
        if lockless.refuses_locks(self._cache.hub):
            wire.emit({"event": "lock-elsewhere", "path": self._cache.hub})
            settings.update(lockless.settings(settings.get("PYTHONPATH", "")))
            self._locks_before = set(self._cache.locks())
        try:
            return self._run_hf(settings, until_stalled=True)
        except Stalled:
            without_xet = not self._cache.needs_xet()
            if without_xet:
                settings["HF_HUB_DISABLE_XET"] = "1"
            wire.emit({"event": "download-restarted", "seconds": self._stall, "without_xet": without_xet})
            return self._run_hf(settings, until_stalled=False)

    def _run_hf(self, settings: Dict[str, str], *, until_stalled: bool) -> bool:
        process = subprocess.Popen(
            [home.find_program("hf", settings), "download", self._cache.model, *self._options()],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output = self._follow(process, until_stalled)
        except LeaseLost:
            self._end_hf(has_lease=False)
            raise
        except BaseException:
            self._end_hf()
            raise
        self._warm.end()
        if process.returncode:
            self._cache.drop_unfinished()
            return self._explain(output, process.returncode)
        self._report(at_once=True)
        return False

    def _options(self) -> List[str]:
        """Return the options of `hf download`: how many files at a time is measured, for a download that takes long."""
        options = ["--revision=" + self._cache.revision]
        total = self._cache.total() or self._size or 0
        if "PI_FREE_DISK" not in self._settings and total - self._cache.done() >= WORTH_MEASURING and not self._workers:
            with contextlib.suppress(OSError):
                rates = storage_speed.writing(disks.existing(self._cache.hub), (1, USUAL_WORKERS, MOST_WORKERS))
                self._workers = storage_speed.workers(rates, USUAL_WORKERS)
        if self._workers not in (0, USUAL_WORKERS):
            options.append("--max-workers=%d" % self._workers)
        return options

    def _follow(self, process: "subprocess.Popen[bytes]", until_stalled: bool) -> str:
        """Follow hf until it exits, and return the end of its output."""
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        silence = stall.Silence(self._cache, self._record["uid"])
        output, limit = "", self._stall
        while process.poll() is None:
            self._question.require_no_refusal()
            output = (output + read_available(process.stdout))[-65536:]
            self._report()
            self._require_room()
            total = self._cache.total() or self._size
            self._warm.look(warm_up.Download(self._done, total, self._cache.hub), self._cache.snapshot)
            if not self._lease.keep():
                raise LeaseLost
            seconds = silence.seconds(self._done)
            if seconds < self._stall:
                limit = self._stall
            if seconds >= min(stall.LOCK_TIMEOUT, self._stall) and self._waits_for_lock(silence):
                silence.reset()
            elif seconds >= limit:
                if until_stalled:
                    raise Stalled
                wire.emit({"event": "download-stalled", "seconds": limit})
                limit += self._stall
            if wire.stdin_ended(home.TICK):
                self._end_hf()
                self._leave()
        return output + read_available(process.stdout)

    def _waits_for_lock(self, silence: stall.Silence) -> bool:
        path = silence.lock()
        if path and path not in self._locks:
            self._locks.add(path)
            wire.emit({"event": "waits-for-lock", "path": path, "pid": stall.holder_of(path)})
        return path is not None

    def _explain(self, output: str, code: int) -> bool:
        """Raise the reason why hf failed, unless the model in the cache can be used without the Hub."""
        was_killed = code < 0 or code > 128  # `pi stop` stops the processes, then deletes the record
        if home.wait_until(lambda: not records.exists(self._record["uid"]), 2.0 if was_killed else 0.0):
            raise self._stopped()
        full = DISK_FULL.search(output)
        if full:
            raise self._disk_full(output, is_quota=full.group(0) in QUOTA)
        if not hub.NO_ANSWER.search(output):
            raise Refused({"code": "download", "reason": output.strip() or "`hf download` ended with code %d" % code})
        if not self._cache.is_usable():
            raise Refused({"code": "hub-unreachable", "reason": output.strip()})
        wire.emit({"event": "hub-silent"})
        return True

    def _check_disk(self) -> None:
        self._free = self._free_now()
        if self._free is None:
            wire.emit({"event": "free-space-unknown", "path": self._cache.hub})
        self._require_room()

    def _free_now(self) -> Optional[int]:
        if "PI_FREE_DISK" in self._settings:  # set by embedded pods, whose files are sparse
            return int(self._settings["PI_FREE_DISK"])
        free: Optional[int] = disks.disk(disks.existing(self._cache.hub))["free"]
        return free

    def _require_room(self) -> None:
        """Refuse a model that does not fit: checked with the size from pi, and again with the size from hf."""
        total = self._cache.total() or self._size
        if total is None or total == self._checked or self._free is None:
            return
        self._checked = total
        lacking = max(0, total - self._cache.done())
        free = self._free_now()
        if free is not None and lacking > free:
            raise self._no_room(lacking - free, {"free": free, "lacking": lacking, "total": total})

    def _disk_full(self, output: str, *, is_quota: bool) -> Refused:
        free = self._free_now()
        lacking = max(0, (self._cache.total() or self._size or 0) - self._cache.done())
        found: "protocol.Refusal" = {
            "reason": output.strip()[-MAX_REASON:],
            "disks": full_disk.looked(self._cache.hub, self._settings),
        }
        if is_quota or free is None or self._free is None:
            return self._no_room(lacking, found)
        found.update({"free": free, "before": self._free})
        return self._no_room(lacking - free, found)

    def _no_room(self, missing: int, sizes: "protocol.Refusal") -> Refused:
        """Return the refusal for lack of `missing` bytes, with paths that could be deleted.

        Without `sizes`, it means that a quota is used up.
        """
        paths, frees = self._cache.deletable(max(1, missing))
        refusal: "protocol.Refusal" = {
            "code": "no-room-on-disk",
            "path": self._cache.hub,
            "paths": paths,
            "frees": frees,
        }
        refusal.update(sizes)
        return Refused(refusal)

    def _stopped(self) -> Refused:
        return Refused({"code": "stopped", "name": self._record["name"]})

    def _report(self, by: "Optional[protocol.Downloader]" = None, *, at_once: bool = False) -> None:
        """Report the progress to pi, and in the record, for other clients that list models."""
        now = time.monotonic()
        if now - self._looked < LOOK and not at_once:
            return
        self._looked = now
        self._done, total = self._cache.done(), self._cache.total() or self._size
        wire.emit({"event": "progress", "done": self._done, "total": total, "by": by})
        if now - self._saved >= SAVE:
            self._saved = now
            if not records.exists(self._record["uid"]):
                raise self._stopped()
            self._record["progress"], self._record["touched"] = [self._done, total], home.uptime()
            self._save()

    def _unsave(self) -> None:
        self._record.pop("touched", None)
        if self._record.pop("progress", None) and records.exists(self._record["uid"]):
            self._save()

    def _save(self) -> None:
        with contextlib.suppress(OSError):  # this download may have filled the disk, which hf will report
            records.write(self._record)

    def _end_hf(self, *, has_lease: bool = True) -> None:
        self._warm.end()
        # On SIGINT, hf would finish every file it has begun, which may take hours; TERM stops it immediately.
        ending.end([self._record["uid"]], grace=2.0)
        if has_lease:  # otherwise, another start may already be writing
            self._cache.drop_unfinished()
            if self._locks_before is not None:  # a killed hf leaves its own, for which the next one would wait
                for path in set(self._cache.locks()) - self._locks_before:
                    with contextlib.suppress(OSError):
                        os.unlink(path)

    def _leave(self) -> NoReturn:
        self._lease.release()
        records.forget(self._record["uid"])
        wire.leave()


@contextlib.contextmanager
def placeholder(uid: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a process with the marker while hf does not run: it keeps the record alive, and `pi stop` stops it."""
    settings = {MARKER: uid, "PATH": os.defpath}
    with subprocess.Popen(["sh", "-c", "read _"], env=settings, stdin=subprocess.PIPE, start_new_session=True) as child:
        yield child


def read_available(pipe: IO[bytes]) -> str:
    return (pipe.read() or b"").decode("utf-8", "replace")
