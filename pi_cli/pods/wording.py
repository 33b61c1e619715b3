"""Messages for the refusals and notes of the agent, which sends only codes and numbers."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.hints import fill
from pi_cli.lazy_dataclasses import dataclass

if TYPE_CHECKING:
    from agent import protocol


NAMES: "dict[protocol.WrittenPlace, str]" = {"models": "models", "xet": "Xet's cache", "temporary": "temporary files"}
LITTLE, MUCH = 64_000_000, 10_000_000_000  # bytes of a disk that is full, and of one on which that is not the reason


@dataclass(frozen=True, slots=True)
class LookedDisk:
    """A folder that hf writes to, as in the protocol."""

    place: "protocol.WrittenPlace"
    path: str
    free: int | None = None
    inodes: int | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the agent refused a request; `code` determines which fields are set (see `protocol.Refusal`)."""

    code: "protocol.Code"
    name: str = ""
    names: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    port: int = 0
    program: str = ""
    path: str = ""
    paths: tuple[str, ...] = ()
    reason: str = ""
    errno: int = 0
    seconds: float = 0.0
    free: int | None = None
    before: int | None = None
    lacking: int | None = None
    total: int | None = None
    frees: int = 0
    disks: tuple[LookedDisk, ...] = ()

    @property
    def full_disk(self) -> LookedDisk | None:
        """Return the disk that a download has surely found full."""
        full = [disk for disk in self.disks if _is_full(disk)]
        return full[0] if full else None


class AgentRefused(PiError):
    """The agent refused a request; `explanation` says why without the name of the pod."""

    def __init__(self, pod: str, refusal: Refusal) -> None:
        self.explanation = explain(refusal)
        super().__init__(f"pod `{pod}`: {self.explanation}", hint=_hint(pod, refusal))
        self.refusal = refusal

    @property
    def code(self) -> "protocol.Code":
        return self.refusal.code


def explain(refusal: Refusal) -> str:
    """Return why the agent refused."""
    match refusal.code:
        case "arguments":
            version = f" {refusal.name}" if refusal.name else ""
            return f"its vLLM{version} does not accept the arguments: {refusal.reason}"
        case "name-taken":
            return f"`{refusal.name}` already runs here (port {refusal.port})"
        case "gpus-taken":
            return f"other models are on these GPUs now: {', '.join(refusal.names) or 'none'}"
        case "no-port":
            return "no port is free"
        case "not-there":
            return f"`{refusal.name}` does not run here"
        case "stopped":
            return f"another client stopped `{refusal.name}` before vLLM was started"
        case "no-log":
            return f"{refusal.path}: {refusal.reason}" if refusal.reason else f"there is no log at {refusal.path}"
        case "bad-pattern":
            return f"the pod's Python does not accept the pattern: {refusal.reason}"
        case "not-set-up":
            if refusal.path:
                return f"vLLM is gone from {refusal.path}: a stop of the pod may have erased that disk"
            return f"`{refusal.program}` is not installed on the pod"
        case "vllm-too-old":
            return f"its vLLM is too old for the model: it has {', '.join(refusal.names) or 'none'}"
        case "not-mounted":
            return f"the models path `{refusal.path}` is not mounted: {refusal.reason}"
        case "no-room-on-disk":
            return _no_room(refusal)
        case "in-use":
            if refusal.names:
                return f"models run on it: {', '.join(f'`{name}`' for name in refusal.names)}"
            return f"a setup or a download is running there, which uses {refusal.path}"
        case "cache-in-use":
            names = ", ".join(f"`{name}`" for name in refusal.names)
            return f"compiled code cannot be deleted now: {names} may be reading it while starting"
        case "locked":
            return f"another pi command has held the lock {refusal.path} for {_rounded(refusal.seconds)}"
        case "environment":
            return f"~/.pi/env did not finish within {_rounded(refusal.seconds)}"
        case "not-ours":
            return f"{refusal.path} belongs to another user, {refusal.name}: pi neither reads it nor writes to it"
        case "os":
            return f"{refusal.path}: {refusal.reason}" if refusal.path else refusal.reason
        case "bug":
            return f"pi's agent has failed there: {refusal.reason}"
        case "download" | "hub-unreachable":
            return refusal.reason


def _hint(pod: str, refusal: Refusal) -> str | None:
    """Return what to do next, unless only the operation knows that."""
    match refusal.code:
        case "not-there":
            return fill("see what runs with `pi list --pod {pod}`", pod=pod)
        case "not-set-up" if refusal.path:
            return fill("install it again with `pi pods setup {pod}`", pod=pod)
        case "not-set-up":
            return fill("prepare it with `pi pods setup {pod}`", pod=pod)
        case "no-port":
            return fill("see which programs listen on the ports from 8001 on with `pi ssh {pod} ss -ltnp`", pod=pod)
        case "stopped":
            return "start it again if you still need it"
        case "bad-pattern":
            return "the pod's Python is older than this machine's: write the pattern without newer syntax"
        case "in-use":
            return fill("see what runs with `pi list --pod {pod}`, and wait for a setup or a download to end", pod=pod)
        case "cache-in-use":
            watch = "wait until it is ready: `pi start --attach {name} --pod {pod}`"
            return fill(watch, name=next(iter(refusal.names), "NAME"), pod=pod)
        case "locked":
            return "wait for that command"
        case "environment":
            return fill("see its commands with `pi ssh {pod} cat .pi/env`", pod=pod)
        case "not-ours":
            return fill("move it away with `pi ssh {pod} mv .pi .pi.other`, then run `pi pods setup {pod}`", pod=pod)
        case "os" | "no-log":
            return fill("see what is wrong with that path with `pi ssh {pod}`", pod=pod)
        case "bug":
            return "please report it, with this message"
        case _:
            return None


def _no_room(refusal: Refusal) -> str:
    if (disk := refusal.full_disk) and (disk.place != "models" or not _is_empty(disk)):
        return _of_disk(disk)
    if refusal.free is None:
        return f"the quota of `{refusal.path}` is used up"
    free = units.size(refusal.free)
    if refusal.before is not None:
        before = units.size(refusal.before)
        became = (
            f"the disk of `{refusal.path}` became full: {before} were free before the download, {free} are free "
            "without its unfinished files"
        )
        is_plenty = bool(refusal.disks) and refusal.free > MUCH
        return f"{became}, so it is a quota or a limit of the volume, if not another disk" if is_plenty else became
    lacking, total = refusal.lacking or 0, refusal.total or 0
    more = f" more (of {units.size(total)})" if lacking < total else ""
    return f"`{refusal.path}` has {free} free, and the model needs {units.size(lacking)}{more}"


def looked_at(disks: Sequence[LookedDisk]) -> str:
    """Return what was found on the disks that a download writes to; no text without them."""
    return "; ".join(f"{NAMES[disk.place]} {disk.path}: {_found(disk)}" for disk in disks)


def _found(disk: LookedDisk) -> str:
    if disk.trouble and disk.free is None:
        return disk.trouble
    parts = [f"{units.size(disk.free)} free" if disk.free is not None else "free space unknown"]
    parts += [f"{disk.inodes:,} inodes free"] if disk.inodes is not None else []
    return ", ".join([*parts, *([disk.trouble] if disk.trouble else [])])


def _is_full(disk: LookedDisk) -> bool:
    return bool(disk.trouble and disk.free is not None) or _is_empty(disk) or disk.inodes == 0


def _is_empty(disk: LookedDisk) -> bool:
    return disk.free is not None and disk.free < LITTLE


def _of_disk(disk: LookedDisk) -> str:
    """Return how a disk is full on which there may be bytes left."""
    free = "" if disk.free is None else f", although {units.size(disk.free)} are free"
    if disk.inodes == 0:
        return f"the disk of `{disk.path}` ({NAMES[disk.place]}) has no inodes left{free}: too many small files"
    if _is_empty(disk):
        return f"the disk of `{disk.path}` ({NAMES[disk.place]}) is full: {units.size(disk.free or 0)} are free"
    return f"nothing more can be written to `{disk.path}` ({NAMES[disk.place]}){free}: {disk.trouble}"


def remark(event: "protocol.Note") -> str:
    """Return the text for a note of the agent."""
    match event["event"]:
        case "waits-for-download":
            return f"{downloader(event['by'])} is already downloading the model to the same cache: waiting for it"
        case "parts-deleted":
            files = "1 file" if event["files"] == 1 else f"{event['files']} files"
            return f"deleted partial files of broken downloads of the model, {files}: {units.size(event['bytes'])}"
        case "download-restarted":
            without = ", without Xet" if event["without_xet"] else ""
            return f"download stalled for {_rounded(event['seconds'])}; restarting hf{without}"
        case "download-stalled":
            return f"download stalled for {_rounded(event['seconds'])}; still waiting"
        case "waits-for-lock":
            process = f"process {event['pid']}" if event["pid"] else "another process"
            return f"waiting for the lock {event['path']}, which {process} holds"
        case "hub-silent":
            return "the Hub does not answer: using the model in the cache, which seems to be complete"
        case "free-space-unknown":
            return f"free space of `{event['path']}` unknown: a shared pool reports the size of all of it"
        case "lock-elsewhere":
            return refused_lock(event["path"])
        case "driver-slow":
            return (
                f"nvidia-smi has not answered for {_rounded(event['seconds'])}; waiting up to "
                f"{_rounded(event['limit'])} (with persistence mode, `nvidia-smi -pm 1` as root, it answers at once)"
            )
        case "kv-cache-known":
            day = time.strftime("%Y-%m-%d", time.localtime(event["at"]))
            size = units.size(event["size"])
            return f"KV cache of {size} on each GPU, as the start of {day} measured it: vLLM does not measure again"
        case "no-warm-up":
            return f"vLLM does not compile during the download: {_why_not_warm(event['why'], event['word'])}"
        case "kv-cache-dropped":
            return "vLLM failed with the KV cache that an earlier start measured: starting it once more without that"


def _why_not_warm(why: "protocol.NoWarmUp", word: str) -> str:
    match why:
        case "argument":
            return f"with `{word}`, the weights have to be there"
        case "quantised":
            return f"the model is quantised ({word}), so the weights have to be there"
        case "unknown-gpus":
            return "nvidia-smi does not report how full the GPUs are"
        case "busy-gpus":
            return "its GPUs are in use already"
        case "memory":
            return "too little of the pod's memory is free"
        case "disk":
            return "too little of the disk is free for what it compiles"
        case "warm":
            return "all is compiled already"


def refused_lock(path: str) -> str:
    """Return the remark about a file or folder whose file system refuses locks."""
    return f"the file system of {path} has no locks: pi uses others"


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def downloader(by: "protocol.Downloader") -> str:
    """Return how messages call the other start that downloads a model."""
    return "another start" if by["is_here"] else f"`{by['pod'] or 'another pod'}`"
