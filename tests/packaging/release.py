"""Build, test and tag the version in the tree: `make release`. Nothing is pushed or uploaded.

A version is released when `pi_cli/__init__.py` and the top of CHANGELOG.md agree on it, its entry has a date, the tree
is clean, and the tests of the wheel pass on what was built into `dist`.
"""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<date>\S+)$", re.MULTILINE)


class NotReleasable(Exception):
    """Why this tree cannot be released, and what to do about it."""


def version_of(root: Path) -> str:
    """Return the version in `pi_cli/__init__.py`."""
    text = (root / "pi_cli" / "__init__.py").read_text(encoding="utf-8")
    [version] = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def top_entry(changelog: str) -> tuple[str, str]:
    """Return the version of a changelog's newest entry, and its date: `2026-11-29` or `unreleased`."""
    entry = ENTRY.search(changelog)
    if not entry:
        raise NotReleasable("CHANGELOG.md has no entry: begin it with `## [VERSION] - YYYY-MM-DD`")
    return entry["version"], entry["date"]


def check(root: Path) -> str:
    """Return the version to release. Raises NotReleasable."""
    version = version_of(root)
    logged, date = top_entry((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if logged != version:
        raise NotReleasable(f"pi_cli/__init__.py has version {version}, but the top entry of CHANGELOG.md is {logged}")
    if not is_date(date):
        raise NotReleasable(
            f"the entry of {version} in CHANGELOG.md has no date but `{date}`: write `## [{version}] - YYYY-MM-DD`"
        )
    if changed := _git(root, "status", "--porcelain"):
        raise NotReleasable(f"the tree is not clean: commit or remove\n{changed}")
    if _git(root, "tag", "--list", f"v{version}"):
        raise NotReleasable(f"the tag v{version} exists: {version} is released, choose the next version")
    return version


def release(root: Path) -> str:
    """Check, build, test and tag; return the version. Raises NotReleasable, or CalledProcessError of a step."""
    version = check(root)
    dist = root / "dist"
    _python(root, "hatchling", "build", "--clean", "--directory", str(dist))
    _python(root, "pytest", "-q", "-n", "0", "tests/packaging/test_wheel.py", PI_DIST=str(dist))
    _git(root, "tag", "--annotate", "--message", f"pi {version}", f"v{version}")
    return version


def is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.rstrip()


def _python(root: Path, module: str, *args: str, **environ: str) -> None:
    subprocess.run([sys.executable, "-m", module, *args], cwd=root, check=True, env=os.environ | environ)


def main() -> int:
    try:
        version = release(ROOT)
    except NotReleasable as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"tagged v{version}; its sdist and wheel are in dist\n")
    sys.stdout.write(f"hint: publish with `git push origin v{version}`, then upload dist\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
