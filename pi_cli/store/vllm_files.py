"""What the vLLMs of pods said about themselves, in `abilities/DIGEST.json`: kept, so that plans need no pod.

The digest is the SHA-256 of the content. A file with other content counts as missing, and pi gets it from a pod again.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from pi_cli.errors import PiError
from pi_cli.store import files, paths

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_SIZE = 1 << 20  # bytes of a file; that of vLLM 0.32 has 53,000
MAX_FILES = 20  # the oldest are deleted


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read(digest: str) -> str | None:
    """Return the content with this digest; None if it is missing or damaged."""
    if not DIGEST.fullmatch(digest):
        return None
    try:
        with _path(digest).open("rb") as file:
            text = file.read(MAX_SIZE + 1).decode()
    except (OSError, UnicodeError):
        return None
    return text if len(text) <= MAX_SIZE and digest_of(text) == digest else None


def digests() -> list[str]:
    """Return the digests of all that can be read."""
    return [path.stem for path in _stored() if read(path.stem) is not None]


def write(text: str) -> None:
    """Store a content, and delete the oldest ones. It can be had again, so a folder without space is not an error."""
    folder = _path("").parent
    with suppress(PiError, OSError), files.locked(folder / "all"):
        files.replace(_path(digest_of(text)), text)
        for path in _stored()[:-MAX_FILES]:
            path.unlink(missing_ok=True)


def _stored() -> list[Path]:
    """Return the files of the folder, the oldest first."""
    try:
        found = [path for path in _path("").parent.iterdir() if DIGEST.fullmatch(path.stem) and path.suffix == ".json"]
        return sorted(found, key=lambda path: path.stat().st_mtime)
    except OSError:
        return []


def _path(digest: str) -> Path:
    return paths.config_dir() / "abilities" / f"{digest}.json"
