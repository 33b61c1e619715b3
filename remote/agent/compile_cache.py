"""Delete what earlier starts have compiled, for `pi start --clean-cache`: never models, nor anything downloaded.

    $VLLM_CACHE_ROOT/torch_compile_cache/HASH   torch.compile: those that the last log of the model names, else all
    $VLLM_CACHE_ROOT/deep_gemm, …               what DeepGEMM has compiled, what FlashInfer has measured
    ~/.cache/flashinfer/VERSION/ARCH/cached_ops what FlashInfer of this vLLM has compiled; its cubins are downloads
    ~/.triton/cache, /tmp/torchinductor_USER    what Triton and Inductor have compiled outside of torch.compile
    ~/.tilelang/cache, ~/.cache/tvm-ffi, …      the same of other libraries
    ~/.pi/starts                                what starts have found out (`kv_cache`, `warm_up`)

With models on a volume, what is outside of vLLM's own cache is on the volume too (`kernel_caches`).

Each is moved aside under the lock under which models are placed: a start after that finds none of it, and none while it
is deleted. A model that runs has read what it needs.
"""

import glob
import os
import pwd
import re
import stat
from typing import TYPE_CHECKING, Iterator, List, Mapping, Set, Tuple

from agent import (
    home,
    kernel_caches,
    kv_cache,
    machine,
    ports,
    processes,
    records,
    trees,
    variables,
    vllm_versions,
    wire,
)
from agent.machine import LOGS

if TYPE_CHECKING:
    from agent import protocol

ASIDE = ".pi-cleaned."
HEAD, TAIL = 1 << 20, 3 << 20  # bytes of a log that are searched for the folders that it names
# A variable may name any folder: it is deleted only if its name says that it is such a cache.
RECOGNISED = re.compile(
    r"triton|inductor|deep_?gemm|tilelang|torch_extensions|tvm|cute_dsl|cutlass|\bnv\b", re.IGNORECASE
)


def clean(request: "protocol.CleanRequest") -> "protocol.CleanResult":
    """Delete the compile caches that a start of this model would read; refuse while another model starts with them."""
    vllm = vllm_versions.choose(request["min_vllm"])
    settings = dict(kernel_caches.added(vllm.settings(variables.pod_environment())), **request["environment"])
    log = os.path.join(LOGS, request["name"] + ".log")
    with records.locked():
        refuse_while_others_start()
        found = [path for path in places(settings, vllm.path, log, request["model"]) if is_ours(path)]
        aside = [(path, move_aside(path)) for path in dict.fromkeys(found)]
    seen: "Set[Tuple[int, int]]" = set()
    folders: "List[protocol.CleanedFolder]" = []
    for path, moved in aside:
        size, files = trees.measure(moved, seen)
        folders.append({"path": path, "bytes": size, "files": files})
    deletion = trees.Deletion(sum(folder["bytes"] for folder in folders))
    for path, moved in aside:
        for each in [moved, *glob.glob(glob.escape(path) + ASIDE + "*")]:  # and what a broken connection has left
            deletion.delete(each)
    about_starts = kv_cache.folder(settings)  # it goes with what was compiled, and is not compiled code itself
    return {"folders": [folder for folder in folders if folder["files"] and folder["path"] != about_starts]}


def refuse_while_others_start() -> None:
    """Refuse while a model that is launched is not ready: it may be compiling, or reading what another compiled."""
    marked, listening = processes.marked(), ports.listening_sockets()
    starting = [
        record["name"]
        for record in records.living()
        if (record["pid"] or record.get("warming"))
        and not record.get("ready", False)
        and ports.health(record["port"], marked.get(record["uid"], []), listening) != 200
    ]
    if starting:
        raise wire.Refused({"code": "cache-in-use", "names": sorted(starting)})


def places(settings: Mapping[str, str], venv: str, log: str, model: str) -> Iterator[str]:
    """Yield the folders of the compile caches; some may not exist."""
    user_home = settings.get("HOME") or home.HOME
    caches = settings.get("XDG_CACHE_HOME") or os.path.join(user_home, ".cache")
    root = expanded(settings.get("VLLM_CACHE_ROOT") or os.path.join(caches, "vllm"), user_home)
    compiled = os.path.join(root, "torch_compile_cache")
    yield from named(compiled, log, model) or [compiled]
    yield os.path.join(root, "deep_gemm")
    yield os.path.join(root, "flashinfer_autotune_cache")
    yield kv_cache.folder(settings)
    temporary = settings.get("TMPDIR") or machine.ROOT + "/tmp"
    yield chosen(settings, "TORCHINDUCTOR_CACHE_DIR", os.path.join(temporary, "torchinductor_" + user()), user_home)
    yield chosen(settings, "TRITON_CACHE_DIR", os.path.join(user_home, ".triton", "cache"), user_home)
    yield chosen(settings, "DG_JIT_CACHE_DIR", os.path.join(user_home, ".deep_gemm"), user_home)
    yield chosen(settings, "TILELANG_CACHE_DIR", os.path.join(user_home, ".tilelang", "cache"), user_home)
    yield chosen(settings, "TORCH_EXTENSIONS_DIR", os.path.join(caches, "torch_extensions"), user_home)
    yield chosen(settings, "TVM_FFI_CACHE_DIR", os.path.join(caches, "tvm-ffi"), user_home)
    yield chosen(settings, "CUTE_DSL_CACHE_DIR", os.path.join(temporary, user(), "cutlass_python_cache"), user_home)
    yield chosen(settings, "CUDA_CACHE_PATH", os.path.join(user_home, ".nv", "ComputeCache"), user_home)
    base = expanded(settings.get("FLASHINFER_WORKSPACE_BASE") or user_home, user_home)
    yield from of_flashinfer(os.path.join(base, ".cache", "flashinfer"), venv)


def named(compiled: str, log: str, model: str) -> List[str]:
    """Return the folders of torch.compile that the last log of a model names; none if it is another model's."""
    try:
        text = ends(log)
    except OSError:
        return []
    if model.encode() not in text:
        return []
    pattern = re.compile(re.escape(os.path.join(compiled, "").encode()) + rb"((?:torch_aot_compile/)?[\w-]{8,128})")
    names = {match.decode() for match in pattern.findall(text)} - {"torch_aot_compile"}
    found = [os.path.join(compiled, name) for name in sorted(names)]
    return [path for path in found if os.path.isdir(path)]


def ends(log: str) -> bytes:
    """Return the begin and the end of a log."""
    with os.fdopen(home.open_regular(log), "rb") as file:
        head = file.read(HEAD)
        file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - TAIL))
        return head + file.read(TAIL)


def of_flashinfer(folder: str, venv: str) -> List[str]:
    """Return what the FlashInfer of an environment compiles, older versions without their number; not its cubins."""
    pattern = os.path.join(glob.escape(venv), "lib", "python3*", "site-packages", "flashinfer_python-*.dist-info")
    versions = [os.path.basename(path)[len("flashinfer_python-") : -len(".dist-info")] for path in glob.glob(pattern)]
    kinds = ("cached_ops", "generated")
    layouts = [os.path.join(version, "*") for version in list(map(glob.escape, versions)) or ["*"]] + ["*"]
    patterns = [os.path.join(glob.escape(folder), layout, kind) for layout in layouts for kind in kinds]
    return [path for each in patterns for path in sorted(glob.glob(each))]


def chosen(settings: Mapping[str, str], variable: str, default: str, user_home: str) -> str:
    """Return the folder that a variable names, or else the default; no folder if its name says nothing."""
    path = expanded(settings.get(variable) or default, user_home)
    return path if RECOGNISED.search("/".join(path.split("/")[-2:])) else ""


def expanded(path: str, user_home: str) -> str:
    path = user_home + path[1:] if path == "~" or path.startswith("~/") else path
    return os.path.normpath(path) if path.startswith("/") else ""


def user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def is_ours(path: str) -> bool:
    """Return whether a path is a folder of this user: no link, which may lead anywhere."""
    status = trees.lstat(path) if path else None
    return status is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def move_aside(path: str) -> str:
    moved = "%s%s%d" % (path, ASIDE, os.getpid())
    os.rename(path, moved)
    return moved
