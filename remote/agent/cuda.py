"""Ask the driver whether CUDA works, with the program that pi sends (`remote/setup/ask_cuda.py`)."""

import json
import sys
from typing import TYPE_CHECKING, Dict, List, Optional

from agent import gpus

if TYPE_CHECKING:
    from agent import protocol

SHARE = 7 / 6  # of the patience with nvidia-smi: the program itself ends after 60 s
IN_USE = 0.05  # share of a GPU's memory from which on another program uses it


def ask(
    program: str, settings: Dict[str, str], rows: str, models: "Optional[List[protocol.ModelReport]]"
) -> "protocol.CudaAnswer":
    """Return the answer; GPUs in use, by the output of nvidia-smi or by models that are starting, are not touched."""
    expected = 0 if "Enabled" in rows else len(numbered(rows))  # of MIG slices, CUDA shows a program only one
    taken = sorted({*used(rows), *(gpu for model in models or [] for gpu in model["gpu"].split(",") if gpu)})
    python = sys.executable or "python3"
    options = ["--expect", str(expected), "--leave", ",".join(taken)]
    [output] = gpus.ask([[python, "-I", "-S", "-c", program, *options]], settings, share=SHARE)
    answer = output.text.strip().rpartition("\n")[2]
    try:
        found: "protocol.CudaAnswer" = json.loads(answer)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    reason = output.trouble or "no answer"
    return {
        "problem": "unasked",
        "code": 0,
        "reason": reason,
        "gpus": [],
        "count": 0,
        "expected": 0,
        "version": 0,
        "library": "",
        "driver": "",
        "entry": "",
        "lacking": [],
        "denied": [],
        "simulated": False,
    }


def used(rows: str) -> List[str]:
    """Return the ids of the GPUs whose memory is used, from the rows `index, name, total, used, …` of nvidia-smi."""
    found = []
    for fields in numbered(rows):
        total, taken = fields[-5], fields[-4]
        if total.isdigit() and taken.isdigit() and int(taken) > IN_USE * int(total):
            found.append(fields[0])
    return found


def numbered(rows: str) -> List[List[str]]:
    table = [[field.strip() for field in row.split(",")] for row in rows.splitlines()]
    return [fields for fields in table if fields[0].isdigit() and len(fields) > 6]
