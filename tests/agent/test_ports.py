"""Who listens on a port, from the kernel's own table."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

from agent import ports
from agent.processes import Process

OURS = [Process(os.getpid(), 0)]
OTHER = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


def test_a_listener_is_found_among_many_without_reading_all_sockets() -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(40)]
        numbers = [each.getsockname()[1] for each in listeners]
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", number))) for number in numbers]
        found = [ports.first_listener(number) for number in numbers]
        assert found == [{number: ports.listening_sockets()[number]} for number in numbers]
        assert all(ports.is_owner_now(OURS, number) for number in numbers)
        assert not any(ports.is_owner_now(OURS, each.getsockname()[1]) for each in clients)
    assert all(ports.first_listener(number) != before for number, before in zip(numbers, found, strict=True))


def test_a_listener_of_another_process_is_not_ours() -> None:
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline())
        assert not ports.is_owner_now(OURS, port)
        assert ports.is_owner_now([*OURS, Process(process.pid, 0)], port)
        process.stdin.close()
