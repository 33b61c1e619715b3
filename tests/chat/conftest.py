"""The directory a conversation is about."""

from pathlib import Path

import pytest


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """Offer an empty directory; `tmp_path` itself has the test's home in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
