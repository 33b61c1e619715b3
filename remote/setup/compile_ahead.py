"""Compile what an import of vLLM will need, in a process beside it, from the end: both meet where all is compiled.

    compile_ahead.py PARENT PART PARTS PACKAGES

Run by `vllm_abilities.py` for the first import of a new vLLM: half of that is compiling 5,000 files, in one process.
PACKAGES is its site-packages, of which this process takes each PARTS-th file. It ends when it is told to (SIGTERM),
between two files so that no half a file stays, or when PARENT is no longer its parent.
"""

import compileall
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# In the reverse order in which vLLM 0.32 imports them, without folders of which it needs less than a third: bytes of
# source were counted by the time of their bytecode. What another version does not have is left out. `/*` is the folder
# without those in it.
LATE_FIRST = """
vllm/model_executor/layers vllm/model_executor/kernels vllm/model_executor/model_loader
vllm/model_executor/determinism vllm/v1/attention vllm/models/deepseek_v4 vllm/models/deepseek_v41
vllm/models/minimax_m3 compressed_tensors loguru vllm/v1/* vllm/v1/hisparse vllm/v1/executor vllm/v1/metrics
vllm/v1/structured_output vllm/distributed/* vllm/distributed/device_communicators vllm/distributed/eplb
vllm/entrypoints opentelemetry google grpc xgrammar tvm_ffi click uvicorn vllm/renderers vllm/multimodal vllm/utils
vllm/* prometheus_client packaging cpuinfo msgspec openai/types/responses openai/types/chat openai/types/*
openai/_utils openai/auth openai/* requests charset_normalizer aiohttp yarl attr transformers/loss
transformers/quantizers transformers/integrations transformers/generation transformers/distributed vllm/config
transformers/utils transformers/* httpcore2 h11 huggingface_hub/utils huggingface_hub/* httpx2 urllib3 psutil
vllm/engine starlette python_multipart pydantic fastapi yaml jinja2 torch/_inductor/codegen torch/_inductor/runtime
torch/_inductor/kernel torch/_inductor/template_heuristics torch/_inductor/* networkx/readwrite networkx/generators
networkx/drawing networkx/classes networkx/algorithms torch/_export torch/onnx torch/_functorch
torch/distributed/tensor torch/distributed/fsdp torch/distributed/_shard torch/distributed/rpc torch/distributed/*
torch/_dynamo torch/_numpy sympy/solvers sympy/simplify sympy/series sympy/matrices sympy/functions sympy/printing
sympy/polys sympy/core mpmath torch/_refs torch/_decomp torch/export torch/_higher_order_ops torch/fx
"""


def main() -> None:
    parent, part, parts = map(int, sys.argv[1:4])
    told_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_end.append(number))
    os.nice(10)  # the import has the processor first, where both need the same
    for number, file in enumerate(files(Path(sys.argv[4]))):
        if told_to_end or os.getppid() != parent:
            return
        if number % parts == part:
            compileall.compile_file(file, quiet=2)


def files(packages: Path) -> Iterator[Path]:
    for place in LATE_FIRST.split():
        folder, is_flat = packages / place.removesuffix("/*"), place.endswith("/*")
        found = folder.glob("*.py") if is_flat else folder.rglob("*.py")
        yield from sorted((file for file in found if "tests" not in file.parts), reverse=True)


if __name__ == "__main__":
    main()
