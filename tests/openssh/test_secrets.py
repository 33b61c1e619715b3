"""Where the API key and the Hub token go, and where they never are."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.command_lines import watched_for
from tests.conftest import Pi
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, QUICK, TOOLS, downloads, living, pi_at
from tests.openssh.conftest import Prepare
from tests.until import until


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The user's key and token: such as nobody else on this machine has."""
    chosen = {"PI_API_KEY": f"key-{uuid4().hex}", "HF_TOKEN": f"hf_{uuid4().hex}"}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    return chosen


def files_with(secrets: dict[str, str], pod: OpensshPod) -> str:
    places = "/root /tmp /var /run /etc /dev/shm /home /srv"
    return pod.run(f"grep -rlF -f - --devices=skip {places}", input="\n".join(secrets.values())).stdout


def log_commands(pod: OpensshPod) -> Path:
    """Let root's login shell write down what it is asked to run."""
    pod.install("logging-shell", '#!/bin/bash\necho "$@" >> /var/log/commands\nexec bash "$@"\n')
    pod.check("usermod --shell /usr/local/bin/logging-shell root")
    return pod.root / "var/log/commands"


def test_no_command_line_no_file_and_no_log_ever_holds_a_secret(
    pi: Pi, prepare: Prepare, secrets: dict[str, str]
) -> None:
    """Security checks 1, 2, 3, 4, 5, 7, 8 and 23."""
    pod = prepare(registered=False)
    prepared.simulate_installers(pod)
    log = log_commands(pod)
    commands = [
        ["pods", "setup", "dc1", pod.ssh],
        ["start", MODEL, "--name", "q", *QUICK, *TOOLS],
        ["start", MODEL, "--name", "r", "--vllm", "--simulate", "fail=oom"],
        ["list"],
        ["logs", "q", "--no-follow"],
        ["prompt", "q", "What is 2+2?"],
    ]
    with watched_for(*secrets.values()) as found:
        results = [pi(*words) for words in commands]
        found_in_files = files_with(secrets, pod)
        results.append(pi("stop", "q"))
    assert [result.code for result in results] == [0, 0, 4, 0, 0, 0, 0], results
    assert found == set()
    assert found_in_files + files_with(secrets, pod) == ""
    assert "python3" in log.read_text()  # it did write
    said = [text for result in results for text in (result.out, result.err)]
    config = Path(os.environ["PI_CONFIG_DIR"])
    said += [path.read_text(errors="replace") for path in config.rglob("*") if path.is_file()]
    assert not [text for text in said if any(secret in text for secret in secrets.values())]
    assert pod.check("find ~/.pi ~/.vllm_logs ! -type l -perm /077") == ""


def test_a_secret_on_a_command_line_or_in_a_file_would_be_found(pod: OpensshPod, secrets: dict[str, str]) -> None:
    key = secrets["PI_API_KEY"]
    careless = [sys.executable, "-c", "input()", key]
    with (
        watched_for(*secrets.values()) as found,
        subprocess.Popen(careless, stdin=subprocess.PIPE) as running,
    ):
        until(lambda: found)
        running.communicate(b"\n")
    (pod.home / "careless").write_text(f"export PI_API_KEY={key}\n")
    assert files_with(secrets, pod) == "/root/careless\n"


def test_the_token_is_for_the_download_only_and_the_key_for_the_server_only(
    pi: Pi, pod: OpensshPod, secrets: dict[str, str]
) -> None:
    """Security check 6."""
    prepared.pace_downloads(pod, seconds=2)
    with pi_at("downloading", "start", MODEL, "--name", "q", *QUICK) as starting:
        until(lambda: any("HF_TOKEN" in each.environ for each in downloads(pod)))
        [download] = downloads(pod)
        assert download.environ["HF_TOKEN"] == secrets["HF_TOKEN"]
        assert secrets["PI_API_KEY"] not in download.environ.values()
        starting.communicate()
    assert starting.returncode == 0
    assert {each.environ["VLLM_API_KEY"] for each in living(pod)} == {secrets["PI_API_KEY"]}
    assert not [each for each in living(pod) if secrets["HF_TOKEN"] in each.environ.values()]
    assert pi("stop", "q").code == 0
