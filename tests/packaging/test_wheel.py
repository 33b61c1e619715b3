"""What users install: the wheel alone, in an environment without the checkout, finds what it ships."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHIPPED: tuple[str, ...] = ("models.md", "remote/pod_setup.sh", "remote/require_key.py")
SHIPPED += tuple(str(path.relative_to(ROOT)) for path in (ROOT / "remote/agent").rglob("*.py"))
SHIPPED += tuple(f"remote/setup/{part.name}" for part in (ROOT / "remote/setup").glob("*.sh"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are those of this one, so that no network is needed."""
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


def test_the_wheel_holds_the_embedded_pods_stubs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for stub in ("vllm", "hf", "nvidia-smi", "uv"):
        assert f"pi_cli/demo/bin/{stub}" in names
    assert not [name for name in names if name.startswith("tests/")]
