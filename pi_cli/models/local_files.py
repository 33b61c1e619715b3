"""Files of this machine that vLLM's arguments name: found before a start, uploaded by `models.uploads`."""

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pi_cli import units
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.vllm import vllm_options
from pi_cli.vllm.abilities import Abilities
from pi_cli.vllm.vllm_options import Reading

ON_POD = "~/.pi/uploads"  # the folder of `agent.uploads`
MAX_FILE = 1_000_000  # bytes of a chat template or of a plugin
MAX_FOLDER = 2_000_000_000  # bytes of a LoRA adapter; larger ones are copied once, by hand
MAX_FILES = 100  # in the folder of an adapter
CHUNK = 1 << 18  # bytes
DIGEST_LENGTH = 32  # hexadecimal digits of SHA-256
FILES = ("--chat-template", "--tool-parser-plugin", "--reasoning-parser-plugin")
LORA = "--lora-modules"
# Options that may name a file or a folder, which has to be on the pod.
READ_ON_POD = (
    *("--allowed-local-media-path", "--default-mm-loras", "--generation-config", "--hf-config-path"),
    *("--log-config-file", "--mm-encoder-fp8-scale-path", "--spec-model", "--tokenizer"),
)
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
PORTABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # what `agent.uploads` accepts
# What training leaves beside an adapter, often larger than the adapter itself; vLLM does not read it.
OF_TRAINING = re.compile(r"(?:optimizer|scheduler|rng_state|scaler|training_args|trainer_state)\b.*|.*\.log")
INLINE = re.compile(r"[{}\n]")  # a chat template itself instead of its path, as vLLM decides it


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload: its name on the pod, its path here and its size in bytes."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file or a folder that an option names, with what identifies its content."""

    option: str
    typed: str
    files: tuple[LocalFile, ...]
    digest: str
    is_folder: bool = False

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def place(self) -> str:
        """Return its path on the pod."""
        folder = f"{ON_POD}/{self.digest}"
        return folder if self.is_folder else f"{folder}/{self.files[0].name}"


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Arguments for vLLM with the places of files on the pod, what is uploaded there, and remarks for the plan."""

    arguments: tuple[str, ...]
    uploads: tuple[Upload, ...] = ()
    remarks: tuple[str, ...] = ()


def find(arguments: Sequence[str], known: Abilities, pod: str, *, is_dry_run: bool = False) -> LocalFiles:
    """Find the files of this machine in arguments; `pod` is named in hints.

    Raises `BadUsage` for one that cannot be uploaded.
    """
    words = list(arguments)
    uploads: list[Upload] = []
    remarks: list[str] = []
    for reading in vllm_options.read(arguments, known.options):
        if reading.key:
            continue
        for value in dict.fromkeys(reading.values):
            upload = _upload(reading, value, pod)
            if upload is None:
                remarks += _remark(reading, value)
                continue
            uploads.append(upload)
            remarks.append(_of_upload(upload, "would be" if is_dry_run else "is"))
            for at in range(reading.at, reading.at + len(reading.words)):
                words[at] = _replaced(words[at], value, upload)
    return LocalFiles(tuple(words), tuple(uploads), tuple(remarks))


def content(files: Sequence[LocalFile]) -> Iterator[bytes]:
    """Yield the bytes of files. It ends early if one has become shorter: the pod then has too few, and says so."""
    for file in files:
        left = file.size
        with file.path.open("rb") as source:
            while left and (chunk := source.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            return


def _upload(reading: Reading, value: str, pod: str) -> Upload | None:
    if reading.is_one_of(FILES):
        return _file(reading.name, value, pod)
    if reading.is_one_of((LORA,)) and (path := _lora_path(value)):
        return _folder(reading.name, path, pod)
    return None


def _file(option: str, typed: str, pod: str) -> Upload | None:
    """Return the upload of a single file; None if it is not a file here."""
    path = Path(typed).expanduser()
    if not typed or INLINE.search(typed) or not _exists(path):
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadUsage(f"`{option}` takes a file, but `{typed}` is not one", hint="give the path of the file in it")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise _too_large(option, typed, size, MAX_FILE, pod)
        name = UNSAFE.sub("_", path.name).lstrip(".-") or "file"
        file = LocalFile(name[-128:], path, size)
        return Upload(option, typed, (file,), digest([file]))
    except OSError as error:
        raise _unreadable(typed, error) from error


def _folder(option: str, typed: str, pod: str) -> Upload | None:
    """Return the upload of a LoRA adapter; None if it is not a folder here."""
    path = Path(typed).expanduser()
    if not _exists(path):
        return None
    try:
        if not (path / "adapter_config.json").is_file():
            raise BadUsage(
                f"`{typed}` is not a LoRA adapter: it has no adapter_config.json",
                hint="give the folder that has adapter_config.json and adapter_model.safetensors in it",
            )
        entries = sorted(each for each in path.iterdir() if _belongs_to_adapter(each))
        files = [LocalFile(each.name, each, each.stat().st_size) for each in entries]
        size = sum(file.size for file in files)
        if size > MAX_FOLDER or len(files) > MAX_FILES:
            raise _too_large(option, typed, size, MAX_FOLDER, pod)
        return Upload(option, typed, tuple(files), digest(files), is_folder=True)
    except OSError as error:
        raise _unreadable(typed, error) from error


def _belongs_to_adapter(path: Path) -> bool:
    is_portable = PORTABLE.fullmatch(path.name) is not None
    return is_portable and path.is_file() and not OF_TRAINING.fullmatch(path.name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte: a text instead of a path
        return False


def _too_large(option: str, typed: str, size: int, limit: int, pod: str) -> BadUsage:
    path = Path(typed).expanduser().absolute()
    hint = "copy it with `tar -cf - -C {parent} {name} | pi ssh {pod} 'tar -xf -'`, and give its path on the pod"
    return BadUsage(
        f"`{typed}` for `{option}` has {units.size(size)}, and pi uploads at most {units.size(limit)}",
        hint=fill(hint, parent=str(path.parent), name=path.name, pod=pod),
    )


def _unreadable(typed: str, error: OSError) -> BadUsage:
    return BadUsage(f"cannot read `{typed}`: {error.strerror}", hint="make it readable, or give a path on the pod")


def _lora_path(value: str) -> str:
    """Return the path in `NAME=PATH`, or in JSON with `name` and `path`."""
    if "=" in value and "," not in value:
        return value.partition("=")[2]
    try:
        module = json.loads(value)
    except (ValueError, RecursionError):
        return ""
    path = module.get("path") if isinstance(module, dict) else None
    return path if isinstance(path, str) else ""


def _replaced(word: str, value: str, upload: Upload) -> str:
    """Return a word with the place on the pod instead of the path here."""
    if value not in (word, word.partition("=")[2]):
        return word
    before = word[: len(word) - len(value)]
    if upload.option != LORA or ("=" in value and "," not in value):
        return f"{before}{value[: len(value) - len(upload.typed)]}{upload.place}"
    return before + json.dumps(json.loads(value) | {"path": upload.place})


def _remark(reading: Reading, value: str) -> Iterator[str]:
    """Yield what a plan says about a path that pi does not upload."""
    path = _lora_path(value) if reading.is_one_of((LORA,)) else value
    if reading.is_one_of(FILES):
        if path and not INLINE.search(path):
            yield f"`{reading.name}`: there is no `{path}` here, so it has to be on the pod"
    elif reading.is_one_of((LORA, *READ_ON_POD)) and path.startswith(("/", "./", "../", "~")):
        yield f"`{reading.name}`: `{path}` is read on the pod, and is not uploaded"


def _of_upload(upload: Upload, verb: str) -> str:
    size = units.size(upload.size)
    return f"`{upload.option}`: `{upload.typed}` {verb} uploaded ({size}) unless the pod has it already"


def digest(files: Sequence[LocalFile]) -> str:
    """Return what identifies files: the beginning of the SHA-256 of their names, sizes and content."""
    checksum = hashlib.sha256()
    for file in files:
        checksum.update(b"%d %s %d\n" % (len(file.name), file.name.encode(), file.size))
        for chunk in content([file]):
            checksum.update(chunk)
    return checksum.hexdigest()[:DIGEST_LENGTH]
