"""The test run of a new vLLM, `setup/vllm_abilities.py --run`, and the processes that compile beside it.

SIMULATED: vLLM, a package of a few lines in an environment of its own. Real: Python, the processes and their ends.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.until import until

SETUP = Path(__file__).parents[2] / "remote/setup"
PRINTS_ITS_VERSION = "def main(): print('0.32.0')\n"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return the site-packages of an environment with a small vLLM in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/python3*/site-packages")
    (packages / "vllm/v1/attention").mkdir(parents=True)
    (packages / "vllm/__init__.py").write_text("__version__ = '0.32.0'\n")
    (packages / "vllm/cli.py").write_text(PRINTS_ITS_VERSION)
    for number in range(20):
        (packages / f"vllm/v1/attention/backend{number}.py").write_text("x = 1\n")
    (packages / "vllm-0.32.0.dist-info").mkdir()
    (packages / "vllm-0.32.0.dist-info/METADATA").write_text("Name: vllm\nVersion: 0.32.0\n")
    (packages / "vllm-0.32.0.dist-info/entry_points.txt").write_text("[console_scripts]\nvllm = vllm.cli:main\n")
    return packages


def compiled(packages: Path) -> int:
    return len(list(packages.glob("vllm/v1/attention/__pycache__/*.pyc")))


def helpers(packages: Path) -> list[str]:
    """Return the PIDs of processes that compile for an environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if any(word.endswith(b"compile_ahead.py") for word in words) and bytes(packages) in words:
            found.append(file.parent.name)
    return found


@pytest.fixture
def many_files(packages: Path) -> Iterator[int]:
    """Give vLLM more to compile than is done within the test, unless it is told to end."""
    text = "".join(
        f"def f{number}(a, b=1): return [a + b + {number} for c in range({number})]\n" for number in range(999)
    )
    number_of_files = 5000
    for number in range(number_of_files):
        path = packages / f"vllm/v1/attention/many{number}.py"
        if number:
            os.link(packages / "vllm/v1/attention/many0.py", path)
        else:
            path.write_text(text)
    yield number_of_files
    for pid in helpers(packages):
        os.kill(int(pid), signal.SIGKILL)


def run(packages: Path) -> "subprocess.Popen[str]":
    log = packages / "abilities.log"
    return subprocess.Popen(
        [packages.parents[2] / "bin/python", "-I", SETUP / "vllm_abilities.py", "--run", log],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compiling(packages: Path, part: str, parts: str) -> list[str | Path]:
    return [sys.executable, "-I", SETUP / "compile_ahead.py", str(os.getpid()), part, parts, packages]


needs_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="on one core there are no helpers")


def test_each_file_is_compiled_by_one_of_the_parts(packages: Path) -> None:
    for part in ("0", "1"):
        subprocess.run(compiling(packages, part, "2"), check=True)
        assert compiled(packages) == 10 * (int(part) + 1)
    assert {path.name.split(".")[0] for path in packages.glob("vllm/__pycache__/*")} == {"__init__", "cli"}


def test_a_file_that_is_not_python_does_not_stop_the_others(packages: Path) -> None:
    (packages / "vllm/v1/attention/backend7.py").write_text("print 'Python 2'\n")
    (packages / "vllm/v1/attention/backend8.py").write_bytes(b"x = '\xff'\n")
    done = subprocess.run(compiling(packages, "0", "1"), check=True, capture_output=True)
    assert (compiled(packages), done.stdout, done.stderr) == (18, b"", b"")


@needs_cores
@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("import time; time.sleep(1)\n" + PRINTS_ITS_VERSION, "vllm --version: 0.32.0\n"),
        ("raise ImportError('libcudart.so.13')\n", ""),
        ("def main(): raise SystemExit(3)\n", ""),
    ],
    ids=["works", "broken", "fails"],
)
def test_nothing_compiles_any_more_when_the_test_run_has_ended(
    packages: Path, many_files: int, command: str, output: str
) -> None:
    (packages / "vllm/cli.py").write_text(command)
    process = run(packages)
    assert process.communicate()[0].startswith(output)
    assert (process.returncode == 0) == bool(output)
    assert helpers(packages) == []
    assert compiled(packages) < many_files
    assert not list(packages.glob("vllm/v1/attention/__pycache__/*.pyc.*"))  # half a file


@needs_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_compiles_any_more_when_the_test_run_was_killed(
    packages: Path, many_files: int, number: signal.Signals
) -> None:
    (packages / "vllm/cli.py").write_text("import time; time.sleep(600)\n")
    with run(packages) as process:
        until(lambda: helpers(packages) and compiled(packages))
        process.send_signal(number)
        process.communicate()
    until(lambda: not helpers(packages))
    assert compiled(packages) < many_files


@needs_cores
def test_the_answer_comes_from_a_process_that_had_help(packages: Path) -> None:
    (packages / "vllm/cli.py").write_text("import time; time.sleep(1)\n" + PRINTS_ITS_VERSION)
    process = run(packages)
    first, *_, last = process.communicate()[0].splitlines()
    assert (process.returncode, first) == (0, "vllm --version: 0.32.0")
    assert '"version":"0.32.0"' in last
    assert compiled(packages) > 0


def test_on_one_core_no_process_compiles_beside_the_import(packages: Path) -> None:
    (packages / "vllm/cli.py").write_text("import time; time.sleep(0.5)\n" + PRINTS_ITS_VERSION)
    core = min(os.sched_getaffinity(0))
    log = packages / "abilities.log"
    python = packages.parents[2] / "bin/python"
    code = f"import os, sys; os.sched_setaffinity(0, [{core}]); os.execv(sys.argv[1], sys.argv[1:])"
    command: list[str | Path] = [sys.executable, "-c", code, python, "-I", SETUP / "vllm_abilities.py", "--run", log]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("vllm --version: 0.32.0\n")
    assert compiled(packages) == 0
