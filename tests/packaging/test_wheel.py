"""What users install: the wheel alone, in an environment without the checkout, finds what it ships.

`make release` runs these tests on what it has built, in the folder PI_DIST.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from pi_cli.store.pages import PAGES

pytestmark = pytest.mark.xdist_group("test_wheel")  # one build serves all
ROOT = Path(__file__).parent.parent.parent
SHIPPED: tuple[str, ...] = ("models.md", "remote/pod_setup.sh", "remote/require_key.py")
SHIPPED += tuple(str(path.relative_to(ROOT)) for path in (ROOT / "remote/agent").rglob("*.py"))
SHIPPED += tuple(PAGES.values())
SHIPPED += tuple(f"remote/setup/{part.name}" for part in (ROOT / "remote/setup").glob("*.*"))


def build(project: Path, dist: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(dist), *options]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return dist


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist."""
    given = os.environ.get("PI_DIST")
    return Path(given) if given else build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    [built] = dist.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; it uses the dependencies of this one, so that no network is needed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def run(python: Path, *words: str, cwd: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, *words], cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_finds_what_it_ships(installed: Path, tmp_path: Path) -> None:
    program = f"from pi_cli.store import paths\nfor name in {SHIPPED!r}: print(paths.asset(name))"
    for path in run(installed, "-c", program, cwd=tmp_path).splitlines():
        assert Path(path).is_file()
        assert Path(path).is_relative_to(installed.parent.parent), "found in the checkout, not in the wheel"


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-m", "pi_cli", "--version", cwd=tmp_path).startswith("pi ")


def test_an_installed_pi_shows_its_pages(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "-m", "pi_cli", "help", "errors", cwd=tmp_path).startswith("# Exit codes and errors\n")


def test_the_command_has_a_second_name(wheel: Path) -> None:
    """`uvx pi-pods` looks for a command of the package's name, and another program may be called pi."""
    [file] = [name for name in contents(wheel) if name.endswith("entry_points.txt")]
    assert contents(wheel)[file].decode().split() == [
        "[console_scripts]", "pi", "=", "pi_cli.__main__:run", "pi-pods", "=", "pi_cli.__main__:run",
    ]  # fmt: skip


def test_the_sdist_is_small(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    assert sdist.stat().st_size < 2_200_000  # it has 1.85 MB; 1.0 MB more with the weights of the tiny model


def test_the_wheel_holds_the_embedded_pods_stubs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for stub in ("vllm", "hf", "nvidia-smi", "uv"):
        assert f"pi_cli/demo/bin/{stub}" in names
    assert not [name for name in names if name.startswith("tests/")]


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sdist_holds_what_the_makefile_needs_and_builds_the_same_wheel(
    dist: Path, wheel: Path, tmp_path: Path
) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [project] = tmp_path.glob("pi_pods-*")
    for name in ("Makefile", "requirements.lock", "tests/conftest.py", "CONTRIBUTING.md", ".ci/run"):
        assert (project / name).is_file()
    [rebuilt] = build(project, tmp_path / "dist", "--target", "wheel").glob("*.whl")
    assert rebuilt.name == wheel.name
    assert contents(rebuilt) == contents(wheel)
