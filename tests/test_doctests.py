"""The examples in docstrings say what is so."""

import doctest
import importlib
from pathlib import Path

from tests.every import every

ROOT = Path(__file__).parent.parent
FILES = [path for path in sorted((ROOT / "pi_cli").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
FILES += [path for path in sorted((ROOT / "remote").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@every(FILES, lambda path: path.relative_to(ROOT).as_posix())
def test_examples_are_right(file: Path) -> None:
    base = ROOT / "remote" if file.is_relative_to(ROOT / "remote") else ROOT
    module = importlib.import_module(".".join(file.relative_to(base).with_suffix("").parts))
    done = doctest.testmod(module)
    assert done.attempted
    assert done.failed == 0
