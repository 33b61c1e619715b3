"""The agent's test of the connection between two machines, here on the loopback."""

import json
import socket
import subprocess
from typing import Any

from tests.agent.machine import Machine, messages

REQUEST: dict[str, Any] = {"addresses": [], "ports": [], "nonce": "", "seconds": 0.0}


def listening(machine: Machine) -> "tuple[subprocess.Popen[bytes], int]":
    request = REQUEST | {"action": "listen", "addresses": ["127.0.0.1"], "nonce": "n1", "seconds": 30.0}
    process = machine.open("network", **request)
    assert process.stdout
    line = b""
    while b"listening" not in line:
        line = process.stdout.readline()
    [port] = json.loads(line.partition(b"pi ")[2])["ports"]
    return process, port


def dial(machine: Machine, port: int, nonce: str) -> Any:
    request = REQUEST | {"action": "dial", "addresses": ["127.0.0.1"], "ports": [port], "nonce": nonce, "seconds": 0.1}
    [link] = machine.ask("network", **request)["result"]["links"]
    return link


def test_two_machines_with_the_same_nonce_measure_the_connection_between_them(machine: Machine) -> None:
    process, port = listening(machine)
    with process:
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:  # is not answered, and stops nobody
            stranger.sendall(b"x" * 32)
            assert stranger.recv(1) == b""
        assert dial(machine, port, "n2") == {
            "address": "127.0.0.1",
            "rate": None,
            "reason": "another machine has this address",
        }
        link = dial(machine, port, "n1")
        assert link["rate"] > 1e6
        process.communicate(timeout=10)  # the end of stdin ends the test
    refused = dial(machine, port, "n1")
    assert (refused["rate"], refused["reason"]) == (None, "Connection refused")


def test_addresses_are_those_of_the_provider_first_and_never_of_the_loopback(machine: Machine) -> None:
    found = machine.ask("network", **REQUEST, action="addresses")["result"]
    assert found["simulated"] is False
    assert all(not each["address"].startswith("127.") for each in found["addresses"])
    root = machine.home / "machine"
    (root / "proc" / "1").mkdir(parents=True)
    for each in found["addresses"][-1:]:
        (root / "proc" / "1" / "environ").write_text(f"A=b\0NODE_ADDR={each['address']}\0")
        machine.environ["PI_MACHINE_ROOT"] = str(root)
        again = machine.ask("network", **REQUEST, action="addresses")["result"]["addresses"]
        assert again[0] == each | {"variable": "NODE_ADDR"}


def test_an_embedded_pod_has_the_address_that_it_is_given(machine: Machine) -> None:
    machine.environ["PI_DEMO_ADDRESS"] = "127.0.0.9"
    found = machine.ask("network", **REQUEST, action="addresses")["result"]
    assert (found["simulated"], found["addresses"]) == (
        True,
        [{"address": "127.0.0.9", "interface": "lo", "variable": ""}],
    )


def test_a_listener_ends_by_itself(machine: Machine) -> None:
    request = REQUEST | {"action": "listen", "addresses": ["127.0.0.1"], "nonce": "n", "seconds": 0.1}
    with machine.open("network", **request) as process:
        assert process.stdout
        assert messages(process.stdout.read())[-1]["result"]["links"] == []
