"""The security checklist over real sshd, as far as `test_secrets.py` and `test_login.py` do not have it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import pi_cli
from pi_cli.commands.app import app
from tests.conftest import KEY, TOKEN, Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, QUICK, TOOLS, begin, ended, living, pods_file, seconds_until_end, start
from tests.openssh.conftest import Prepare
from tests.until import until

PACKAGE = Path(pi_cli.__file__).parent
REMOTE = PACKAGE.parent / "remote"
HOLD = """
import sys
from pi_cli.store import state
with state.edit():
    print("held", flush=True)
    sys.stdin.read()
"""
CANARIES = [
    "; touch /CANARY #",
    "&& touch /CANARY",
    "| touch /CANARY",
    "$(touch /CANARY)",
    "`touch /CANARY`",
    "'; touch /CANARY; '",
    '"; touch /CANARY; "',
    "\\'; touch /CANARY #",
    "a\nEOF\ntouch /CANARY\n",
    "{{ touch /CANARY }} ${HOME} %s !!",
    "../../CANARY",
    "-oProxyCommand=touch /CANARY",
    "*",
    "~",
    "",
    "é\u202e",
]
WRITES_DOWN_ITS_ARGUMENTS = """#!/usr/bin/python3
import json, sys
with open("/root/arguments", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""
SET_UP_BY_THE_USER = {
    ".cache/huggingface/hub/models--my--model/blobs/weights": "mine",
    ".cache/huggingface/token": "mine too",
    "venv/bin/activate": "of another tool",
    "venv/lib/thing.py": "of another tool",
    ".bashrc": "export MINE=1\n",
    ".config/pip/pip.conf": "[global]\n",
}


def touched(pod: OpensshPod) -> list[Path]:
    """Return what the canaries' command leaves, on the pod or here."""
    return [*pod.root.glob("CANARY*"), *Path("/").glob("CANARY*")]


# --- what no machine has to be there for ------------------------------------------------------------------------------


def test_a_traceback_shows_no_values_of_variables() -> None:
    """Security check 8."""
    assert app.pretty_exceptions_show_locals is False
    assert app.pretty_exceptions_enable is False


def test_no_command_goes_through_a_shell_of_this_machine() -> None:
    """Security check 25."""
    careless = {"system", "popen", "create_subprocess_shell", "getoutput", "getstatusoutput"}
    for path in (*PACKAGE.rglob("*.py"), *REMOTE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert name not in careless, f"{path}:{node.lineno}"
                assert not [word for word in node.keywords if word.arg == "shell"], f"{path}:{node.lineno}"


def test_setup_runs_nothing_from_the_network_that_is_not_pinned_and_encrypted() -> None:
    """Security check 33."""
    scripts = [*REMOTE.glob("*.sh"), *REMOTE.glob("setup/*.sh")]
    assert scripts
    for path in scripts:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        assert not re.findall(r"(?:curl|wget)[^|\n]*\|\s*(?:sudo\s+)?(?:ba|da)?sh\b", text), path
        assert not re.findall(r"\b(?:ba|z|da)?sh\s+(?:-c\s+)?[\"']?(?:<\(|\$\()\s*(?:curl|wget)", text), path
        assert not re.findall(r"http://(?!localhost|127\.)\S+", text), path
        careless = (
            r"--insecure|--no-check-certificate|--trusted-host|allow-unauthenticated|trusted=yes|curl[^|\n]* -k\b"
        )
        assert not re.findall(careless, text), path
        for url in re.findall(r"https://astral\.sh/\S+", text):
            assert "_version" in url, f"{path}: {url} may be another one tomorrow"


# --- what pi keeps here -----------------------------------------------------------------------------------------------


@pytest.fixture
def by_hand() -> Path:
    """A `pods.json` with two pods that nobody has to reach."""
    pods_file().parent.mkdir(mode=0o700)
    pods = {name: {"ssh": "ssh root@192.0.2.1", "gpus": [], "models": {}} for name in ("dc1", "dc2")}
    pods_file().write_text(json.dumps({"pods": pods, "active": "dc1"}))
    return pods_file()


def test_a_change_is_flushed_before_it_takes_the_files_place(by_hand: Path) -> None:
    """Security check 10."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2"]
    traced = subprocess.run(
        [*command, sys.executable, "-m", "pi_cli", "pods", "active", "dc2"], capture_output=True, text=True
    )
    if "ptrace" in traced.stderr and traced.returncode:
        pytest.skip(f"strace may not look: {traced.stderr.splitlines()[0]}")
    calls = [line for line in traced.stderr.splitlines() if str(by_hand) in line]
    assert len(calls) == 2, traced.stderr
    assert re.search(rf"fsync\(\d+<{by_hand}\.", calls[0])  # a file beside it, in the same folder
    assert re.search(rf'rename\w*\(.*"{by_hand}\.[^"/]+", .*"{by_hand}"', calls[1])


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """Put a folder onto a disk of its own, small and full, until the block ends."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_under_pods_json_keeps_the_old_file_and_rolls_back_the_start(pi: Pi, pod: OpensshPod) -> None:
    """Fault 68."""
    kept = {path.name: path.read_bytes() for path in pods_file().parent.iterdir() if path.is_file()}
    with full_disk(pods_file().parent) as folder:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        fill(folder)
        result = pi("start", MODEL, "--name", "q", *QUICK)
        assert result.code == 5, result.err
        assert f"cannot write `{pods_file()}`: No space left on device" in result.err
        assert pods_file().read_bytes() == kept["pods.json"]
        assert living(pod) == []
        (folder / "filler").unlink()
        assert pi("start", MODEL, "--name", "q", *QUICK).code == 0


@pytest.mark.usefixtures("by_hand")
def test_a_lock_goes_with_its_holder(pi: Pi) -> None:
    """Security check 11; how long a living holder is waited for is in `test_state.py`."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        waiting = begin("pods", "active", "dc2")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.7)
        holder.kill()
        assert seconds_until_end(waiting) < 6  # whoever waits for a lock gives up after 10
        assert ended(waiting).code == 0
    begun = time.monotonic()
    assert pi("pods", "active", "dc1").code == 0
    assert time.monotonic() - begun < 6  # whoever waits for a lock gives up after 10
    assert pods_json()["active"] == "dc1"


# --- what comes to a pod ----------------------------------------------------------------------------------------------


@pytest.fixture
def machine(prepare: Prepare) -> OpensshPod:
    """A machine whose setup takes no time, and of which pi knows nothing yet."""
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    return pod


def test_everything_pi_keeps_is_private_whatever_the_umask_is_here(machine: OpensshPod) -> None:
    """Security checks 5 and 9."""
    for words in (
        ["pods", "setup", "dc1", machine.ssh],
        ["start", MODEL, "--name", "q", *QUICK],
        ["pods", "active", "dc1"],
    ):
        done = subprocess.run([sys.executable, "-m", "pi_cli", *words], umask=0, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert pods_file().stat().st_mode & 0o777 == 0o600
    assert pods_file().parent.stat().st_mode & 0o777 == 0o700
    kept = [path for path in Path(os.environ["HOME"]).rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in kept if path.stat().st_mode & 0o077 and path.suffix != ".lock"] == []
    assert machine.check("find ~/.pi ~/.vllm_logs -perm /077 -not -type l -not -path '*/venvs/*'") == ""


def test_a_full_disk_under_the_output_betrays_no_secret(pi: Pi, pod: OpensshPod) -> None:
    """Security check 8: however pi ends."""
    start(pi, own=(*QUICK, *TOOLS))
    for words in (["list", "--json"], ["logs", "q", "--no-follow"], ["prompt", "q", "What is 2+2?"]):
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-X", "dev", "-m", "pi_cli", *words]
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | {"PI_DEBUG": "1"}
            )
        assert done.returncode != 0
        assert KEY not in done.stderr
        assert TOKEN not in done.stderr
    assert living(pod)


def test_a_pasted_line_that_switches_checking_off_does_not(pi: Pi, pod: OpensshPod) -> None:
    """Security checks 12 and 14."""
    options = ("-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null")
    ssh = f"{pod.ssh} {' '.join(options)}"
    pods_file().write_text(pods_file().read_text().replace(pod.ssh, ssh))
    assert pi("list").code == 0
    pod.new_host_key()
    log = pod.root / "var/log/sshd.log"
    accepted = log.read_text().count("Accepted")
    before = pods_file().read_bytes()
    for words in (["list"], ["start", MODEL, "--name", "q"], ["pods", "setup", "dc1", ssh]):
        result = pi(*words)
        assert result.code == 3, words
        assert "its host key changed" in result.err
    assert all(f"`{option}`" in result.err for option in options)  # setup says what it leaves out
    assert pi("ssh", "dc1", "touch /CANARY").code == 255
    assert touched(pod) == []
    assert log.read_text().count("Accepted") == accepted
    assert pods_file().read_bytes() == before


@pytest.mark.usefixtures("pod")
def test_a_shell_on_a_pod_has_no_way_back_to_the_users_agent_and_display(
    pi: Pi, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Security check 15, for `pi ssh`: who wants to be forwarded has `ssh`."""
    config = environment / "config"
    config.write_text("Host *\n  ForwardAgent yes\n  ForwardX11 yes\n  ForwardX11Trusted yes\n")
    state = json.loads(pods_file().read_text())
    state["pods"]["dc1"]["ssh"] += f" -F {config} -A -X"
    pods_file().write_text(json.dumps(state))
    socket = environment / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        until(socket.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        told = pi("ssh", "dc1", "env")
        agent.terminate()
    assert told.code == 0, told.err
    assert "SSH_AUTH_SOCK" not in told.out
    assert "DISPLAY" not in told.out


def test_nothing_a_user_writes_is_run_on_the_way(pi: Pi, machine: OpensshPod) -> None:
    """Security check 24."""
    for canary in CANARIES:
        assert pi("pods", "setup", canary, machine.ssh).code == 2, canary
        assert pi("logs", canary, "--pod", canary).code == 2, canary
    setup = ["pods", "setup", "dc1", machine.ssh, "--models-path", "/srv/a 'b\" $(touch /CANARY); touch /CANARY #"]
    assert pi(*setup, HF_TOKEN="hf_'\"$(touch${IFS}/CANARY)`touch${IFS}/CANARY`;").code == 0
    setup[5:] = ["--vllm", "vllm; touch /CANARY $(touch /CANARY)"]
    assert pi(*setup).code in (0, 1, 2)
    assert touched(machine) == []


def test_arguments_and_names_of_models_arrive_as_they_were_written(pi: Pi, pod: OpensshPod) -> None:
    """Security check 24, fault 37."""
    pod.install("vllm", WRITES_DOWN_ITS_ARGUMENTS)
    pod.install("hf", "#!/bin/sh\nexit 0\n")
    values = [f"--response-role={canary}" for canary in CANARIES]
    for model, arguments in (("m/m", values), ("/srv/; touch /CANARY", []), ("/srv/a' b\"", ["--response-role=y z"])):
        result = pi("start", model, "--name", "q", "--vllm", *arguments)
        assert result.code == 4, result.err
        told = json.loads((pod.home / "arguments").read_text().splitlines()[-1])
        assert told[:2] == ["serve", model]
        assert told[len(told) - len(arguments) :] == arguments
    stray = pi("start", "m/m", "--name", "q", "--vllm", *CANARIES)
    assert (stray.code, "belongs to no option of vLLM" in stray.err) == (2, True), stray.err
    for model in ("m/$(touch /CANARY)", "m/a' b\""):
        refused = pi("start", model, "--name", "q")
        assert (refused.code, "is not the id of a model" in refused.err) == (2, True), refused.err
    for words in (["stop", "$(touch /CANARY)"], ["logs", "$(touch /CANARY)"], ["prompt", "`touch /CANARY`", "Hi"]):
        assert pi(*words).code in (1, 2), words
    assert touched(pod) == []
    assert living(pod) == []


def test_neither_setup_nor_a_models_life_needs_a_folder_that_others_can_write_to(pi: Pi, machine: OpensshPod) -> None:
    """Security check 26: a name in /tmp that can be guessed is somebody else's to take."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        machine.check(f"/usr/bin/mount -t tmpfs -o ro none {folder}")
    assert pi("pods", "setup", "dc1", machine.ssh).code == 0
    start(pi, own=(*QUICK, *TOOLS))
    assert pi("list", "--json").json[0]["status"] == "ready"
    assert pi("prompt", "q", "What is 2+2?").out.strip() == "4"
    assert pi("logs", "q", "--no-follow").code == 0
    assert pi("stop", "q").code == 0
    assert machine.check("find ~ -maxdepth 1 -perm /022 -not -type l") == ""


def test_setup_deletes_nothing_that_was_there_before(pi: Pi, machine: OpensshPod) -> None:
    """Security check 35."""
    for name, text in SET_UP_BY_THE_USER.items():
        (machine.home / name).parent.mkdir(parents=True, exist_ok=True)
        (machine.home / name).write_text(text)
    for path in ("/srv/one", "/srv/one", "/srv/two"):
        result = pi("pods", "setup", "dc1", machine.ssh, "--models-path", path)
        assert result.code == 0, result.err
        for name, text in SET_UP_BY_THE_USER.items():
            found = machine.check(f"find / -xdev -type f -path '*/{Path(name).name}' -not -path '/proc/*'").split()
            assert text in [machine.check(f"cat '{path}'") for path in found], f"{name} is gone"
    assert (machine.home / ".bashrc").read_text() == SET_UP_BY_THE_USER[".bashrc"]
