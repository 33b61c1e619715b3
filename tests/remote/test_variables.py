"""Which of the machine's environment variables the programs of a setup get, and what ~/.pi/env adds."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import ok

sys.path.append(str(Path(__file__).parents[2] / "remote"))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

LET_IN = {
    "http_proxy": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "REQUESTS_CA_BUNDLE": "/etc/ssl/bundle", "LANG": "C.UTF-8",
    "UV_INDEX_URL": "https://mirror/simple", "UV_EXTRA_INDEX_URL": "https://more/simple",
    "UV_INDEX_OURS_PASSWORD": "secret-of-the-index", "PIP_INDEX_URL": "https://mirror/simple",
    "HF_ENDPOINT": "https://hub.example.org", "NVIDIA_VISIBLE_DEVICES": "all", "NCCL_SOCKET_IFNAME": "eth1",
}  # fmt: skip
LEFT_OUT = {
    "UV_TORCH_BACKEND": "cu118", "UV_NO_CACHE": "1", "UV_LINK_MODE": "copy", "UV_PYTHON": "3.9",
    "UV_SYSTEM_PYTHON": "1", "UV_CONSTRAINT": "/nowhere/constraints.txt", "UV_OFFLINE": "1",
    "PIP_TARGET": "/opt/elsewhere", "PIP_REQUIRE_VIRTUALENV": "true", "PYTHONPATH": "/opt/old",
    "PYTHONHOME": "/opt/python", "PYTHONUSERBASE": "/opt/user", "VIRTUAL_ENV": "/opt/venv",
    "CONDA_PREFIX": "/opt/conda", "VLLM_USE_V1": "0", "VLLM_API_KEY": "key-of-the-machine",
    "CUDA_VISIBLE_DEVICES": "7", "HF_TOKEN": "hf_of_the_machine", "HF_HOME": "/workspace/.hf_home",
    "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/scratch/hub", "HUGGINGFACE_HUB_CACHE": "/scratch/hub",
    "XDG_CACHE_HOME": "/scratch", "HF_HUB_ENABLE_HF_TRANSFER": "1", "TRANSFORMERS_OFFLINE": "1",
    "LD_LIBRARY_PATH": "/usr/local/cuda/compat", "TORCH_CUDA_ARCH_LIST": "8.0", "CC": "/opt/cc", "CDPATH": "/",
    "GLOBIGNORE": "*", "MAKEFLAGS": "-j1",
}  # fmt: skip
UNTOLD = {"VIRTUAL_ENV", "CONDA_PREFIX", "CC", "CDPATH", "GLOBIGNORE", "MAKEFLAGS"}  # that change nothing of ours
PROGRAMS = ("uv", "nvidia-smi", "apt-get", "curl", "mount", "vllm")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "machine")
    for name in PROGRAMS:
        path = machine.folder / ("installed/vllm" if name == "vllm" else f"bin/{name}")
        text = path.read_text().split("\n", 2)
        path.write_text("\n".join([*text[:2], f'env -0 >> "$MACHINE/{name}.environ"', text[2]]))
    return machine


def environ(machine: Machine, program: str) -> dict[str, str]:
    """Return every variable that a program got, of all its runs."""
    entries = (machine.folder / f"{program}.environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_the_agent_and_setup_let_in_the_same_variables(machine: Machine) -> None:
    from agent import variables

    assert machine.call("eval", 'echo "$let_in"').strip() == variables.LET_IN.pattern
    assert machine.call("eval", 'echo "$driver_folders"').strip() == "|".join(variables.DRIVER)


def test_programs_get_what_describes_the_network_and_nothing_that_changes_what_was_asked_for(machine: Machine) -> None:
    machine.environ |= LET_IN | LEFT_OUT
    ok(machine.setup("--mount", f"mount -t nfs h:/x {machine.folder}/volume"))
    for program in PROGRAMS:
        got = environ(machine, program)
        assert {name: got.get(name) for name in LET_IN} == LET_IN, program
        assert [name for name, value in LEFT_OUT.items() if got.get(name) == value] == [], program
    [installing] = [line for line in machine.calls("uv") if "--torch-backend" in line]
    assert "--torch-backend=cu130 vllm" in installing


def test_what_is_left_out_is_named_once_and_never_with_its_value(machine: Machine) -> None:
    machine.environ |= LET_IN | LEFT_OUT
    output = ok(machine.setup())
    [said] = re.findall(
        r"^    machine ! left out of the machine's environment: (.*)\. What you need", output, re.MULTILINE
    )
    assert said.split(", ") == sorted(LEFT_OUT.keys() - UNTOLD)
    assert [value for value in LEFT_OUT.values() if len(value) > 5 and value in output] == []
    assert "secret-of-the-index" not in output


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "{}/disk/huggingface", "HF_HUB_CACHE": "{}/disk/huggingface/hub"},
        {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib64", "CUDA_VERSION": "13.0", "CUDA_HOME": "/opt/cuda"},
    ],
)
def test_a_variable_that_agrees_with_what_was_asked_for_is_not_missed(
    machine: Machine, variables: dict[str, str]
) -> None:
    machine.environ |= {name: value.format(machine.folder) for name, value in variables.items()}
    assert "left out" not in ok(machine.setup("--models-path", f"{machine.folder}/disk"))


def test_the_driver_is_still_found_where_container_runtimes_put_it(machine: Machine) -> None:
    machine.environ["LD_LIBRARY_PATH"] = "/opt/conda/lib:/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
    assert "left out of the machine's environment: LD_LIBRARY_PATH." in ok(machine.setup())
    assert environ(machine, "nvidia-smi")["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"


def test_a_function_or_a_variable_of_the_machine_does_not_replace_ours(machine: Machine) -> None:
    machine.environ |= {"BASH_FUNC_uv%%": "() { echo hijacked; }", "BASH_FUNC_df%%": "() { echo hijacked; }"}
    machine.environ |= dict.fromkeys(("cuda", "venv", "mount_command", "models_path", "here"), "/nowhere")
    machine.environ |= {"SHELLOPTS": "braceexpand:xtrace", "PI_VLLM_CACHE": "/nowhere"}
    assert "hijacked" not in ok(machine.setup())
    assert machine.calls("uv")
    assert "/nowhere" not in (machine.home / ".pi/env").read_text()


# ~/.pi/env


def write_env(machine: Machine, text: str) -> Path:
    file = machine.home / ".pi/env"
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as env:
        env.write(text)
    return file


def test_what_the_user_added_to_the_environment_file_counts_and_survives_setup(machine: Machine) -> None:
    machine.environ |= {"UV_NO_CACHE": "1", "VLLM_USE_V1": "0"}
    ok(machine.setup())
    conditional = "if true; then\n  export HF_XET_HIGH_PERFORMANCE='0'\nfi\n"
    file = write_env(machine, f"export UV_NO_CACHE=yes\nUV_LINK_MODE=copy  # mine\n{conditional}")
    before = file.read_text()
    output = ok(machine.setup("--vllm", "0.31.0"))
    assert file.read_text() == before
    assert stat.S_IMODE((file.parent / "env.setup").stat().st_mode) == 0o600
    assert environ(machine, "uv")["UV_NO_CACHE"] == "yes"
    assert environ(machine, "uv")["UV_LINK_MODE"] == "copy"
    assert "left out of the machine's environment: VLLM_USE_V1." in output


def test_lines_that_an_older_setup_wrote_are_replaced_and_others_kept(machine: Machine) -> None:
    old = "export VLLM_TARGET_DEVICE='cpu'\nexport HF_HOME='/gone/huggingface'\n"
    file = write_env(machine, f"{old}export VLLM_ENGINE_READY_TIMEOUT_S=3600\n")
    ok(machine.setup("--models-path", f"{machine.folder}/disk"))
    assert "/gone" not in file.read_text()
    assert "VLLM_TARGET_DEVICE" not in file.read_text()
    assert file.read_text().endswith("export VLLM_ENGINE_READY_TIMEOUT_S=3600\n")


@pytest.mark.parametrize("text", ["exit 3\n", "echo noise; false\n", "syntax error (\n", "export UV_TORCH_BACKEND=\n"])
def test_an_environment_file_that_fails_does_not_stop_setup(machine: Machine, text: str) -> None:
    write_env(machine, text)
    ok(machine.setup())


def test_an_environment_file_that_never_ends_does_not_stop_setup(machine: Machine) -> None:
    write_env(machine, "sleep 60\n")
    ok(machine.step("true", before="env_timeout=0.2"))


# The place of the models


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("export HF_HUB_CACHE={}/scratch\n", "{}/scratch"),
        ("export HUGGINGFACE_HUB_CACHE={}/scratch\n", "{}/scratch"),
        ("export HF_HOME={}/hf\n", "{}/hf/hub"),
        ("export XDG_CACHE_HOME={}/caches\n", "{}/caches/huggingface/hub"),
    ],
)
def test_setup_names_the_place_that_the_environment_file_chooses(machine: Machine, line: str, place: str) -> None:
    write_env(machine, line.format(machine.folder))
    output = ok(machine.setup())
    assert f"    storage * models are in {place.format(machine.folder)}, as ~/.pi/env says: / (" in output
    assert f"    cache * models are in {place.format(machine.folder)}, as ~/.pi/env says\n" in output


def test_a_models_path_replaces_another_place_in_the_environment_file(machine: Machine) -> None:
    file = write_env(machine, "export HF_HUB_CACHE=/scratch/hub\nexport OTHER=1\n")
    output = ok(machine.setup("--models-path", f"{machine.folder}/disk"))
    assert f"    environment ! removed HF_HUB_CACHE from {file}: models are now on {machine.folder}/disk\n" in output
    assert "/scratch" not in file.read_text()
    assert "export OTHER=1\n" in file.read_text()


def test_the_place_in_the_environment_file_counts_before_the_link(machine: Machine) -> None:
    ok(machine.setup("--models-path", f"{machine.folder}/one"))
    (machine.folder / "two/huggingface").mkdir(parents=True)
    write_env(machine, f"export HF_HOME={machine.folder}/two/huggingface\n")
    output = ok(machine.setup())
    assert f"    cache * the cache is now {machine.folder}/two/huggingface\n" in output
    assert "PI_VLLM_CACHE" in (machine.home / ".pi/env").read_text()


def test_the_disk_that_setup_names_is_the_one_behind_a_link(machine: Machine) -> None:
    (machine.folder / "big").mkdir()
    (machine.home / ".cache").symlink_to(machine.folder / "big")
    machine.install(
        "df", f'echo header; case "$*" in *" {machine.home}/.cache") echo "d ext4 9 1 4 1% /big" ;; *) exit 1 ;; esac'
    )
    output = ok(machine.step("mount_the_models"))
    assert "no volume: models stay in ~/.cache/huggingface (/big (" in output


# Mount commands


def test_no_program_gets_the_mount_command_as_an_argument_but_its_own(machine: Machine) -> None:
    """F15. xargs and bash got it too."""
    seen = 'for each in /proc/[0-9]*/cmdline; do tr "\\\\0" " " < "$each"; echo; done 2> /dev/null >> "$MACHINE/seen"\n'
    mount = (machine.folder / "bin/mount").read_text().split("\n", 2)[2]
    machine.install("mount", f"{seen}{mount}")
    machine.install("mkdir", f'{seen}exec /bin/mkdir "$@"')
    secret = "hush-0815"  # the titles of pytest's own processes have that of other tests
    machine.environ["PI_MOUNT"] = f"mount -t nfs h:/x {machine.folder}/volume; true username=u,password={secret}"
    output = ok(machine.setup())
    assert f"{machine.folder}/volume" in (machine.folder / "seen").read_text()
    assert secret not in (machine.folder / "seen").read_text() + output
    texts = [path.read_bytes() for path in machine.home.rglob("*") if path.is_file()]
    assert not [text for text in texts if secret.encode() in text]
    assert secret not in str([environ(machine, program) for program in PROGRAMS])


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("-o username=u,password=hush-4711", "bad option hush-4711"),
        ("-o user=u%hush-4711", "bad password hush-4711 of u"),
        ("https://u:hush-4711@h/x", "https://u:hush-4711@h/x: 401, hush-4711"),
        ("-o pass='hush-4711 x'", "hush-4711 x is wrong"),
        ("'hush-4711' )", ""),  # bash itself quotes the line with a syntax error
    ],
)
def test_what_a_failing_mount_prints_is_shown_without_its_secrets(machine: Machine, options: str, printed: str) -> None:
    machine.install("mount", f"echo '{printed}' >&2; exit 32")
    machine.environ["PI_MOUNT"] = f"mount {options} {machine.folder}/volume"
    done = machine.setup("--models-path", f"{machine.folder}/volume")
    assert done.returncode == 13
    assert "hush" not in done.stdout + done.stderr
    assert "hush" not in (machine.home / ".pi/mount.log").read_text()


@pytest.mark.parametrize("command", [r"mount 'a  b' \"c d\" e\ f \'g", "a'b'\"c\"d", "open 'quote"])
def test_a_mount_command_is_split_as_a_shell_does(machine: Machine, command: str) -> None:
    by_xargs = subprocess.run(["xargs", "printf", r"%s\n"], input=command, capture_output=True, text=True)
    words = by_xargs.stdout if "unmatched" not in by_xargs.stderr else "open\n"
    assert machine.call("words_of", command) == words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_environment_file_of_another_user_is_not_run(machine: Machine) -> None:
    file = write_env(machine, f"touch {machine.folder}/ran\n")
    os.chown(file, 12345, 12345)
    done = machine.setup()
    assert f"{file} belongs to another user" in done.stdout + done.stderr
    assert done.returncode == 2
    assert not (machine.folder / "ran").exists()
