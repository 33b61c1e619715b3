"""Delete what setup and starts have put on this machine: what `places` lists, and nothing else.

Links are deleted, never followed, and other file systems that are mounted below these places are left alone. Files that
setup did not make stay, and what it moved aside goes back. If pi disconnects, the deletion stops; it can be run again:
what says that a place is ours is deleted last.
"""

import contextlib
import fcntl
import glob
import os
import re
import stat
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Set, Tuple

from agent import home, leases, machine, mounts, orphans, place, processes, records, trees, wire
from agent.home import HOME, PI
from agent.machine import LOGS, OWN, PLACE

if TYPE_CHECKING:
    from agent import protocol

SHELL_FILES = (".profile", ".bashrc", ".bash_profile", ".zshrc")
SHELL_MARK = "# by pi pods setup"  # the end of the line that `--shell-env` adds (`setup/environment.sh`)
HF_CACHE = os.path.join(HOME, ".cache", "huggingface")
# In ~/.pi, which may be that of pi itself too: a pod can be used to reach others.
STATE = (
    "remote", "lib", "gateway", "checked", "starts", "uploads", "programs", "mounting", "provider", "uv-installer.sh",
    "abilities.new",
)  # fmt: skip
LOGS_OF_SETUP = ("apt.log", "mount.log", "try-out.log", "abilities.log")
LAST = ("env.setup", "env.new", "setup.lock", "lock", "place", "place.new", "machine", "machine.new")
# What is on another disk with `--home`, by its kind; `agent.place` has the names.
KINDS: "Dict[str, protocol.PurgedKind]" = {"uv": "uv", "uv-cache": "uv", "python": "uv", "machine": "state"}

LEASE = 120.0  # seconds since its last update after which a download is surely over


class Item(NamedTuple):
    """A file or folder to delete, and what it is for users."""

    kind: "protocol.PurgedKind"
    path: str


def purge(request: "protocol.PurgeRequest") -> "protocol.PurgeResult":
    """Report what there is to delete, and with `delete` delete it."""
    if request["delete"]:
        refuse_while_in_use()
    kept: "List[protocol.KeptPlace]" = []
    found = [item for item in places(request["models"], kept) if os.path.lexists(item.path)]
    seen: "Set[Tuple[int, int]]" = set()
    parts: "List[protocol.PurgedPart]" = []
    for item in found:
        size, files = trees.measure(item.path, seen)
        parts.append({"kind": item.kind, "path": item.path, "bytes": size, "files": files})
    is_shared = any(is_on_a_network(item.path) for item in found if item.kind == "models")
    elsewhere = [folder for root in place.roots() for folder in (root, *above(root))]
    if request["delete"]:
        leases.stop_all()
        deletion = trees.Deletion(sum(part["bytes"] for part in parts))
        forget_in_shells()
        put_back_the_cache()
        for item in found:
            deletion.delete(item.path)
        put_back(os.path.join(HOME, "venv"))
        folders = [records.MODELS, os.path.join(PI, "machines"), os.path.join(HOME, ".vllm_logs"), PI]
        for folder in [*elsewhere, *folders]:
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # if nothing else is in it
    return {"parts": parts, "kept": kept, "shared_models": is_shared}


def refuse_while_in_use() -> None:
    """Refuse while a model runs here, or a setup does."""
    marked = processes.marked()
    recorded = records.read_all()
    living = [record["name"] for record in recorded if records.lives(record, marked)]
    living += [str(each.model["name"]) for each in orphans.find(marked, {record["uid"] for record in recorded})]
    if living:
        raise wire.Refused({"code": "in-use", "names": sorted(set(living)), "path": ""})
    lock = os.path.join(PLACE, "setup.lock")
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise wire.Refused({"code": "in-use", "names": [], "path": lock}) from None
        finally:
            os.close(descriptor)


def places(with_models: bool, kept: "List[protocol.KeptPlace]") -> Iterator[Item]:
    """Yield all that is ours, in the order in which it is deleted; add what stays, with the reason, to `kept`.

    A machine that is not the first of its home has a folder of its own. Of the first one, what others use stays.
    """
    others = has_other_machines()
    yield from models(with_models, kept)
    yield from on_other_disks(kept)
    for name in sorted(trees.list_folder(LOGS)):
        if PLACE == PI and re.search(r"\.log(\.1)?$", name):
            yield Item("logs", os.path.join(LOGS, name))
    for record in records.look().records:
        yield Item("records", os.path.join(records.MODELS, record["uid"] + ".json"))
    yield Item("state", leases.FOLDER)
    if PLACE == OWN:
        yield Item("logs", LOGS)
        yield Item("vllm", OWN)
        return
    if default_is_ours():
        yield Item("vllm", os.path.join(HOME, "venv"))
    elif os.path.lexists(os.path.join(HOME, "venv")):
        kept.append({"path": os.path.join(HOME, "venv"), "reason": "not-made-by-setup"})
    used = used_by_others(PI)
    yield from environments(os.path.join(PI, "venvs"), used, kept)
    yield from caches(kept)
    for name in LOGS_OF_SETUP:
        yield Item("logs", os.path.join(PI, name))
    if others:
        kept.append({"path": PI, "reason": "other-machine"})
        return
    for name in STATE:
        yield Item("state", os.path.join(PI, name))
    for name in sorted(glob.glob(os.path.join(PI, "works-*"))):
        yield Item("state", name)
    yield Item("uv", os.path.join(PI, "uv"))
    environment = os.path.join(PI, "env")
    if own_lines(environment):
        kept.append({"path": environment, "reason": "own-lines"})
    else:
        yield Item("state", environment)
    for name in LAST:
        yield Item("state", os.path.join(PI, name))


def environments(folder: str, used: Set[str], kept: "List[protocol.KeptPlace]") -> Iterator[Item]:
    """Yield the environments in a folder that no other machine uses, and the folder itself if they are all."""
    pattern = os.path.join(glob.escape(folder), "")
    for environment in sorted(glob.glob(pattern + "*") + glob.glob(pattern + ".*-*")):
        if os.path.realpath(environment) in used:
            kept.append({"path": environment, "reason": "other-machine"})
        else:
            yield Item("vllm", environment)
    yield Item("vllm", os.path.join(folder, ".new"))
    if not used:
        yield Item("vllm", folder)


def on_other_disks(kept: "List[protocol.KeptPlace]") -> Iterator[Item]:
    """Yield what `--home` has put on other disks. The environments of other machines need the Pythons there too."""
    for path in place.folders():
        root, name = os.path.split(path)
        used = used_by_others(root)
        if name == "venvs":
            yield from environments(path, used, kept)
        elif used and name in ("python", "machine"):
            kept.append({"path": path, "reason": "other-machine"})
        else:
            yield Item(KINDS.get(name, "vllm"), path)


def above(root: str) -> List[str]:
    """Return the folders above one for this machine on another disk that setup has made for it."""
    machines, name = os.path.split(root)
    return [machines, os.path.dirname(machines)] if name == machine.ID else []


def has_other_machines() -> bool:
    """Return whether another machine uses this home too."""
    folders = [name for name in trees.list_folder(os.path.join(PI, "machines")) if name != machine.ID]
    return PLACE != PI or bool(folders) or bool(records.look().others)


def used_by_others(folder: str) -> Set[str]:
    """Return the environments that other machines with this home, or this disk, use as their default."""
    links = glob.glob(os.path.join(glob.escape(folder), "machines", "*", "venv"))
    return {os.path.realpath(link) for link in links if os.path.basename(os.path.dirname(link)) != machine.ID}


def default_is_ours() -> bool:
    """Return whether `~/venv` is the link that setup made: to an environment in a folder of pi."""
    with contextlib.suppress(OSError):
        target = os.readlink(os.path.join(HOME, "venv"))
        return any(target.startswith(os.path.join(folder, "venvs", "")) for folder in (PI, *place.roots()))
    return False


def caches(kept: "List[protocol.KeptPlace]") -> Iterator[Item]:
    """Yield the caches of uv. They are surely ours if the machine had no uv before setup."""
    own_cache = "%s/var/tmp/pi-uv-%d" % (machine.ROOT, os.getuid())  # made by setup where the home has no locks
    if is_own_folder(own_cache):
        yield Item("uv", own_cache)
    cache, pythons = os.path.join(HOME, ".cache", "uv"), os.path.join(HOME, ".local", "share", "uv")
    for path in (cache, pythons):
        if os.path.isdir(os.path.join(PI, "uv")) and not has_other_machines() and not os.path.islink(path):
            yield Item("uv", path)
        elif os.path.lexists(path):
            kept.append({"path": path, "reason": "maybe-yours"})


def is_own_folder(path: str) -> bool:
    status = trees.lstat(path)
    return status is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def models(with_models: bool, kept: "List[protocol.KeptPlace]") -> Iterator[Item]:
    """Yield the models in the cache that setup made or uses, and what vLLM compiled for them."""
    settings = written_by_setup()
    store = settings.get("HF_HOME") or ("" if os.path.islink(HF_CACHE) else HF_CACHE)
    folder = os.path.join(os.path.realpath(store), "hub") if store else ""
    downloaded = sorted(glob.glob(os.path.join(glob.escape(folder), "models--*"))) if folder else []
    compiled = settings.get("PI_VLLM_CACHE", "")
    if not with_models:
        if downloaded:
            kept.append({"path": folder, "reason": "models"})
        return
    if store and is_leased(folder):
        raise wire.Refused({"code": "in-use", "names": [], "path": folder})
    for path in [*downloaded, os.path.join(folder, ".locks"), os.path.join(os.path.dirname(folder), "xet")]:
        if folder and not os.path.islink(path):
            yield Item("models", path)
    if compiled and not os.path.islink(compiled):
        yield Item("models", compiled)


def is_leased(folder: str) -> bool:
    """Return whether a start, maybe of another pod with this volume, downloads into a cache now."""
    leases = glob.glob(os.path.join(glob.escape(folder), ".locks", "*.pi-lease"))
    statuses = [status for status in map(trees.lstat, leases) if status is not None]
    if not statuses:
        return False
    trial = os.path.join(folder, ".locks", ".pi-now.%d" % os.getpid())
    with os.fdopen(home.create(trial), "wb") as file:
        now = os.fstat(file.fileno()).st_mtime  # by the clock of the file server, as the leases
    os.unlink(trial)
    return any(now - status.st_mtime < LEASE for status in statuses)


def written_by_setup() -> Dict[str, str]:
    """Return the variables in the lines that setup has written, which have simple quotes."""
    lines = read_lines(os.path.join(PLACE, "env.setup"))
    found = (re.match(r"export ([A-Z_]+)='([^']*)'$", line) for line in lines)
    return {match.group(1): match.group(2) for match in found if match}


def own_lines(path: str) -> List[str]:
    """Return the lines of ~/.pi/env that setup did not write."""
    ours = set(read_lines(path + ".setup"))
    return [line for line in read_lines(path) if line.strip() and line not in ours]


def read_lines(path: str) -> List[str]:
    with contextlib.suppress(OSError):
        return home.read_regular(path, 1 << 20).decode("utf-8", "surrogateescape").splitlines()
    return []


def forget_in_shells() -> None:
    """Remove the line of `--shell-env` from the start-up files of shells, and ours from an env that stays."""
    if PLACE != PI or has_other_machines():
        return
    for name in SHELL_FILES:
        path = os.path.join(HOME, name)
        lines = read_lines(path)
        if any(line.endswith(SHELL_MARK) for line in lines) and not os.path.islink(path):
            rewrite(path, [line for line in lines if not line.endswith(SHELL_MARK)])
    kept = own_lines(os.path.join(PI, "env"))
    if kept and not os.path.islink(os.path.join(PI, "env")):
        rewrite(os.path.join(PI, "env"), kept)


def rewrite(path: str, lines: List[str]) -> None:
    """Replace the content of a file in one step; its owner and its permissions stay."""
    status = os.stat(path)
    temporary = "%s.%d.new" % (path, os.getpid())
    with os.fdopen(home.create(temporary), "wb") as file:
        file.write("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
    os.replace(temporary, path)


def put_back_the_cache() -> None:
    """Remove the link that setup made in place of the Hugging Face cache, and put back what was there."""
    store = written_by_setup().get("HF_HOME", "")
    if PLACE != PI or has_other_machines() or not store.endswith("/huggingface"):
        return
    with contextlib.suppress(OSError):
        if os.readlink(HF_CACHE) == store:
            os.unlink(HF_CACHE)
            put_back(HF_CACHE)


def put_back(path: str) -> None:
    """Give what setup moved aside its name again, if that is free and there is one such copy."""
    copy = path + ".before-setup"
    if os.path.lexists(copy) and not os.path.lexists(path) and not os.path.lexists(copy + "+"):
        os.rename(copy, path)


def is_on_a_network(path: str) -> bool:
    with contextlib.suppress(OSError):
        return mounts.is_network(mounts.mount_of(os.path.realpath(path))[2])
    return False
