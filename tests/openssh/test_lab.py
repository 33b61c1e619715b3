"""The openssh pods are what they say they are, and leave nothing behind."""

import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import network
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod
from tests.until import until

ROOT = Path(__file__).parents[2]


def ssh(pod: OpensshPod, *command: str, options: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command through the plain ssh client, believing any host key and remembering none."""
    believing = (
        "-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    argv = [*shlex.split(f"{pod.ssh} {believing} {options}"), *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def host_key(pod: OpensshPod) -> str:
    """Return the key that the machine shows to a client."""
    argv = ["ssh-keyscan", "-t", "ed25519", "-p", str(pod.port), pod.address]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[-1]


def arguments(pod: OpensshPod) -> list[list[str]]:
    return [process.args for process in pod.processes()]


def traces_on_the_host(pod_address: str) -> str:
    """Return every line about the pod's network that the host's tables still have."""
    commands = (["ip", "address"], ["iptables", "-S"], ["iptables", "-t", "nat", "-S"])
    tables = "\n".join(subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands)
    slot = pod_address.split(".")[2]
    marks = (f"10.86.{slot}.", f"pilab{slot} ", f"pilab{slot}@", f"pilab{slot}:")
    return "\n".join(line for line in tables.splitlines() if any(mark in line for mark in marks))


def test_two_pods_are_two_machines_for_the_plain_ssh_client(two_openssh_pods: list[OpensshPod]) -> None:
    first, second = two_openssh_pods
    assert ssh(first, "hostname; id -un").stdout == "dc1\nroot\n"
    assert ssh(second, "hostname; id -un").stdout == "dc2\nroot\n"
    assert host_key(first) != host_key(second)


def test_a_pod_refuses_the_key_of_another_pod(two_openssh_pods: list[OpensshPod]) -> None:
    first, second = two_openssh_pods
    first.key.write_text(second.key.read_text())
    refused = ssh(first, "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_pods_share_neither_processes_nor_files_nor_ports(two_openssh_pods: list[OpensshPod]) -> None:
    first, second = two_openssh_pods
    ssh(first, "setsid sleep 1234 > /dev/null 2>&1 < /dev/null & echo mine > /tmp/mine; echo mine > /dev/shm/mine")
    ssh(first, "/usr/sbin/sshd -p 8001 -o PidFile=none")
    first.sshd_config(Port=2222)
    first.restart_sshd()

    until(lambda: ["sleep", "1234"] in arguments(first), "setsid has become sleep")
    assert ["sleep", "1234"] not in arguments(second)
    assert ssh(second, "cat /tmp/mine /dev/shm/mine").stdout == ""
    assert first.listening() == {2222, 8001}
    assert second.listening() == {22}


def test_a_pod_is_bare(openssh_pod: OpensshPod) -> None:
    assert ssh(openssh_pod, "type -P python3 curl wget uv gcc nvidia-smi").stdout == ""


def test_processes_show_arguments_and_environment_as_root_on_the_pod_sees_them(openssh_pod: OpensshPod) -> None:
    pid = int(ssh(openssh_pod, "PI_MARK='a b' setsid sleep 1234 > /dev/null 2>&1 < /dev/null & echo $!").stdout)
    until(lambda: ["sleep", "1234"] in arguments(openssh_pod), "setsid has become sleep")
    process = next(process for process in openssh_pod.processes() if process.pid == pid)
    assert process.args == ["sleep", "1234"]
    assert process.environ["PI_MARK"] == "a b"
    assert process.environ["USER"] == "root"


def test_etc_environment_reaches_commands_without_a_terminal(openssh_pod: OpensshPod) -> None:
    with (openssh_pod.root / "etc/environment").open("a") as variables:
        variables.write("PI_MARK=a b=c\n")
    assert "PI_MARK=a b=c\n" in ssh(openssh_pod, "env").stdout
    assert "PI_MARK=a b=c\n" in openssh_pod.run("env").stdout


def test_a_pod_gives_terminals(openssh_pod: OpensshPod) -> None:
    assert ssh(openssh_pod, "tty", options="-tt").stdout == "/dev/pts/0\n"
    assert ssh(openssh_pod, "tty").stdout == "not a tty\n"


def test_a_pod_reaches_the_package_mirrors_that_the_host_reaches(openssh_pod: OpensshPod) -> None:
    update = openssh_pod.run("apt-get update --error-on=any", timeout=300)
    assert update.returncode == 0, update.stdout + update.stderr


def test_a_pod_trusts_every_certificate_that_the_host_trusts(openssh_pod: OpensshPod) -> None:
    pod_bundle = (openssh_pod.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    certificates = Path("/etc/ssl/certs/ca-certificates.crt").read_text().split("-----END CERTIFICATE-----\n")
    assert [certificate for certificate in certificates if certificate not in pod_bundle] == []

    openssh_pod.check("update-ca-certificates")
    regenerated = (openssh_pod.root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert [certificate for certificate in certificates if certificate not in regenerated] == []


def test_a_pod_reaches_a_server_on_the_host(openssh_pod: OpensshPod) -> None:
    with socket.create_server((openssh_pod.host, 0)) as server:
        asked = openssh_pod.run(f"exec 3<>/dev/tcp/{openssh_pod.host}/{server.getsockname()[1]}")
    assert asked.returncode == 0, asked.stderr


def test_shared_directories_are_the_hosts_own(openssh_lab: OpensshLab, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "from-host").write_text("hello")
    with openssh_lab.pod(share=[(shared, Path("/srv/shared"))]) as pod:
        assert ssh(pod, "cat /srv/shared/from-host; echo hello > /srv/shared/from-pod").stdout == "hello"
    assert sorted(path.name for path in shared.iterdir()) == ["from-host", "from-pod"]


def test_sshd_obeys_options_set_by_a_test(openssh_pod: OpensshPod) -> None:
    openssh_pod.sshd_config(ForceCommand="echo only this")
    openssh_pod.restart_sshd()
    assert ssh(openssh_pod, "hostname").stdout == "only this\n"
    openssh_pod.sshd_config()
    openssh_pod.restart_sshd()
    assert ssh(openssh_pod, "hostname").stdout == "dc1\n"


def test_a_stopped_sshd_refuses_connections_and_a_restarted_one_accepts_them(openssh_pod: OpensshPod) -> None:
    openssh_pod.stop_sshd()
    assert "Connection refused" in ssh(openssh_pod, "true").stderr
    openssh_pod.restart_sshd()
    assert ssh(openssh_pod, "true").returncode == 0


def test_a_new_host_key_is_what_clients_see(openssh_pod: OpensshPod) -> None:
    before = host_key(openssh_pod), openssh_pod.fingerprint()
    openssh_pod.new_host_key()
    after = host_key(openssh_pod), openssh_pod.fingerprint()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(("reaping", "state"), [(True, None), (False, "Z")])
def test_dead_orphans_stay_only_where_the_first_process_does_not_reap(
    openssh_lab: OpensshLab, reaping: bool, state: str | None
) -> None:
    with openssh_lab.pod(reaping=reaping) as pod:
        orphan = int(pod.run("setsid sleep 1234 > /dev/null 2>&1 & echo $!").stdout)
        until(lambda: orphan in {process.pid for process in pod.processes()}, "the orphan runs")
        pod.run(f"kill -9 {orphan}")
        until(lambda: {p.pid: p.state for p in pod.processes()}.get(orphan) == state, f"the orphan's state is {state}")


def test_the_simulated_nvidia_smi_answers_what_is_asked(openssh_pod: OpensshPod) -> None:
    openssh_pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    asked = "nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits"
    assert ssh(openssh_pod, asked).stdout == "0, NVIDIA H100 80GB HBM3, 81559\n"
    assert ssh(openssh_pod, "nvidia-smi --query-gpu=compute_cap,power.limit --format=csv").stdout == (
        "compute_cap, power.limit [W]\n9.0, 700.00 W\n"
    )
    assert ssh(openssh_pod, "nvidia-smi --query-gpu=colour --format=csv").returncode == 2


def test_a_closed_pod_leaves_no_process_no_network_and_no_files(openssh_lab: OpensshLab) -> None:
    pod = openssh_lab.pod()
    ssh(pod, "setsid sleep 1234.5 > /dev/null 2>&1 < /dev/null &")
    inside = pod.root / "proc"
    assert traces_on_the_host(pod.address) != ""

    pod.close()

    assert not inside.exists()
    assert "sleep\0001234.5" not in every_command_line()
    assert traces_on_the_host(pod.address) == ""
    assert not pod.key.parent.exists()
    assert str(pod.key.parent) not in Path("/proc/mounts").read_text()


@pytest.mark.usefixtures("openssh_lab")
def test_pods_end_with_a_killed_test_run_and_the_next_run_cleans_up() -> None:
    script = """
import sys
from tests.lab.openssh import OpensshLab
from tests.until import until
with OpensshLab() as lab:
    pod = lab.pod()
    pod.run("setsid sleep 1234.75 > /dev/null 2>&1 < /dev/null &")
    print(pod.address, pod.root, pod.key, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        address, root, key = run.stdout.readline().split()
        until(lambda: "sleep\0001234.75" in every_command_line(), "the pod's process runs")
        run.send_signal(signal.SIGKILL)
    until(lambda: not Path(root).exists(), "the pod's first process is gone")
    until(lambda: "sleep\0001234.75" not in every_command_line(), "the pod's processes are gone")

    network.sweep()  # what a lab does first

    assert traces_on_the_host(address) == ""
    assert not Path(key).parent.exists()


def every_command_line() -> str:
    """Return the arguments of everything that runs on the host, its pods included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return "\n".join(found)
