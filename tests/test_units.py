"""GPU memory is in GiB, as nvidia-smi and vLLM count it; disks and downloads are in GB, as vendors and the Hub do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pi_cli import units

ROOT = Path(__file__).parents[1] / "pi_cli"
MEMORY = r"GPU memory|KV cache|of each GPU|leaves?\b|are used by|no room"
DISK = r"disk|download|upload|files?\b|free on|has \{\} free|space"


def texts() -> Iterator[tuple[str, str]]:
    """Yield (module, text) of every text in pi's code, with `{}` for values; docstrings are not shown to users."""
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if module.startswith("demo/"):
            continue  # other programs' words
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                values = [each.value if isinstance(each, ast.Constant) else "{}" for each in node.values]
                yield module, "".join(map(str, values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield module, node.value


def test_no_text_gives_gpu_memory_in_gb_or_disks_in_gib() -> None:
    found = list(texts())
    assert sum("GiB" in text for _, text in found) > 10
    assert [text for text in found if re.search(r"\bGB\b", text[1]) and re.search(MEMORY, text[1])] == []
    assert [text for text in found if re.search(r"\bGiB\b", text[1]) and re.search(DISK, text[1])] == []


def test_sizes_of_files_are_not_formatted_from_gpu_memory() -> None:
    """`units.size` is for bytes of files: MiB of GPU memory never enter it."""
    used = [
        (path.name, call)
        for path in ROOT.rglob("*.py")
        for call in re.findall(r"units\.size\(([^()]*(?:\([^()]*\))?[^()]*)\)", path.read_text(encoding="utf-8"))
    ]
    assert len(used) > 15
    assert [each for each in used if re.search(r"mib|memory|freed\b|1024", each[1], re.IGNORECASE)] == []


def test_gpu_memory_is_shown_as_nvidia_smi_counts_it() -> None:
    assert units.gpu_memory(81559) == "80 GiB"
    assert units.share((73400, 163118)) == "72/159"
