"""The directory a conversation is about."""

from pathlib import Path

import pytest


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """Return an empty directory; `tmp_path` itself contains the test's home."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
