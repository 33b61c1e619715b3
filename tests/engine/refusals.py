"""Print where the vLLM of this Python refuses a configuration: `[[file, function, message], …]` as JSON.

Run by the pod's own Python, standard library only: it parses vLLM's source and imports none of it. A message is the
constant text of an exception or an assertion, with `…` for its values.
"""

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# The files in which vLLM checks a configuration before it serves: what was asked for, against the model and the GPUs.
FILES = (
    "config/*.py",
    "engine/arg_utils.py",
    "entrypoints/cli/serve.py",
    "entrypoints/launchers/cli_args.py",
    "model_executor/layers/fused_moe/oracle/*.py",
    "model_executor/layers/quantization/compressed_tensors/compressed_tensors.py",
    "model_executor/layers/quantization/utils/fp8_utils.py",
    "model_executor/layers/quantization/utils/marlin_utils.py",
    "model_executor/models/config.py",
    "model_executor/models/registry.py",
    "platforms/cuda.py",
    "transformers_utils/config.py",
    "v1/core/kv_cache_utils.py",
    "v1/worker/gpu_worker.py",
    "v1/worker/utils.py",
)
LENGTH = 100  # characters of a message that are compared


def refusals(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the file, the function and the message of every refusal in these files of vLLM."""
    for pattern in FILES:
        for path in sorted(root.glob(pattern)):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for function, message in _in(tree, ""):
                yield path.relative_to(root).as_posix(), function, message


def _in(node: ast.AST, scope: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{child.name}".lstrip(".")
        words = None
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call) and child.exc.args:
            words = child.exc.args[0]
        elif isinstance(child, ast.Assert) and child.msg is not None:
            words = child.msg
        message = "" if words is None else re.sub(r"\s+", " ", _constant(words)).strip()
        if message.strip("… "):
            yield inner, message[:LENGTH].strip()
        yield from _in(child, inner)


def _constant(node: ast.expr) -> str:
    """Return the constant text of an expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _constant(node.left) + _constant(node.right)
    if isinstance(node, ast.BinOp):
        return _constant(node.left)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _constant(node.func.value)
    return "…"


if __name__ == "__main__":
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    sys.stdout.write(f"ANSWER {json.dumps(list(refusals(Path(spec.origin).parent)))}\n")
