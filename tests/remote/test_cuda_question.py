"""`remote/setup/ask_cuda.py`, `cuda_errors.py` and `cuda_question.sh`: what setup learns from the driver itself.

The driver's library is a stand-in in C (`libcuda.c`), loaded as the real one would be.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pi_cli.diagnosis import cuda_errors
from pi_cli.pods import bare_source
from tests import executables
from tests.every import every
from tests.remote.machine import SCRIPT, Machine
from tests.remote.outcome import messages, ok, passes, refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

ASK, WORDS = SCRIPT.with_name("setup") / "ask_cuda.py", SCRIPT.with_name("setup") / "cuda_errors.py"
ERRORS = runpy.run_path(str(WORDS))["ERRORS"]
CODES = [code for code in ERRORS if code > 0 and code != 34]
NOTHING: Mapping[str, str] = {}
TWO = "count=2"
KERNEL_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"


class Driver:
    """A machine with the library of a driver, and the questions that setup asks it."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.library = library
        self.root = folder / "root"
        self.calls = folder / "calls"
        (self.root / "dev").mkdir(parents=True)
        for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
            (self.root / "dev" / name).touch()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def ask(
        self, faults: str, *options: str, folder: Path | None = None, environ: Mapping[str, str] = NOTHING
    ) -> dict[str, Any]:
        """Ask as setup does; `folder` is where the loader finds the library."""
        variables = {"PATH": "/usr/bin:/bin", "LIBCUDA_FAULTS": faults, "LIBCUDA_CALLS": str(self.calls)}
        variables |= {"PI_MACHINE_ROOT": str(self.root), "LD_LIBRARY_PATH": str(folder or self.library.parent)}
        command = [sys.executable, "-I", "-S", str(ASK), *options]
        done = subprocess.run(command, env={**variables, **environ}, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        (pytest.fail if os.environ.get("PI_REQUIRE_LAB") == "1" else pytest.skip)("there is no C compiler")
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", path, source], check=True)
    return path


@pytest.fixture
def driver(tmp_path: Path, library: Path) -> Driver:
    return Driver(tmp_path, library)


def told(answer: dict[str, Any]) -> list[str]:
    """Return what setup says about an answer, with the sign of each line."""
    command = [sys.executable, "-I", "-S", str(WORDS)]
    done = subprocess.run(command, input=json.dumps(answer), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# What the driver answers


def test_a_driver_that_works_is_asked_for_a_megabyte_on_each_gpu_and_gets_it_back(driver: Driver) -> None:
    answer = driver.ask(TWO, "--expect", "2")
    assert (answer["problem"], answer["count"], answer["version"], answer["gpus"]) == ("", 2, 12040, [])
    assert told(answer) == ["* CUDA 12.4 works on 2 GPUs"]
    for gpu in ("0", "1"):
        mine = [call.split()[0] for call in driver.called() if call.endswith(f" {gpu}")]
        assert mine[-4:] == ["cuMemAlloc_v2", "cuMemFree_v2", "cuCtxSetCurrent", "cuDevicePrimaryCtxRelease"]


def test_each_error_of_cuda_has_its_cause_and_what_to_do(driver: Driver) -> None:
    for code in CODES:
        [line] = told(driver.ask(f"cuInit={code} {TWO}"))
        sign, text = line.split(" ", 1)
        cause, remedy = ERRORS[code]
        assert sign == ("~" if code == 802 else "x")
        assert text.startswith(f"{cause} (CUDA error {code}"), line
        assert text.lower().endswith(f". {remedy.replace('{pod}', 'NAME')}".lower()), line


def test_an_error_that_pi_does_not_know_is_named_by_its_number(driver: Driver) -> None:
    [line] = told(driver.ask(f"cuInit=4711 {TWO}"))
    assert line.startswith("x CUDA reports an error that pi does not know (CUDA error 4711). Restart ")


@pytest.mark.parametrize("name", ["nvidia-uvm", "nvidiactl"])
def test_a_missing_device_file_is_named(driver: Driver, name: str) -> None:
    (driver.root / "dev" / name).unlink()
    [line] = told(driver.ask("cuInit=999"))
    assert f"(CUDA error 999; missing: /dev/{name})" in line


def test_gpus_that_cuda_does_not_find_are_lost(driver: Driver) -> None:
    [line] = told(driver.ask(TWO, "--expect", "8"))
    assert line.startswith("x nvidia-smi lists 8 GPUs, and CUDA finds 2. Restart the container, which may have lost ")


def test_the_gpus_of_slices_are_not_counted(driver: Driver) -> None:
    assert driver.ask("count=1", "--expect", "0")["problem"] == ""


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            "cuMemAlloc_v2@1=2",
            "! GPU 1 was not tried: its memory is full (CUDA error 2). See what uses it with `nvidia-smi`",
        ),
        (
            "cuDevicePrimaryCtxRetain@1=46",
            (
                "! GPU 1 was not tried: another process has the GPU for itself (CUDA error 46). See which with "
                "`nvidia-smi`; it may be in another container"
            ),
        ),
        (
            "mode@1=2",
            "! GPU 1 cannot be used: its compute mode forbids programs. As root: `nvidia-smi -c DEFAULT`",
        ),
        (
            "cuDevicePrimaryCtxRetain@1=214",
            (
                "! GPU 1 cannot be used: the GPU's memory has an error that ECC cannot correct (CUDA error 214). "
                "Restart the machine; if that does not help, ask the provider for another one"
            ),
        ),
    ],
)
def test_a_single_gpu_with_trouble_is_a_warning(driver: Driver, fault: str, line: str) -> None:
    assert told(driver.ask(f"{TWO} {fault}", "--expect", "2")) == [line, "* CUDA 12.4 works on 1 GPU"]


def test_a_machine_none_of_whose_gpus_works_fails(driver: Driver) -> None:
    [line] = told(driver.ask(f"{TWO} cuDevicePrimaryCtxRetain=214"))
    assert line.startswith("x the GPU's memory has an error that ECC cannot correct (CUDA error 214). ")


def test_a_machine_all_of_whose_gpus_are_in_use_works(driver: Driver) -> None:
    assert [line[0] for line in told(driver.ask(f"{TWO} cuMemAlloc_v2=2"))] == ["!", "!", "*"]


def test_a_gpu_in_use_is_counted_but_not_touched(driver: Driver) -> None:
    assert driver.ask(f"{TWO} cuDevicePrimaryCtxRetain@0=214", "--expect", "2", "--leave", "0")["problem"] == ""
    assert [call for call in driver.called() if "Ctx" in call and call.endswith(" 0")] == []
    assert "cuMemAlloc_v2 1" in driver.called()


def test_variables_of_the_machine_do_not_hide_gpus(driver: Driver) -> None:
    assert driver.ask(TWO, environ={"CUDA_VISIBLE_DEVICES": ""})["count"] == 2


# The library


def test_a_driver_that_does_not_answer_is_abandoned(driver: Driver) -> None:
    began = time.monotonic()
    [line] = told(driver.ask("cuInit=hang", "--seconds", "0.5"))
    assert line.startswith("x the NVIDIA driver does not answer (within 0 s). Restart ")
    assert time.monotonic() - began < 30


def test_a_library_that_crashes_is_an_answer(driver: Driver) -> None:
    driver.write("proc/driver/nvidia/version", KERNEL_MODULE)
    [line] = told(driver.ask("cuInit=crash"))
    assert line.startswith("x the NVIDIA driver's library crashed (signal 6). ")


def test_without_a_library_the_container_lacks_a_capability(driver: Driver, tmp_path: Path) -> None:
    [line] = told(driver.ask(TWO, folder=tmp_path))
    assert line.startswith("x the NVIDIA driver's library libcuda.so.1 is not there, though nvidia-smi is. ")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in line


def test_a_library_that_the_loader_does_not_find_is_named(driver: Driver, tmp_path: Path) -> None:
    driver.write("usr/local/nvidia/lib64/libcuda.so.1", "")
    answer = driver.ask(TWO, folder=tmp_path)
    folder = f"{driver.root}/usr/local/nvidia/lib64"
    assert told(answer) == [
        (
            f"x programs do not find the NVIDIA driver's library {folder}/libcuda.so.1. As root: "
            f"`echo {folder} > /etc/ld.so.conf.d/nvidia-driver.conf && ldconfig`"
        )
    ]


def test_a_library_that_is_an_empty_file_is_broken(driver: Driver, tmp_path: Path) -> None:
    """So images are saved whose container had the driver mounted."""
    (tmp_path / "libcuda.so.1").touch()
    [line] = told(driver.ask(TWO, folder=tmp_path))
    assert re.match(r"x the NVIDIA driver's library cannot be loaded: \S*libcuda\.so\.1: file too short\. In a", line)


@pytest.mark.parametrize("faults", [TWO, "cuInit=34"], ids=["by its folder", "by its own word"])
def test_the_stub_of_the_toolkit_is_not_the_driver(driver: Driver, tmp_path: Path, faults: str) -> None:
    folder = tmp_path / "cuda/lib64/stubs"
    shutil.copytree(driver.library.parent, folder)
    [line] = told(driver.ask(faults, folder=folder))
    assert line.startswith("x the loader finds the stub of the CUDA toolkit instead of the NVIDIA driver's library (")
    assert f"the library is {folder}/libcuda.so.1" in line


def test_a_compatibility_library_in_the_loaders_path_is_named_with_what_puts_it_there(driver: Driver) -> None:
    driver.write("proc/driver/nvidia/version", KERNEL_MODULE)
    driver.write("etc/ld.so.conf.d/988_cuda-12.conf", f"# NVIDIA\n{driver.library.parent}\n")
    assert told(driver.ask("cuInit=804")) == [
        (
            "x the CUDA compatibility library is loaded, which this kind of GPU does not support (CUDA error 804; the "
            f"library is {driver.library}; the kernel module is 550.54.14). As root: `rm "
            "/etc/ld.so.conf.d/988_cuda-12.conf && ldconfig`, or choose another image"
        )
    ]


def test_the_compatibility_library_that_models_will_load_is_asked(driver: Driver, tmp_path: Path) -> None:
    folder = tmp_path / "compat"
    shutil.copytree(driver.library.parent, folder)
    compat = {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1", "VLLM_CUDA_COMPATIBILITY_PATH": str(folder)}
    assert driver.ask("cuInit=803", environ=compat)["library"] == f"{folder}/libcuda.so.1"
    assert driver.ask("cuInit=803")["library"] == str(driver.library)


def test_the_program_does_the_same_as_the_agent_gets_it(driver: Driver) -> None:
    """Without comments, and as an argument of Python."""
    program = bare_source.bare(cuda_errors.question())
    variables = {"LIBCUDA_FAULTS": TWO, "LD_LIBRARY_PATH": str(driver.library.parent)}
    command = [sys.executable, "-I", "-S", "-c", program, "--expect", "3"]
    answer = json.loads(subprocess.run(command, env=variables, capture_output=True, check=True).stdout)
    assert (answer["problem"], answer["count"], answer["expected"]) == ("lost-gpus", 2, 3)


# What is typed of a pod's words


HOSTILE = ["/x; rm -rf ~/libcuda.so.1", "/x`id`/libcuda.so.1", "$(id)/y", "{pod}/{x}/y", "/a\nb/c"]


@every(HOSTILE, repr)
def test_no_path_of_a_pod_becomes_a_part_of_a_command(path: str) -> None:
    answer = {"problem": "hidden-library", "code": 0, "reason": path, "entry": path, "library": path, "driver": "1"}
    answer |= {"expected": 0, "count": 0, "lacking": [], "denied": []}
    remedies = [cuda_errors.explain(answer, pod="dc1").remedy]
    remedies.append(cuda_errors.explain(answer | {"problem": "error", "code": 804}, pod="dc1").remedy)
    assert remedies[0] == "as root: `echo FOLDER > /etc/ld.so.conf.d/nvidia-driver.conf && ldconfig`"
    assert remedies[1] == "as root: `rm FOLDER && ldconfig`, or choose another image"


# Setup


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def faults(machine: Machine, **values: Any) -> None:
    """Let the simulated library of the machine fail."""
    (machine.home / ".demo").mkdir(exist_ok=True)
    (machine.home / ".demo/cuda.json").write_text(json.dumps(values))


def test_setup_fails_before_anything_is_downloaded(machine: Machine) -> None:
    faults(machine, cuInit=802)
    done = machine.setup()
    assert done.returncode == 11
    reason = done.stdout.partition("    machine x ")[2].partition("\n")[0]
    assert reason.startswith("CUDA does not work: the GPUs wait for NVSwitch: Fabric Manager does not run, or its ")
    assert "`systemctl restart nvidia-fabricmanager`" in reason
    assert machine.calls("apt-get", "curl", "uv") == []


def test_fabric_manager_is_waited_for_after_the_boot(machine: Machine) -> None:
    """The library answers 802 twice, then works."""
    machine.write("/proc/uptime", "45.12 100.00\n")
    slow = machine.folder / "slow.py"
    times = machine.folder / "times"
    slow.write_text(
        "import runpy, pathlib\n"
        f"times = pathlib.Path({str(times)!r})\n"
        "count = len(times.read_text()) if times.exists() else 0\n"
        "times.write_text('x' * (count + 1))\n"
        f"LIBRARY = runpy.run_path({machine.environ['PI_DEMO_CUDA']!r})['LIBRARY']\n"
        "LIBRARY._faults = {'cuInit': 802 if count < 2 else 0}\n"
    )
    machine.environ["PI_DEMO_CUDA"] = str(slow)
    done = machine.step("ask_cuda", before="has_cuda_gpu=yes gpu_names=H100")
    assert passes(done) == "CUDA 13.0 works on 1 GPU (simulated)"
    assert messages(done, "*")[0] == "waiting for Fabric Manager, which may still be starting (CUDA error 802)"
    assert len(times.read_text()) == 3


def test_a_machine_that_has_run_for_long_does_not_wait(machine: Machine) -> None:
    machine.write("/proc/uptime", "4500.12 100.00\n")
    faults(machine, cuInit=802)
    done = machine.step("ask_cuda", before="has_cuda_gpu=yes gpu_names=H100 wait_limit=600")
    assert refusal(done).startswith("CUDA does not work: ")
    assert messages(done, "*") == []


def test_a_bare_machine_is_asked_as_soon_as_it_has_python(machine: Machine) -> None:
    machine.remove("python3")
    real = shutil.which("python3") or sys.executable
    apt = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    machine.install("apt-get", f'{apt}\nln -sf {real} "$MACHINE/bin/python3"')
    faults(machine, cuInit=999)
    done = machine.setup()
    assert done.returncode == 20, done.stdout
    assert "    driver x CUDA does not work: the NVIDIA driver fails without a reason" in done.stdout
    assert machine.calls("uv") == []


def test_the_build_for_cpus_does_not_ask_and_says_so(machine: Machine) -> None:
    faults(machine, cuInit=999)
    output = ok(machine.setup("--cpu"))
    assert "    gpus * vLLM's build for CPUs does not use CUDA\n<== gpus: skipped\n" in output


def test_gpus_with_models_are_left_alone(machine: Machine) -> None:
    machine.install("nvidia-smi", 'echo "0, 70000, 81559"; echo "1, 4, 81559"; echo "2, [N/A], [N/A]"')
    assert machine.call("gpus_in_use") == ""
    (machine.home / ".pi/models").mkdir(parents=True)
    (machine.home / ".pi/models/uid.json").write_text("{}")
    assert machine.call("gpus_in_use") == "0\n"


TORCH = """
import types

class Value:
    def __add__(self, other): return self
    def item(self): {then}

cuda = types.SimpleNamespace(init=lambda: None, device_count=lambda: 1)
def zeros(*_, device): return Value()
"""


def install_torch(machine: Machine, then: str) -> None:
    """Give the Python of every environment a PyTorch whose computation ends like this."""
    (machine.folder / "packages-of-python").mkdir(exist_ok=True)
    (machine.folder / "packages-of-python/torch.py").write_text(TORCH.format(then=then))
    executables.put(
        machine.folder / "installed/python",
        f"""#!/bin/sh
case "$*" in *ask_cuda.py*) ;; *) exit ;; esac
echo torch >> {machine.folder}/asked
shift
exec {sys.executable} -S -c "
import runpy, sys
sys.path.insert(0, '{machine.folder}/packages-of-python')
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')" "$@"
""",
    )


def test_pytorch_is_asked_once_and_its_answer_is_the_summary(machine: Machine) -> None:
    install_torch(machine, "return 1")
    output = ok(machine.setup())
    assert "    gpus * CUDA 13.0 works on 1 GPU (simulated), also with PyTorch\n<== gpus: done\n" in output
    output = ok(machine.setup())
    assert "    gpus * CUDA 13.0 works on 1 GPU (simulated)\n<== gpus: skipped\n" in output
    assert (machine.folder / "asked").read_text() == "torch\n"


def test_a_pytorch_that_cannot_compute_here_fails_the_setup(machine: Machine) -> None:
    install_torch(machine, "raise RuntimeError('CUDA error: no kernel image is available for execution on the device')")
    done = machine.setup()
    assert done.returncode == 20
    assert "    gpus x CUDA does not work: this vLLM is not built for this kind of GPU (CUDA error 209" in done.stdout


def test_a_pytorch_that_cannot_be_asked_is_a_line_in_the_log(machine: Machine) -> None:
    (machine.folder / "installed/python").write_text("#!/bin/sh\n")
    output = ok(machine.setup())
    assert "    gpus | CUDA could not be asked (no answer). Repair the machine's Python\n" in output
    assert "    gpus * CUDA 13.0 works on 1 GPU (simulated)\n<== gpus: done\n" in output
