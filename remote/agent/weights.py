"""Choose how vLLM reads the weights, by the file system they are on and by how fast that is.

By default, vLLM maps the files into memory and reads single pages, which on a network file system takes ten times as
long as reading the files sequentially. It reads several files ahead only on file systems that it knows (NFS, Lustre).
This module makes it do so on others, and on any disk that reads several files at a time much faster than one; with as
many threads as that disk is best with, if this vLLM has the option.
"""

import contextlib
import glob
import os
from typing import Dict, List

from agent import memory, mounts, storage_speed
from agent.serve_command import READ_AHEAD
from agent.vllm_versions import Vllm

KNOWN_TO_VLLM = ("nfs", "nfs4", "lustre")
SINCE = "0.19"  # earlier versions have other strategies
SHARE = 0.9  # of the available RAM, the limit that vLLM uses: files that do not fit would be read twice
THREADS, USUAL = "--safetensors-prefetch-num-threads", 8  # vLLM's own number
STREAMS = (1, 8, 32)  # that are tried: a thread reads a file
GAIN = 2.0  # times the rate of one stream, from which on reading ahead helps on a disk of this machine
WORTH_MEASURING = 4 * 10**9  # bytes of weights: less is read in the time that the measurement takes
LOAD_OPTIONS = ("--load-format", "--safetensors-load-strategy", "--model-loader-extra-config")


def reading_ahead(folder: str, arguments: List[str], vllm: Vllm, *, measure: bool = True) -> List[str]:
    """Return the vLLM arguments for reading the files in a folder ahead, if that helps.

    Without `measure`, only the type of the file system counts.
    """
    if not folder or not may_choose(arguments, vllm):
        return []
    files = [os.path.realpath(path) for path in glob.glob(os.path.join(glob.escape(folder), "*.safetensors"))]
    if not files:
        return []
    kind, size = mounts.mount_of(files[0])[2], sum(map(os.path.getsize, files))
    if size > SHARE * memory.available_memory():
        return []
    rates: Dict[int, float] = {}
    if measure and size >= WORTH_MEASURING and len(files) > 1:
        with contextlib.suppress(OSError):
            rates = storage_speed.reading(files, [number for number in STREAMS if number <= len(files)])
    return chosen(kind, rates, has_threads=not any(THREADS in each for each in arguments) and vllm.has_option(THREADS))


def chosen(kind: str, rates: Dict[int, float], *, has_threads: bool) -> List[str]:
    """Return the arguments for files that fit into memory, by the type of their file system and its measured rates."""
    threads, gain = storage_speed.best(rates) if len(rates) > 1 else (USUAL, 1.0)
    own = [THREADS, str(threads)] if has_threads and threads != USUAL and threads > 0 else []
    if kind in KNOWN_TO_VLLM:
        return own
    return [*READ_AHEAD, *own] if mounts.is_network(kind) or gain >= GAIN else []


def may_choose(arguments: List[str], vllm: Vllm) -> bool:
    """Return whether pi may choose how to read: no argument does, and this vLLM has the strategy."""
    knows = vllm.version is not None and vllm.is_at_least(SINCE)
    return knows and not any(argument.startswith(LOAD_OPTIONS) for argument in arguments)
