"""What the Hub stand-in serves: repositories of files, and how the Hub's API describes them."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

LFS = {".bin", ".gguf", ".pt", ".safetensors"}
CHUNK = 1 << 18


class Refused(Exception):
    """The Hub says no: an HTTP status, its `X-Error-Code` (empty for none) and its words."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository. `oid` is what the Hub calls it: the git blob id, or the SHA-256 if it is in LFS."""

    size: int
    oid: str
    in_lfs: bool
    read: Callable[[int, int], bytes]  # from offset, so many bytes


@dataclass(frozen=True, slots=True)
class Repo:
    """Files by path, and the one commit that has them."""

    files: dict[str, File]
    commit: str = field(init=False)

    def __post_init__(self) -> None:
        listing = json.dumps(sorted((path, file.oid) for path, file in self.files.items()))
        object.__setattr__(self, "commit", hashlib.sha1(listing.encode()).hexdigest())


def info(name: str, repo: Repo, *, is_gated: bool, has_sizes: bool) -> dict[str, object]:
    """Answer `GET /api/models/NAME`."""
    siblings = [
        {"rfilename": path} | ({"size": file.size, "blobId": file.oid} if has_sizes else {})
        for path, file in repo.files.items()
    ]
    return {
        "id": name,
        "modelId": name,
        "sha": repo.commit,
        "private": False,
        "gated": "manual" if is_gated else False,
        "disabled": False,
        "lastModified": "2025-01-01T00:00:00.000Z",
        "tags": [],
        "siblings": siblings,
    }


def tree(repo: Repo, folder: str, *, is_recursive: bool) -> Iterable[dict[str, object]]:
    """Answer `GET /api/models/NAME/tree/REVISION/FOLDER`: the files in `folder`, or in it and all folders below."""
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    inside = {path.removeprefix(prefix): file for path, file in repo.files.items() if path.startswith(prefix)}
    if prefix and not inside:
        raise Refused(404, "EntryNotFound", f"{folder} does not exist on the given revision")
    for path, file in inside.items():
        if is_recursive or "/" not in path:
            yield entry(prefix + path, file)
    if not is_recursive:
        for name in sorted({path.split("/")[0] for path in inside if "/" in path}):
            yield {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + name}


def entry(path: str, file: File) -> dict[str, object]:
    """Describe one file as `tree` and `paths-info` do."""
    described: dict[str, object] = {"type": "file", "path": path, "size": file.size, "oid": file.oid[:40]}
    return described | ({"lfs": {"oid": file.oid, "size": file.size, "pointerSize": 135}} if file.in_lfs else {})


def on_disk(path: Path) -> File:
    """A file on disk; weights are read as they are sent."""

    def read(offset: int, length: int) -> bytes:
        with path.open("rb") as opened:
            opened.seek(offset)
            return opened.read(length)

    if path.suffix not in LFS:
        return in_memory(path.name, path.read_bytes())
    with path.open("rb") as opened:
        return File(path.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest(), in_lfs=True, read=read)


def in_memory(path: str, content: bytes) -> File:
    """A file with exactly this content."""
    in_lfs = Path(path).suffix in LFS
    git_blob = hashlib.sha1(b"blob %d\0" % len(content) + content)
    oid = hashlib.sha256(content).hexdigest() if in_lfs else git_blob.hexdigest()
    return File(len(content), oid, in_lfs, lambda offset, length: content[offset : offset + length])


def synthetic(name: str, size: int) -> File:
    """A file of `size` bytes that are made as they are sent. Its id is not their SHA-256, which `hf` never checks."""
    noise = random.Random(name).randbytes(CHUNK - 8)

    def read(offset: int, length: int) -> bytes:
        first, last = offset // CHUNK, (offset + length) // CHUNK
        blocks = b"".join(number.to_bytes(8, "big") + noise for number in range(first, last + 1))
        return blocks[offset - first * CHUNK :][: min(length, size - offset)]

    return File(size, hashlib.sha256(f"{name} {size}".encode()).hexdigest(), in_lfs=True, read=read)
