"""The Python that has the balancer: pi's own with its extra, a folder of pi's, or that of a `smg` on the PATH."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pi_cli.errors import PiError
from pi_cli.gateway import engine
from pi_cli.store import files, paths

ASK_TIMEOUT = 20.0  # seconds for another Python to say which version it has
INSTALL_TIMEOUT = 1800.0  # seconds for the download, on a slow line
REQUIREMENTS = Path(__file__).with_name("requirements.txt")  # `make lock` writes it, with hashes
ASK = f"from importlib.metadata import version; print(version({engine.PACKAGE!r}))"
TO_INSTALL = f"`uv tool install {engine.PACKAGE}=={engine.VERSION}` or `uv tool install 'pi-pods[gateway]'`"


def find() -> str | None:
    """Return a Python that has the balancer in the version that pi knows, None if there is none."""
    if _own_version() == engine.VERSION:
        return sys.executable
    if _marker().exists():
        return str(_python())
    program = shutil.which(engine.PACKAGE)
    python = _python_of(Path(program)) if program else None
    return python if python and _version_of(python) == engine.VERSION else None


def install() -> str:
    """Install the balancer into a folder of pi's, and return its Python. Raises `PiError`.

    pip and uv check the hash of every file that they install.
    """
    folder = _folder()
    with files.locked(folder.parent / "install"):
        if _marker().exists():
            return str(_python())
        uv = shutil.which("uv") or _beside_python("uv")
        if uv:
            make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
            add = [uv, "pip", "install", "--quiet", "--python", str(_python())]
        else:
            make = [sys.executable, "-m", "venv", "--clear", str(folder)]
            add = [str(_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            _run(make)
            _run([*add, "--require-hashes", "-r", str(REQUIREMENTS)])
            _marker().touch()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return str(_python())


def _folder() -> Path:
    return paths.config_dir() / "gateway" / f"{engine.PACKAGE}-{engine.VERSION}"


def _python() -> Path:
    return _folder() / "bin" / "python"


def _marker() -> Path:
    """Return the file that says that the installation is complete."""
    return _folder() / ".complete"


def _own_version() -> str | None:
    try:
        return metadata.version(engine.PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def _python_of(program: Path) -> str | None:
    """Return the Python in the first line of a script, as pip and uv write it."""
    try:
        with program.open("rb") as file:
            first = file.readline(4096)
    except OSError:
        return None
    path = first.removeprefix(b"#!").strip().decode("utf-8", "replace")
    return path if first.startswith(b"#!") and Path(path).is_absolute() and os.access(path, os.X_OK) else None


def _version_of(python: str) -> str | None:
    try:
        done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, timeout=ASK_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _beside_python(name: str) -> str | None:
    program = Path(sys.executable).with_name(name)
    return str(program) if os.access(program, os.X_OK) else None


def _run(argv: list[str]) -> None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=INSTALL_TIMEOUT
        )
    except OSError as error:
        raise _failed(f"cannot run `{argv[0]}`: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise _failed(f"`{argv[0]}` took longer than {INSTALL_TIMEOUT / 60:.0f} minutes") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise _failed(lines[-1][:300] if lines else f"`{argv[0]}` ended with exit code {done.returncode}")


def _failed(reason: str) -> PiError:
    hint = f"install it yourself: {TO_INSTALL}"
    return PiError(f"{engine.PACKAGE} {engine.VERSION} could not be installed: {reason}", hint=hint)
