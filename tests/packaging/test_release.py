"""`make release` builds, tests and tags a version, or says why it cannot."""

import subprocess
from pathlib import Path

import pytest

from tests.packaging import release
from tests.packaging.release import NotReleasable

WHEEL_TEST = """
import os
from pathlib import Path

def test_both_are_built():
    names = {path.name for path in Path(os.environ["PI_DIST"]).iterdir()}
    assert names == {"tiny-1.2.0-py3-none-any.whl", "tiny-1.2.0.tar.gz"}
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiny"
requires-python = ">=3.11"
dynamic = ["version"]

[tool.hatch.version]
path = "pi_cli/__init__.py"

[tool.hatch.build.targets.wheel]
packages = ["pi_cli"]
"""


def git(project: Path, *args: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.invalid")
    done = subprocess.run(["git", *who, *args], cwd=project, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of a tiny project whose version 1.2.0 can be released."""
    project = tmp_path / "project"
    files = {
        "pyproject.toml": PROJECT,
        "pi_cli/__init__.py": '__version__ = "1.2.0"\n',
        "CHANGELOG.md": "# Changelog\n\n## [1.2.0] - 2026-11-29\n\n## [1.1.0] - 2026-10-01\n",
        "tests/packaging/test_wheel.py": WHEEL_TEST,
        ".gitignore": "dist\n__pycache__\n.pytest_cache\n",
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    git(project, "init", "--quiet")
    commit(project)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@example.invalid")
    return project


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "Change something")


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_release_is_built_tested_and_tagged(project: Path) -> None:
    assert release.release(project) == "1.2.0"
    assert git(project, "tag", "--list", "--format=%(refname:short) %(objecttype) %(contents:subject)").split() == [
        "v1.2.0", "tag", "pi", "1.2.0",
    ]  # fmt: skip
    assert len(list((project / "dist").iterdir())) == 2
    with pytest.raises(NotReleasable, match=r"the tag v1\.2\.0 exists: 1\.2\.0 is released"):
        release.check(project)


def test_a_wheel_that_fails_its_tests_is_not_tagged(project: Path) -> None:
    rewrite(project / "tests/packaging/test_wheel.py", ".tar.gz", ".zip")
    commit(project)
    with pytest.raises(subprocess.CalledProcessError):
        release.release(project)
    assert git(project, "tag", "--list") == ""


def test_a_version_without_a_date_is_refused(project: Path) -> None:
    rewrite(project / "CHANGELOG.md", "2026-11-29", "unreleased")
    with pytest.raises(NotReleasable, match=r"has no date but `unreleased`: write `## \[1\.2\.0\] - YYYY-MM-DD`"):
        release.check(project)


def test_a_version_that_is_not_the_top_of_the_changelog_is_refused(project: Path) -> None:
    rewrite(project / "pi_cli/__init__.py", "1.2.0", "1.3.0")
    with pytest.raises(NotReleasable, match=r"has version 1\.3\.0, but the top entry of CHANGELOG\.md is 1\.2\.0"):
        release.check(project)


def test_a_changelog_without_entries_is_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(NotReleasable, match="has no entry"):
        release.check(project)


def test_a_changed_tree_is_refused(project: Path) -> None:
    (project / "new.txt").write_text("")
    with pytest.raises(NotReleasable, match=r"not clean: commit or remove\n\?\? new\.txt"):
        release.check(project)


def test_the_version_is_the_top_entry_of_the_changelog() -> None:
    version, date = release.top_entry((release.ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert version == release.version_of(release.ROOT)
    assert date == "unreleased" or release.is_date(date)
