"""What the machine knows about a model that died while it started: what the kernel killed, and the memory then."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.agent.machine import Machine

V2 = "0::/pod\n"
V1 = "9:name=systemd:/\n4:memory:/docker/unseen\n0::/\n"
MEMORY = "MemTotal:       64000000 kB\nMemFree:          100000 kB\nMemAvailable:     {available} kB\n"
KILLED = "Out of memory: Killed process 77 (VLLM::EngineCor) total-vm:1kB, anon-rss:63000000kB"
XID = "NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', GPU has fallen off the bus."


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(machine: Machine) -> Path:
    """The files of a machine whose kernel has killed three processes so far, and shows nobody its log."""
    root = machine.home.parent / "root"
    machine.environ.update(PI_MACHINE_ROOT=str(root), PATH=f"{machine.home}/tools:{os.environ['PATH']}")
    write(root / "proc/self/cgroup", V2)
    write(root / "proc/vmstat", "pgfault 1\noom_kill 3\n")
    write(root / "proc/meminfo", MEMORY.format(available=32000000))
    write(root / "sys/fs/cgroup/cgroup.controllers", "memory\n")
    write(root / "sys/fs/cgroup/pod/memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 0\n")
    write(root / "sys/fs/cgroup/pod/memory.max", "8000000000\n")
    write(root / "sys/fs/cgroup/pod/memory.current", "7000000000\n")
    write(root / "sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 500000000\n")
    for program in ("dmesg", "journalctl"):
        logs(machine, program, "dmesg: read kernel buffer failed: Operation not permitted", code=1)
    return root


def logs(machine: Machine, program: str, *lines: str, code: int = 0) -> None:
    """Let a program show lines of the kernel's log, the first of them from long before the launch."""
    stamped = "".join(f'echo "[$(cut -d" " -f1 /proc/uptime)] {line}"\n' for line in lines)
    script = write(
        machine.home / "tools" / program, f'#!/bin/sh\necho "[    1.000000] {KILLED}"\n{stamped}exit {code}\n'
    )
    script.chmod(0o755)


def death(machine: Machine, *commands: str) -> dict[str, Any]:
    """Start a vLLM that does this and then dies, and return what is known about it."""
    machine.install("vllm", "#!/bin/sh\n" + "\n".join([*commands, "kill -9 $$"]) + "\n")
    result = machine.start(wait=True)["result"]
    assert (result["state"], result["signal"]) == ("exited", 9)
    found: dict[str, Any] = result["death"]
    return found


def test_what_the_kernel_has_killed_since_the_launch_is_counted(machine: Machine, root: Path) -> None:
    found = death(
        machine,
        f"echo 'oom_kill 5' > {root}/sys/fs/cgroup/pod/memory.events",
        f"echo 'oom_kill 4' > {root}/proc/vmstat",
    )
    assert (found["kills"], found["machine_kills"]) == (2, 1)
    assert (found["limit"], found["least"], found["total"]) == (8 * 10**9, 15 * 10**8, 64_000_000 * 1024)
    assert (found["is_log_readable"], found["kernel"]) == (False, [])


def test_a_machine_that_killed_nothing_says_so(machine: Machine, root: Path) -> None:
    assert root.exists()
    found = death(machine)
    assert (found["kills"], found["machine_kills"]) == (0, 0)


def test_in_a_container_with_cgroups_of_version_1(machine: Machine, root: Path) -> None:
    """The cgroup's own path is one of the host, which the container does not see."""
    write(root / "proc/self/cgroup", V1)
    folder = root / "sys/fs/cgroup/memory"
    write(folder / "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    write(folder / "memory.limit_in_bytes", "9223372036854771712\n")
    write(folder / "memory.usage_in_bytes", "7000000000\n")
    found = death(machine, f"echo 'oom_kill 2' > {folder}/memory.oom_control")
    assert (found["kills"], found["limit"], found["least"]) == (1, None, 32_000_000 * 1024)


@pytest.mark.parametrize("program", ["dmesg", "journalctl"])
def test_telling_lines_of_the_kernels_log_since_the_launch(machine: Machine, root: Path, program: str) -> None:
    assert root.exists()
    logs(machine, program, "usb 1-1: new device", XID, KILLED)
    found = death(machine)
    assert found["is_log_readable"]
    assert found["kernel"] == [XID, KILLED], "and nothing from before the launch"


def test_a_log_of_any_length_is_cut(machine: Machine, root: Path) -> None:
    assert root.exists()
    logs(machine, "dmesg", *[f"{KILLED} {number} {'x' * 400}" for number in range(9)])
    kernel = death(machine)["kernel"]
    assert [len(line) for line in kernel] == [300] * 5


def test_a_program_that_hangs_is_not_waited_for(machine: Machine, root: Path) -> None:
    assert root.exists()
    write(machine.home / "tools/dmesg", "#!/bin/sh\nexec sleep 300\n").chmod(0o755)
    logs(machine, "journalctl", XID)
    assert death(machine)["kernel"] == [XID]


def test_where_nothing_can_be_read_nothing_is_known(machine: Machine, root: Path) -> None:
    for name in ("self/cgroup", "vmstat", "meminfo"):
        (root / "proc" / name).unlink()
    found = death(machine)
    assert found["kernel"] == []
    assert (found["kills"], found["machine_kills"], found["least"], found["total"]) == (None, None, None, None)
