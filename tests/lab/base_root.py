"""The Debian roots that openssh pods start from: made once, kept as a tarball, unpacked once.

Whoever finds the directory of a root finds it whole: it is put together under another name, in a lock, and renamed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import registries

SUITE = "bookworm"
# What a freshly rented machine always has. No python3, curl, uv or gcc: to bring those is the work of `pi pods setup`.
BARE = ("openssh-server", "ca-certificates", "iproute2", "procps")
# What pi's agent needs on a machine that was set up, and login shells that users may have there.
WITH_PYTHON = (*BARE, "python3", "fish", "tcsh", "zsh")
RECIPE = 1  # raise it when `_bootstrap` or `_tidy` change, so that no old root stays in use

Packages = tuple[str, ...]


def cache() -> Path:
    """Say where base roots and the pods' layers lie: `PI_LAB_CACHE`, else `.lab/` in the repository."""
    chosen = os.environ.get("PI_LAB_CACHE")
    return Path(chosen).absolute() if chosen else Path(__file__).parents[2] / ".lab"


def are_made() -> bool:
    return all(_directory(each).is_dir() or _tarball(each).is_file() for each in (BARE, WITH_PYTHON))


def ready(packages: Packages = BARE) -> Path:
    """Return the unpacked root with these packages, making or unpacking it if it is not there yet."""
    directory = _directory(packages)
    if not directory.is_dir():
        with _building() as scratch:
            if not directory.is_dir():  # another test run may have made it while we waited for the lock
                _make(packages, scratch)
    return directory


def _directory(packages: Packages) -> Path:
    digest = hashlib.sha256(f"{SUITE} {packages} {RECIPE}".encode()).hexdigest()
    return cache() / f"{SUITE}-{digest[:8]}"


def _tarball(packages: Packages) -> Path:
    return _directory(packages).with_suffix(".tar.gz")


@contextmanager
def _building() -> Iterator[Path]:
    """Hold the lock that allows to build, in an empty directory; leftovers of builds that died are removed."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache().glob("building-*"):
            shutil.rmtree(leftover)
        scratch = Path(tempfile.mkdtemp(prefix="building-", dir=cache()))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)


def _make(packages: Packages, scratch: Path) -> None:
    root = scratch / "root"
    tarball = _tarball(packages)
    if tarball.is_file():
        root.mkdir()
        subprocess.run(["tar", "-xzf", tarball, "-C", root, "--numeric-owner"], check=True)
    else:
        _bootstrap(root, packages, log=cache() / "debootstrap.log")
        _tidy(root)
        _pack(root, scratch / "root.tar.gz")
        (scratch / "root.tar.gz").rename(tarball)
    root.chmod(0o755)
    root.rename(_directory(packages))


def _bootstrap(root: Path, packages: Packages, *, log: Path) -> None:
    """Run debootstrap; its mounts and processes are gone when it ends, and when we do, however we do."""
    mirror = registries.apt_mirror(SUITE)
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    downloads = cache() / "debs"  # the roots have most of their packages in common
    downloads.mkdir(exist_ok=True)
    command += ["debootstrap", "--variant=minbase", f"--cache-dir={downloads}", f"--include={','.join(packages)}"]
    command += [SUITE, str(root)]
    if mirror:
        command.append(mirror)
    with log.open("wb") as output:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    if ended.returncode:
        last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"debootstrap failed with status {ended.returncode}, see {log}:\n{last_lines}")


def _tidy(root: Path) -> None:
    """Remove what must differ from pod to pod (host keys) and what only takes room (package lists)."""
    for pattern in ("etc/ssh/ssh_host_*", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
        for path in root.glob(pattern):
            path.unlink()


def _pack(root: Path, tarball: Path) -> None:
    subprocess.run(
        ["tar", "--use-compress-program=gzip -1", "-cf", tarball, "-C", root, "--numeric-owner", "."], check=True
    )
