"""Which files of a repository contain the weights that vLLM loads, and what is in them. Pure."""

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

# The files that vLLM 0.32 looks for at the top of a repository; it loads the first kind that exists
# (`DefaultModelLoader`). It has no loader for GGUF.
PATTERNS = ("consolidated*.safetensors", "*.safetensors", "*.bin", "*.pt")
OTHER_FILES = {"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"}
ADAPTER_WEIGHTS = "adapter_model.*"  # of the library PEFT

# Weights for other programs, which vLLM cannot load; the first ones have names that it would take for its own.
OTHER_FORMATS = (
    ("GGML", "ggml-*.bin"),
    ("OpenVINO", "openvino_*"),
    ("MLC", "params_shard_*.bin"),
    ("GGUF", "*.gguf"),
    ("ONNX", "*.onnx"),
    ("TensorRT-LLM", "*.engine"),
    ("Core ML", "*.mlpackage/*"),
    ("Core ML", "*.mlmodel*"),
    ("LiteRT (TensorFlow Lite)", "*.tflite"),
    ("LiteRT (TensorFlow Lite)", "*.task"),
    ("LiteRT (TensorFlow Lite)", "*.litertlm"),
    ("RKLLM", "*.rkllm"),
    ("NeMo", "*.nemo"),
    ("TensorFlow", "*.h5"),
    ("Flax", "*.msgpack"),
    ("NumPy", "*.npz"),
    ("PyTorch's .pth", "*.pth"),
    ("PyTorch's .ckpt", "*.ckpt"),
)


def choose(names: Iterable[str]) -> list[str]:
    """Return the files at the top of a repository in which vLLM looks for weights.

    >>> choose(["config.json", "model.safetensors", "pytorch_model.bin", "original/model.safetensors"])
    ['model.safetensors']
    """
    top = [
        name
        for name in names
        if "/" not in name and name not in OTHER_FILES and not fnmatch.fnmatch(name, ADAPTER_WEIGHTS)
    ]
    top = [name for name in top if not any(fnmatch.fnmatch(name, pattern) for _, pattern in OTHER_FORMATS)]
    return next((matches for pattern in PATTERNS if (matches := fnmatch.filter(top, pattern))), [])


def other_format(names: Iterable[str]) -> str | None:
    """Return the format of weights that vLLM cannot load, wherever they are in a repository.

    >>> other_format(["README.md", "onnx/model.onnx"])
    'ONNX'
    """
    paths = list(names)
    return next((format for format, pattern in OTHER_FORMATS if fnmatch.filter(paths, pattern)), None)


def folder(names: Collection[str]) -> str | None:
    """Return the first folder of a repository that contains weights which vLLM could load from its top."""
    folders = sorted({name.rpartition("/")[0] for name in names if "/" in name})
    return next((path for path in folders if choose(_inside(names, path))), None)


def _inside(names: Collection[str], path: str) -> Iterator[str]:
    return (name.removeprefix(f"{path}/") for name in names if name.startswith(f"{path}/"))


def count_sets(names: Sequence[str]) -> int:
    """Count the sets of files that belong together: the shards of one model are one set.

    >>> count_sets(["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "adapter.safetensors"])
    2
    """
    return len({re.sub(r"\d+-of-", "", name) for name in names})


def total_size(sizes: Mapping[str, int | None], names: Iterable[str]) -> int | None:
    """Return the sum of file sizes; None if there are no files, or if the size of one is not known."""
    chosen = [sizes[name] for name in names]
    known = [size for size in chosen if isinstance(size, int)]
    return sum(known) if known and len(known) == len(chosen) else None


def count_parameters(header: Mapping[str, Any]) -> Counter[str]:
    """Count the elements of the tensors in a safetensors header, by dtype.

    >>> count_parameters({"w": {"dtype": "BF16", "shape": [3, 4]}, "b": {"dtype": "F32", "shape": [4]}})
    Counter({'BF16': 12, 'F32': 4})
    """
    counts: Counter[str] = Counter()
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[tensor["dtype"]] += math.prod(tensor["shape"])
    return counts
