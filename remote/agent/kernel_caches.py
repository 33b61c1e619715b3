"""Where what is compiled at run time is kept: beside vLLM's own cache, on the volume that has the models.

    $PI_VLLM_CACHE/VERSION/          vLLM's own (VLLM_CACHE_ROOT): torch.compile, DeepGEMM, what FlashInfer has measured
    $PI_VLLM_CACHE/VERSION/kernels/  what other libraries compile, a folder each

By themselves these libraries write to the home folder and to /tmp, which end with a container. Compiled code is for one
kind of GPU, which PI_VLLM_CACHE names, and for one version of the library, which comes with that of vLLM. A variable
that is set already, in ~/.pi/env, stays as it is.
"""

import os
import re
import threading
from typing import Dict, List, Mapping

from agent import disks, home, mounts, place

# The names are those of vLLM 0.32 and of what it requires; another version ignores what it does not know.
FOLDERS = {
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TILELANG_CACHE_DIR": "tilelang",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "CUTE_DSL_CACHE_DIR": "cute_dsl",
    "CUDA_CACHE_PATH": "nv",
}
# File systems in which a shared library cannot be built: of buckets, and without links; as in `remote/setup/place.sh`.
UNFIT = re.compile(r"vfat|msdos|exfat|fuse\.(s3fs|gcsfuse|rclone|geesefs|goofys|mount-s3|blobfuse2?)")


def added(settings: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment of a vLLM with these variables; its VLLM_CACHE_ROOT is set already.

    They stay as they are without a volume, or where compiled code cannot be loaded from it.
    """
    volume, root = settings.get("PI_VLLM_CACHE", ""), settings.get("VLLM_CACHE_ROOT", "")
    if not volume or not root.startswith(volume + "/") or not runs_programs(volume):
        return dict(settings)
    ours, of_setup = in_folder(os.path.join(root, "kernels")), set_by_setup()
    return dict(settings, **{name: ours[name] for name in ours if settings.get(name) in (None, "", of_setup[name])})


def in_folder(folder: str) -> Dict[str, str]:
    return {name: os.path.join(folder, part) for name, part in FOLDERS.items()}


def set_by_setup() -> Dict[str, str]:
    """Return what setup has written to ~/.pi/env, with `--home`, or since /tmp runs no programs (`setup/home.sh`).

    It is for those who run vLLM by hand, and is not a choice of the user.
    """
    folder = os.path.join(place.root(), "cache")
    return dict(in_folder(folder), FLASHINFER_WORKSPACE_BASE=folder)


def runs_programs(folder: str) -> bool:
    """Return whether compiled code can be written to a folder and loaded from it; not if its disk does not answer."""
    results: List[bool] = []
    thread = threading.Thread(target=lambda: results.append(is_fit(folder)), daemon=True)
    thread.start()
    return home.join(thread, disks.TIMEOUT) and results[0]


def is_fit(path: str) -> bool:
    try:
        folder = os.path.realpath(disks.existing(path))
        return not os.statvfs(folder).f_flag & os.ST_NOEXEC and not UNFIT.fullmatch(mounts.mount_of(folder)[2])
    except OSError:
        return False
