"""`pi pods setup`: what it asks for, shows, records and forgets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.command_lines import watched_for
from tests.conftest import Pi, pods_json
from tests.docs import json_page
from tests.until import until


@pytest.fixture
def machine() -> Iterator[EmbeddedPod]:
    """A machine with two GPUs that nobody has set up."""
    with EmbeddedPod("2x H100 80GB") as machine:
        yield machine


def log_of(pod: str) -> Path:
    return Path(os.environ["XDG_STATE_HOME"], "pi/log", f"setup-{pod}.log")


def change_state(change: Callable[[Any], None]) -> None:
    state = pods_json()
    change(state)
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))


def steps_of(err: str) -> list[str]:
    """Return the lines about steps, without their times; steps that run side by side end in any order."""
    return [re.sub(r" \([^()]*s\)$", "", line) for line in err.splitlines() if line.startswith("dc1: ")]


def test_setup_prints_the_pod_as_json_and_the_doctor_finds_it_well(pi: Pi, machine: EmbeddedPod) -> None:
    result = pi("pods", "setup", "dc1", machine.ssh, "--json")
    assert json_page.problems("pi pods setup --json", result.out) == []
    assert [result.json] == pi("pods", "--json").json
    health = pi("doctor", "--json")
    assert (health.code, health.json["pods"][0]["setup_by_this_pi"]) == (0, True), health.out


def test_setup_makes_a_pod_of_a_bare_machine(pi: Pi, machine: EmbeddedPod) -> None:
    result = pi("pods", "setup", "dc1", machine.ssh)
    assert result.code == 0, result.err
    assert result.out == "ready pod `dc1`: 2x NVIDIA H100 80GB HBM3, vLLM 0.32.0\n"
    assert steps_of(result.err)[0].startswith("dc1: learned its host key SHA256:")
    assert [line for line in steps_of(result.err) if line.startswith("dc1: Installing vLLM: ")]
    assert "Setting up" not in result.err, "what installers print is for the log"
    took, next_step = result.err.splitlines()[-2:]
    assert re.fullmatch(r"took \d+(\.\d)? s", took)
    assert next_step == "start a model with `pi start openai/gpt-oss-20b --name gpt-oss-20b`"
    written = pods_json()
    assert written["active"] == "dc1"
    assert written["pods"]["dc1"]["ssh"] == machine.ssh
    assert written["pods"]["dc1"]["vllm"] == "0.32.0"
    about = {"id": 1, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
    assert about.items() <= written["pods"]["dc1"]["gpus"][1].items()
    assert (machine.home / "venv/bin/vllm").exists()
    assert oct((machine.home / ".pi").stat().st_mode & 0o777) == "0o700"


def test_another_home_is_recorded_and_given_back_by_a_tilde(pi: Pi, machine: EmbeddedPod, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    assert pi("pods", "setup", "dc1", machine.ssh, "--home", str(disk)).code == 0
    assert pods_json()["pods"]["dc1"]["home"] == str(disk)
    assert (machine.home / "venv").readlink() == disk / "pi-vllm/venvs/0.32.0"
    checked = pi("pods", "--check", "--json").json[0]
    assert (checked["home"], checked["check"]["place"]["path"]) == (str(disk), str(disk))
    (machine.home / ".pi/place").unlink()  # a machine that was recreated has no memory
    assert pi("pods", "setup", "dc1").code == 0
    assert (machine.home / ".pi/place").read_text().splitlines()[0] == str(disk)
    unquoted = str(Path.home())  # what the local shell makes of `~`
    assert pi("pods", "setup", "dc1", "--home", unquoted).code == 0
    assert "home" not in pods_json()["pods"]["dc1"]
    assert (machine.home / "venv").readlink() == machine.home / ".pi/venvs/0.32.0"


def test_the_log_is_complete_and_private_and_the_previous_one_is_kept(pi: Pi, machine: EmbeddedPod) -> None:
    pi("pods", "setup", "dc1", machine.ssh)
    first = log_of("dc1").read_text()
    assert "vllm |  + vllm==0.32.0 (simulated)" in first
    assert re.search(r"^\d\d:\d\d:\d\d ==> machine: ", first, re.MULTILINE)
    assert oct(log_of("dc1").stat().st_mode & 0o777) == "0o600"
    pi("pods", "setup", "dc1", machine.ssh)
    assert log_of("dc1").with_name("setup-dc1.log.1").read_text() == first
    assert log_of("dc1").read_text() != first


def test_verbose_shows_what_installers_print(pi: Pi, machine: EmbeddedPod) -> None:
    result = pi("pods", "setup", "dc1", machine.ssh, "-v")
    assert "dc1: Installing vLLM..." in result.err
    assert "dc1: vllm |  + vllm==0.32.0 (simulated)" in result.err


def test_urls_have_the_address_behind_an_alias(pi: Pi, machine: EmbeddedPod, environment: Path) -> None:
    config = environment / ".ssh/config"
    config.parent.mkdir()
    config.write_text("Host gpu-box\n  HostName 127.0.0.1\n")
    assert pi("pods", "setup", "dc1", machine.ssh.replace("127.0.0.1", "gpu-box")).code == 0
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json").json[0]
    assert started["url"].startswith("http://127.0.0.1:")
    assert pi("list", "--json").json[0]["url"] == started["url"]
    assert pi("list", "--no-check", "--json").json[0]["url"] is None, "nobody has tried it"
    assert pi("env", "q", "--json").json["env"]["OPENAI_BASE_URL"] == started["url"]

    config.write_text("Host gpu-box\n  HostName 127.0.0.3\n")
    moved = pi("env", "q")
    assert (moved.code, moved.out) == (3, ""), "the alias leads to another machine by now"
    assert pi("pods", "setup", "dc1", machine.ssh).code == 0


def test_a_second_pod_does_not_become_active(pi: Pi, pod: EmbeddedPod) -> None:
    with EmbeddedPod("1x L4") as machine:
        result = pi("pods", "setup", "dc2", machine.ssh)
        assert "make it the active pod with `pi pods active dc2`" in result.out
        assert pods_json()["active"] == "dc1"
        assert pi("pods", "active", "dc2").code == 0
        assert pods_json()["active"] == "dc2"
    assert pod.home.exists()


def test_a_known_pod_needs_no_ssh_command_and_keeps_what_it_has(pi: Pi, pod: EmbeddedPod) -> None:
    change_state(lambda state: state["pods"]["dc1"].update(note="mine", connect_timeout=40))
    result = pi("pods", "setup", "dc1")
    assert result.code == 0, result.err
    entry = pods_json()["pods"]["dc1"]
    assert (entry["ssh"], entry["note"], entry["connect_timeout"]) == (pod.ssh, "mine", 40)
    assert entry["vllm"] == "0.32.0"
    assert pi("pods", "setup", "dc1", "--connect-timeout", "7.5").code == 0
    assert pods_json()["pods"]["dc1"]["connect_timeout"] == 7.5


def test_the_folder_of_the_models_is_recorded_and_shown(pi: Pi, machine: EmbeddedPod) -> None:
    folder = machine.home / "disk"
    result = pi("pods", "setup", "dc1", machine.ssh, "--models-path", str(folder))
    assert result.code == 0, result.err
    storage = pods_json()["pods"]["dc1"]["storage"]
    assert storage["path"] == str(folder)
    assert re.fullmatch(r"\d+(\.\d)?[GT]B", storage["size"])
    assert re.search(rf", models on {folder} \(\d+(\.\d)? [GT]B\)\n", result.out)


def test_a_machine_without_gpu_is_refused_and_not_registered(pi: Pi) -> None:
    """Fault 81."""
    with EmbeddedPod("none") as machine:
        result = pi("pods", "setup", "dc1", machine.ssh)
        assert not (machine.home / "venv").exists()
    assert result.code == 1
    assert "error: setup of `dc1` failed" in result.err
    assert "GPU" in result.err
    assert not Path(os.environ["PI_CONFIG_DIR"], "pods.json").exists()


@pytest.mark.parametrize("name", ["HF_TOKEN", "PI_API_KEY"])
def test_setup_asks_for_its_secrets_before_it_connects(pi: Pi, machine: EmbeddedPod, name: str) -> None:
    """Fault 76."""
    result = pi("pods", "setup", "dc1", machine.ssh, **{name: ""})
    assert result.code == 2
    assert f"{name} is not set" in result.err
    assert machine.commands == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models-path", "disk"], "error: `--models-path` must be absolute, not `disk`\nhint: start it with `/`\n"),
        (["--home", "disk"], "error: `--home` must be absolute, not `disk`\nhint: start it with `/`, or use `~`\n"),
        (
            ["--mount", "mount -a"],
            "mounts: it names no folder to mount on\nhint: name the folder as well, for example `--models-path /mnt",
        ),
        (["--mount", "mount '/mnt"], "error: `mount '/mnt` is not a valid command: no closing quotation\n"),
        (["--cpu", "--cuda", "full"], "error: `--cpu` excludes `--cuda` and `--flashinfer`\n"),
        (["--cpu", "--flashinfer", "none"], "error: `--cpu` excludes `--cuda` and `--flashinfer`\n"),
        (["--cuda", "13"], "auto, full or none"),
        (["--connect-timeout", "0"], "--connect-timeout"),
    ],
)
def test_nonsense_is_refused_before_anything_is_touched(
    pi: Pi, machine: EmbeddedPod, words: list[str], said: str
) -> None:
    result = pi("pods", "setup", "dc1", machine.ssh, *words)
    assert result.code == 2
    assert said in result.err
    assert machine.commands == []


def test_a_new_pod_needs_an_ssh_command(pi: Pi) -> None:
    result = pi("pods", "setup", "dc1")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: there is no pod `dc1` yet\nhint: give its ssh command: `pi pods setup dc1 ")


BROKEN_APT = r"""#!/bin/sh
for n in $(seq 20); do echo line $n; done
printf '\033]0;title\a[/INST] E: no space left\n' >&2
exit 100
"""


def test_a_failing_step_shows_its_last_lines_and_the_next_command(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 78: and a pod that is known stays as it was known."""
    before = pods_json()
    pod.install("apt-get", BROKEN_APT)
    result = pi("pods", "setup", "dc1")
    assert result.code == 1
    lines = result.err.splitlines()
    error = lines.index(next(line for line in lines if line.startswith("error: ")))
    tail = [line for line in lines[:error] if line.startswith("  ")]
    assert 5 < len(tail) <= 15
    assert "  [/INST] E: no space left" in tail
    assert lines[error].startswith("error: setup of `dc1` failed: ")
    again = f"then continue with `pi pods setup dc1 '{pod.ssh}'`"
    assert lines[error + 1 :] == [f"hint: its output is in {log_of('dc1')}; fix the cause, {again}"]
    assert pods_json() == before
    assert "E: no space left" in log_of("dc1").read_text()


def test_ctrl_c_ends_the_script_on_the_pod_too(pi: Pi, machine: EmbeddedPod) -> None:
    """Fault 77."""
    machine.install("uv", "#!/bin/sh\necho waiting for ever\nsetsid sleep 600 &\nsleep 601\n")
    command = [sys.executable, "-m", "pi_cli", "pods", "setup", "dc1", machine.ssh]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as setting_up:
        until(lambda: {"600", "601"} <= {process.command[-1] for process in machine.processes()})
        setting_up.send_signal(signal.SIGINT)
        _, said = setting_up.communicate(timeout=10)
        assert setting_up.returncode == 130
    until(lambda: machine.processes() == [])
    assert re.search(r"^dc1: [^:]+: stopped \(", said, re.MULTILINE)
    note = "note: setup of `dc1` was interrupted, and its processes there are stopped; run it again to continue\n"
    assert said.endswith(note)
    assert pi("pods", "--json").json == []


def test_the_models_of_a_machine_that_was_recreated_are_forgotten_and_no_others(
    pi: Pi, embed: Callable[..., EmbeddedPod]
) -> None:
    """Fault 10."""
    recreated, other = embed("dc1"), embed("dc2")
    model = {"model": "m", "port": 8001, "gpu": "0", "pid": 1}

    def add_models(state: Any) -> None:
        for pod in ("dc1", "dc2"):
            state["pods"][pod]["models"] = {"q": model}

    change_state(add_models)
    assert pi("pods", "setup", "dc1", "--accept-new-host-key").code == 0
    assert pods_json()["pods"]["dc1"]["models"] == {"q": model}, "its key is the one we know"
    recreated.new_host_key()
    recreated.install("nvidia-smi", "#!/bin/sh\nexit 9\n")
    failed = pi("pods", "setup", "dc1", "--accept-new-host-key")
    assert failed.code == 1
    assert "dc1: removed `q` from the list: its machine was replaced" in failed.err
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert pods_json()["pods"]["dc2"]["models"] == {"q": model}
    assert other.commands == []


def test_the_price_and_the_time_of_the_first_setup_stay_until_another_machine_has_the_name(
    pi: Pi, machine: EmbeddedPod
) -> None:
    def facts() -> Any:
        return {name: pods_json()["pods"]["dc1"].get(name) for name in ("price", "currency", "since")}

    assert pi("pods", "setup", "dc1", machine.ssh, "--price", "2,49 €").code == 0
    first = facts()
    assert (first["price"], first["currency"]) == (2.49, "€")
    assert abs(datetime.fromisoformat(first["since"]) - datetime.now(UTC)) < timedelta(minutes=5)
    change_state(lambda state: state["pods"]["dc1"].update(since="2026-01-31T13:30:00+00:00"))
    assert pi("pods", "setup", "dc1").code == 0
    assert facts() == {**first, "since": "2026-01-31T13:30:00+00:00"}
    machine.new_host_key()
    assert pi("pods", "setup", "dc1", "--accept-new-host-key", "--price", "$3/h").code == 0
    assert facts()["price"] == 3
    assert facts()["since"] >= first["since"], "the time of the new machine"
    assert pi("pods", "setup", "dc1", "--price", "none").code == 0
    assert facts()["price"] is None


def test_two_setups_of_one_name_leave_one_whole_entry(machine: EmbeddedPod) -> None:
    command = [sys.executable, "-m", "pi_cli", "pods", "setup", "dc1", machine.ssh]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [each.communicate(timeout=90)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert list(pods_json()["pods"]) == ["dc1"]
    assert len(pods_json()["pods"]["dc1"]["gpus"]) == 2


def test_a_pod_whose_disk_is_not_writable_says_so(pi: Pi, machine: EmbeddedPod) -> None:
    (machine.home / ".pi").write_text("a file in the way")
    result = pi("pods", "setup", "dc1", machine.ssh)
    assert result.code == 1
    assert f"error: setup of `dc1` failed: cannot store the setup script in {machine.home}/.pi: mkdir: " in result.err


def test_a_log_that_cannot_be_kept_stops_setup_with_its_path(pi: Pi, machine: EmbeddedPod) -> None:
    log_of("dc1").parent.parent.mkdir(parents=True)
    log_of("dc1").parent.write_text("a file in the way")
    result = pi("pods", "setup", "dc1", machine.ssh)
    assert result.code == 1
    assert f"error: cannot write `{log_of('dc1')}`: " in result.err


def test_a_rebooted_pod_gets_its_volume_mounted_again(pi: Pi, machine: EmbeddedPod) -> None:
    volume = machine.home / "volume"
    first = pi("pods", "setup", "dc1", machine.ssh, "--mount", f"mount -t nfs host:/share {volume}")
    assert first.code == 0, first.err
    assert pods_json()["pods"]["dc1"]["storage"]["mount"] == f"mount -t nfs host:/share {volume}"
    assert pi("ssh", "dc1", f"umount {volume}").code == 0
    again = pi("pods", "setup", "dc1")
    assert again.code == 0, again.err
    [mounting] = [line for line in steps_of(again.err) if line.startswith("dc1: Mounting")]
    assert mounting.startswith("dc1: Mounting the models volume: mounted ")
    assert pods_json()["pods"]["dc1"]["storage"]["mount"] == f"mount -t nfs host:/share {volume}"


def test_a_mount_command_with_a_password_is_not_remembered(pi: Pi, machine: EmbeddedPod) -> None:
    volume = machine.home / "volume"
    command = f"mount -t cifs -o username=me,password=hush //host/share {volume}"
    result = pi("pods", "setup", "dc1", machine.ssh, "--mount", command)
    assert result.code == 0, result.err
    assert "mount" not in pods_json()["pods"]["dc1"]["storage"]
    assert "the mount command seems to contain a secret and is not recorded" in result.err


@pytest.mark.parametrize("fails", [False, True])
def test_the_secret_of_a_mount_command_is_in_no_command_line_no_file_and_no_message(
    machine: EmbeddedPod, fails: bool
) -> None:
    """F15. Only the mount command itself may show it: `true` is one of the shell, without a process."""
    secret, volume = f"hush-{uuid4().hex}", machine.home / "volume"
    if fails:
        machine.install("mount", "#!/bin/sh\necho 'mount: not today' >&2; exit 32\n")
    command = f"mount -t nfs host:/share {volume} && true username=u,password={secret}"
    words = [sys.executable, "-m", "pi_cli", "--debug", "pods", "setup", "dc1", machine.ssh, "--mount", "-"]
    with watched_for(secret) as found:
        done = subprocess.run(words, input=command, capture_output=True, text=True)
    assert done.returncode == int(fails), done.stderr
    assert found == set()
    assert secret not in done.stdout + done.stderr
    assert ("--mount COMMAND`" in done.stderr) == fails
    folders = [machine.home, Path(os.environ["PI_CONFIG_DIR"]), log_of("dc1").parent]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert log_of("dc1") in files
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_the_environment_of_the_machine_does_not_choose_the_place_of_the_models(pi: Pi, machine: EmbeddedPod) -> None:
    """Every image of Vast sets HF_HOME, in a folder that is on no volume."""
    bashrc = [f"export {name}={machine.home}/{name}" for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")]
    (machine.home / ".bashrc").write_text("\n".join([*bashrc, "export UV_TORCH_BACKEND=cu118", ""]))
    result = pi("pods", "setup", "dc1", machine.ssh)
    assert result.code == 0, result.err
    names = "HF_HOME, HF_HUB_CACHE, UV_TORCH_BACKEND, XDG_CACHE_HOME"
    assert result.err.count(f"left out of the machine's environment: {names}.") == 1
    assert "storage" not in pods_json()["pods"]["dc1"]
    volume = machine.home / "volume"
    assert pi("pods", "setup", "dc1", "--models-path", str(volume)).code == 0
    assert pi("pods", "--check", "--json").json[0]["check"]["storage"]["path"] == str(volume)
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert started.code == 0, started.err
    assert list((volume / "huggingface/hub").glob("models--*"))
    assert not [name for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME") if (machine.home / name).exists()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_of_another_user_is_neither_read_nor_written(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path, is_link: bool
) -> None:
    own, other = pod.home / ".pi", tmp_path / "other"
    if own.exists():
        shutil.rmtree(own)
    place = other if is_link else own
    place.mkdir()
    (place / "env").write_text(f"touch {tmp_path}/ran\n")
    os.chown(place, 12345, 12345)
    os.chown(place / "env", 12345, 12345)
    if is_link:
        own.symlink_to(other)
    checked, listed, prepared = pi("pods", "--check"), pi("list"), pi("pods", "setup", "dc1")
    assert f"{place} belongs to another user, uid 12345: pi neither reads it nor writes to it" in checked.err
    assert "hint: move it away with `pi ssh dc1 mv .pi .pi.other`, then run `pi pods setup dc1`" in checked.err
    assert "belongs to another user" in listed.err
    assert f"cannot use {own}: it belongs to another user" in prepared.err
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in place.iterdir()] == ["env"]
