"""The weights of the tiny model: 1.8 MB, which the sdist leaves out."""

from pathlib import Path

import pytest

FILE = Path(__file__).parent / "tiny-model" / "model.safetensors"


def require() -> None:
    """Skip a test that needs the weights where they are missing."""
    if not FILE.exists():
        pytest.skip("the tiny model's weights are not in the sdist: run this test in a clone")
