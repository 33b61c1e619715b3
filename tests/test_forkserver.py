"""A fork of the `pi` fixture is what a new process is."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests import executables
from tests.conftest import Pi
from tests.forkserver import Run, in_a_new_process


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--version"], {}),
        (["nonsense"], {}),
        (["pods", "active", "nobody"], {}),
        (["models", "Qwen/Qwen3-8B", "--gpu", "1x L4"], {"COLUMNS": "40"}),
        (["list", "--json"], {}),
        (["ssh", "dc1", "cat; echo no >&2; exit 7"], {}),
    ],
)
def test_it_says_the_same_and_ends_the_same(
    words: list[str], environ: dict[str, str], run_pi: Run, pod: EmbeddedPod
) -> None:
    del pod
    forked, new = (
        run(words, input="yes\n", timeout=60, environ=os.environ | environ) for run in (run_pi, in_a_new_process)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)


def test_what_takes_too_long_is_killed(pi: Pi, pod: EmbeddedPod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
        config.write_text(config.read_text().replace(f"-p {pod.port} ", f"-p {port} "))
        with pytest.raises(subprocess.TimeoutExpired):
            pi("list", timeout=1)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(10)
            while connection.recv(4096):  # ends when the other end is closed everywhere
                pass


@pytest.mark.usefixtures("pod")
def test_the_signal_that_has_killed_it_is_its_end(pi: Pi, tmp_path: Path) -> None:
    executables.put(tmp_path / "ssh", "#!/bin/sh\nkill -KILL $$\n")
    assert pi("ssh", "dc1", PATH=f"{tmp_path}:{os.environ['PATH']}").code == -signal.SIGKILL
