"""What the Hub stand-in serves: repositories of files, and how the Hub's API describes them."""

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Files by path, the one commit that has them, and what the Hub says about the repository beside its files.

    `about` has fields of the Hub's answer, e.g. `pipeline_tag`, `library_name`, `tags`, `cardData`, `downloads`.
    """

    files: dict[str, File]
    about: Mapping[str, Any] = field(default_factory=dict)
    commit: str = field(init=False)

    def __post_init__(self) -> None:
        listing = json.dumps(sorted((path, file.oid) for path, file in self.files.items()))
        object.__setattr__(self, "commit", hashlib.sha1(listing.encode()).hexdigest())


def info(name: str, repo: Repo, *, is_gated: bool, query: Mapping[str, list[str]]) -> dict[str, object]:
    """Answer `GET /api/models/NAME`: file sizes only if asked with `blobs`, and with `expand` only what it names."""
    about: dict[str, object] = {
        "id": name,
        "modelId": name,
        "sha": repo.commit,
        "private": False,
        "gated": "manual" if is_gated else False,
        "disabled": False,
        "lastModified": "2025-01-01T00:00:00.000Z",
        "downloads": 0,
        **repo.about,
        "tags": tags(repo),
        "siblings": [sibling(path, file, has_sizes="blobs" in query) for path, file in repo.files.items()],
    }
    if config := summary(repo):
        about["config"] = config
    if parameters := count_parameters(repo):
        about["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
    if "securityStatus" in query:
        about["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    wanted = query.get("expand") or query.get("expand[]")
    return {key: value for key, value in about.items() if key == "id" or key in wanted} if wanted else about


def tags(repo: Repo) -> list[str]:
    """Return a repository's tags; like the real Hub, with those that say which models it came from, and how."""
    given = [str(tag) for tag in repo.about.get("tags", [])]
    card = repo.about.get("cardData", {})
    bases = card.get("base_model", [])
    relation = card.get("base_model_relation", "finetune")
    for base in [bases] if isinstance(bases, str) else bases:
        given += [f"base_model:{base}", f"base_model:{relation}:{base}"]
    return given


def summary(repo: Repo) -> dict[str, object]:
    """Return the part of config.json that the Hub's answer repeats."""
    file = repo.files.get("config.json")
    try:
        config = json.loads(file.read(0, file.size)) if file else {}
    except ValueError:
        return {}
    if not isinstance(config, dict):
        return {}
    kept = {key: config[key] for key in ("architectures", "model_type") if key in config}
    if isinstance(quantised := config.get("quantization_config"), dict):
        kept["quantization_config"] = {key: quantised[key] for key in ("quant_method", "bits") if key in quantised}
    return kept


def sibling(path: str, file: File, *, has_sizes: bool) -> dict[str, object]:
    """Describe one file as `info` does."""
    if not has_sizes:
        return {"rfilename": path}
    described = {"rfilename": path, "size": file.size, "blobId": file.oid[:40]}
    return described | ({"lfs": {"sha256": file.oid, "size": file.size, "pointerSize": 135}} if file.in_lfs else {})


def count_parameters(repo: Repo) -> dict[str, int]:
    """Count parameters by dtype. Like the real Hub, only of weights called as transformers calls them."""
    if {"model.safetensors", "model.safetensors.index.json"}.isdisjoint(repo.files):
        return {}
    counts: Counter[str] = Counter()
    for path, file in repo.files.items():
        if "/" not in path and path.startswith("model") and path.endswith(".safetensors"):
            length = int.from_bytes(file.read(0, 8), "little")
            if not 0 < length < file.size:  # made-up bytes
                return {}
            for name, tensor in json.loads(file.read(8, length)).items():
                if name != "__metadata__":
                    counts[tensor["dtype"]] += math.prod(tensor["shape"])
    return dict(counts)


def listed(repos: Mapping[str, Repo], query: Mapping[str, list[str]]) -> list[dict[str, object]]:
    """Answer `GET /api/models?author=…&search=…&filter=…&sort=downloads&limit=…`: every tag in `filter` is required."""
    author, search = (query.get(key, [""])[0].lower() for key in ("author", "search"))
    required = {tag for value in query.get("filter", []) for tag in value.split(",")}
    found = [
        {
            "id": name,
            "modelId": name,
            "private": False,
            **{key: value for key, value in repo.about.items() if key != "cardData"},
            "downloads": repo.about.get("downloads", 0),
            "tags": tags(repo),
        }
        for name, repo in sorted(repos.items())
        if search in name.lower()
        and (not author or name.lower().startswith(f"{author}/"))
        and required <= set(tags(repo))
    ]
    if query.get("sort") == ["downloads"]:
        found.sort(key=lambda model: -int(str(model["downloads"])))
    return found[: int(query.get("limit", ["500"])[0])]


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
