"""The simulated `hf`: `hf download` with the real options, output, cache layout and errors (huggingface_hub 2.4).

Files are sparse and take no disk space. The owner of a repository determines its behaviour:

    gated/…      access denied          missing/…    no such repository
    no-space/…   the disk fills up      stall/…      stalls for ever after a third, unless Xet is off

`$HOME/.demo/hf.json` may contain `{"seconds": 1.5}`, the duration of a whole download; it may change on the way.
"""

import fcntl
import fnmatch
import hashlib
import json
import os
import re
import sys
import time
import uuid
from pathlib import Path

VERSION = "2.4.0"
DOWNLOAD_SECONDS = 1.5
TICK_SECONDS = 0.05

HINT = "Hint: set HF_DEBUG=1 as environment variable for full traceback."
# Billions of parameters of models whose names do not have them; longer names first.
KNOWN_SIZES = {
    "glm-4.5-air": 106, "glm-4": 355, "kimi-k2": 1000, "minimax-m2": 230, "deepseek-v3": 671, "deepseek-r1": 671,
}  # fmt: skip

FLAGS = {"--dry-run", "--force-download", "--quiet", "-q", "--json"}
VALUES = {
    "--repo-type", "--revision", "--include", "--exclude", "--cache-dir",
    "--local-dir", "--token", "--max-workers", "--format",
}  # fmt: skip


def main(argv: list[str]) -> int:
    if argv[:1] == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
        return 0
    if argv[:1] == ["version"]:
        sys.stdout.write(f"\x1b[32m✓ hf version\x1b[0m\n  version: {VERSION} (simulated)\n")
        return 0
    if argv[:1] != ["download"]:
        return _usage(f"No such command '{' '.join(argv[:1])}' in the simulated hf.")
    options: dict[str, str] = {}
    names = []
    words = argv[1:]
    while words:
        name, separator, value = words.pop(0).partition("=")
        if name in FLAGS:
            options[name] = "yes"
        elif name in VALUES:
            value = value if separator or not words else words.pop(0)
            options[name] = f"{options[name]} {value}" if name == "--exclude" and name in options else value
        elif name.startswith("-"):
            return _usage(f"No such option: {name}")
        else:
            names.append(name)
    if not names:
        return _usage("Missing argument 'REPO_ID'.")
    return _download(names[0], options)


def _usage(error: str) -> int:
    sys.stderr.write(
        f"Usage: hf download [OPTIONS] REPO_ID [FILENAMES]...\nTry 'hf download --help' for help.\n{error}\n"
    )
    return 2


def _download(repo: str, options: dict[str, str]) -> int:
    mode = "quiet" if options.keys() & {"--quiet", "-q"} else options.get("--format", "human")
    owner = repo.partition("/")[0]
    if owner in ("gated", "missing"):
        return _refuse(mode, _gated(repo) if owner == "gated" else _missing(repo))
    cache = CachedRepo(repo, options.get("--cache-dir"), options.get("--revision", "main"))
    files = list_files(repo)
    excluded = options.get("--exclude", "").split()
    wanted = {name: size for name, size in files.items() if not any(fnmatch.fnmatch(name, each) for each in excluded)}
    if "--dry-run" in options:
        _print_plan(mode, files, cache)
        return 0
    progress = ProgressBars(len(wanted), is_shown=mode == "human" and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ)
    try:
        cache.fill(files, progress, obstacle=owner, wanted=wanted)
    except OSError as error:
        sys.stderr.write(f"Traceback (most recent call last):\nOSError: {error}\n")
        return 1
    _print_result(mode, str(cache.snapshot))
    return 0


def _gated(repo: str) -> str:
    return f"Access denied. Model '{repo}' requires approval."


def _missing(repo: str) -> str:
    return (
        f"Model '{repo}' not found.\n"
        "If the repo is private, make sure you are authenticated and your token has the required permissions.\n"
        f"If the repo does not exist, create it with: hf repos create {repo}"
    )


def _refuse(mode: str, message: str) -> int:
    if mode == "human":
        sys.stderr.write(f"\x1b[1m\x1b[31mError: {message}\x1b[0m\n\x1b[90m{HINT}\x1b[0m\n")
    else:
        sys.stderr.write(f"Error: {message}\n" + ("" if mode == "quiet" else f"{HINT}\n"))
    return 1


def list_files(repo: str) -> dict[str, int]:
    """Return invented files of a repository and their sizes in bytes; its name determines the size of the weights."""
    weights = weight_bytes(repo)
    count = min(max(round(weights / 5e9), 1), 8)
    files = {
        "config.json": 726,
        "generation_config.json": 239,
        "tokenizer.json": 11_422_654,
        "tokenizer_config.json": 9732,
    }
    if count == 1:
        files["model.safetensors"] = weights
    else:
        files |= {f"model-{i + 1:05}-of-{count:05}.safetensors": weights // count for i in range(count)}
        files["model.safetensors.index.json"] = 32_819
    return files


def weight_bytes(repo: str) -> int:
    """Estimate the bytes of a model's weights from its name.

    >>> weight_bytes("Qwen/Qwen2.5-72B-Instruct"), weight_bytes("openai/gpt-oss-20b"), weight_bytes("x/y")
    (144000000000, 12000000000, 1500000000)
    """
    in_name = re.search(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[Bb](?![A-Za-z0-9])", repo)
    known_size = next((size for name, size in KNOWN_SIZES.items() if name in repo.lower()), 0.75)
    quantized = re.search(r"fp8|int8|awq|int4|fp4|gptq|gpt-oss", repo, re.IGNORECASE)
    bytes_each = 2.0 if not quantized else 1.0 if quantized[0].lower() in ("fp8", "int8") else 0.6
    return int(float(in_name[1] if in_name else known_size) * 1e9 * bytes_each)


class CachedRepo:
    """One repository in the Hugging Face cache."""

    def __init__(self, repo: str, folder: str | None, revision: str) -> None:
        home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
        hub = Path(folder or os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))
        self.repo = repo
        self.root = hub / f"models--{repo.replace('/', '--')}"
        named = f"{repo}@{revision}".encode()
        is_commit = re.fullmatch("[0-9a-f]{40}", revision)
        self.commit = revision if is_commit else hashlib.sha1(named, usedforsecurity=False).hexdigest()
        self.snapshot = self.root / "snapshots" / self.commit
        self._revision = revision

    def has(self, name: str) -> bool:
        return (self.snapshot / name).exists()

    def fill(self, files: dict[str, int], progress: "ProgressBars", *, obstacle: str, wanted: dict[str, int]) -> None:
        """Download missing files. Like the real client, leave `*.incomplete` files behind if interrupted."""
        for folder in (self.root / "blobs", self.root / "refs", self.root / "trees", self.snapshot):
            folder.mkdir(parents=True, exist_ok=True)
        _put(self.root / "refs" / self._revision, self.commit)
        tree = {name: {"size": size, "blob_id": self._etag(name)} for name, size in files.items()}
        text = json.dumps({"format_version": 1, "files": tree})
        _put(self.root / "trees" / f"{self.commit}.json", text)
        total = sum(files.values())
        for name, size in wanted.items():
            with (self.root / f"{name}.lock").open("w") as lock:  # as with the real client, downloads share the work
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.has(name):
                    self._fetch(name, size, size / total, progress, obstacle)
            progress.file_done()

    def _fetch(self, name: str, size: int, share: float, progress: "ProgressBars", obstacle: str) -> None:
        etag = self._etag(name)
        blob = self.root / "blobs" / etag
        part = blob.with_name(f"{etag}.{uuid.uuid4().hex[:8]}.incomplete")
        with part.open("wb") as file:
            if name == "config.json":
                file.write(_config(size))
            ticks = max(int(_seconds() * share / TICK_SECONDS), 1)
            for tick in range(1, ticks + 1):
                _apply_obstacle(obstacle, part, tick / ticks)
                file.truncate(size * tick // ticks)
                progress.advance(size // ticks)
                time.sleep(_seconds() * share / ticks)
            file.truncate(size)
        part.replace(blob)
        (self.snapshot / name).symlink_to(Path("..", "..", "blobs", etag))

    def _etag(self, name: str) -> str:
        return hashlib.sha256(f"{self.repo}/{name}".encode()).hexdigest()


def _put(path: Path, text: str) -> None:
    """Write a file unless it is there, as it always is for a second download of the same revision."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _apply_obstacle(obstacle: str, part: Path, share: float) -> None:
    if share < 1 / 3:
        return
    if obstacle == "no-space":
        part.unlink()
        raise OSError(28, "No space left on device", str(part))
    if obstacle == "stall" and os.environ.get("HF_HUB_DISABLE_XET") != "1":
        time.sleep(86400)


def _seconds() -> float:
    try:
        options = json.loads((Path.home() / ".demo" / "hf.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return DOWNLOAD_SECONDS
    return float(options.get("seconds", DOWNLOAD_SECONDS))


def _config(size: int) -> bytes:
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "simulated": True,
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "torch_dtype": "bfloat16",
    }
    return json.dumps(config, indent=2).ljust(size).encode()


class ProgressBars:
    """The progress bars of `hf download` on stderr: files and bytes, on one line that is redrawn."""

    def __init__(self, files: int, *, is_shown: bool) -> None:
        self._files, self._done, self._bytes = files, 0, 0
        self._is_shown = is_shown
        self._draw()

    def file_done(self) -> None:
        self._done += 1
        self._draw()
        if self._is_shown and self._done == self._files:
            sys.stderr.write("\n")

    def advance(self, count: int) -> None:
        self._bytes += count
        self._draw()

    def _draw(self) -> None:
        if self._is_shown:
            filled = "█" * (10 * self._done // self._files)
            percent = 100 * self._done // self._files
            bar = f"Fetching {self._files} files: {percent:3d}%|{filled:<10}| {self._done}/{self._files}"
            sys.stderr.write(f"\r{bar} Downloading bytes: {human_size(self._bytes)}B")
            sys.stderr.flush()


def _print_plan(mode: str, files: dict[str, int], cache: CachedRepo) -> None:
    missing = {name: size for name, size in files.items() if not cache.has(name)}
    sizes = {name: human_size(missing[name]) if name in missing else "-" for name in sorted(files)}
    if mode == "json":
        sys.stdout.write(json.dumps([{"file": name, "size": size} for name, size in sizes.items()]) + "\n")
        return
    if mode == "quiet":
        sys.stdout.writelines(f"{name}\n" for name in sizes)
        return
    width = max(map(len, sizes))
    total = human_size(sum(missing.values()))
    sys.stdout.write(f"[dry-run] Will download {len(missing)} files (out of {len(files)}) totalling {total}.\n")
    sys.stdout.write(f"{'FILE':<{width}} SIZE\n{'-' * width} {'-' * 4}\n")
    sys.stdout.writelines(f"{name:<{width}} {size}\n" for name, size in sizes.items())


def _print_result(mode: str, path: str) -> None:
    lines = {"json": json.dumps({"path": path}), "quiet": path, "agent": f"path={path}"}
    sys.stdout.write(lines.get(mode, f"\x1b[32m✓ Downloaded\x1b[0m\n  path: {path}") + "\n")


def human_size(count: float) -> str:
    """Format a number of bytes as `hf` does: decimal units, one digit.

    >>> human_size(0), human_size(3_000_000)
    ('0.0', '3.0M')
    """
    for unit in ("", "K", "M", "G", "T"):
        if abs(count) < 1000:
            return f"{count:3.1f}{unit}"
        count /= 1000
    return f"{count:.1f}P"
