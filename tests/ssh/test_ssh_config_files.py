"""Hosts that match the same patterns share one `ssh -G`; the settings are those that each would get alone."""

import asyncio
import shutil
from pathlib import Path

import pytest

from pi_cli.errors import PiError
from pi_cli.ssh import ssh_command, ssh_config, ssh_config_files
from pi_cli.ssh.ssh_config import Destination

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") != ssh_config_files.SYSTEM_SSH, reason="no ssh with a known configuration"
)

ALIASES = "Host pod-*\n  HostName 10.1.2.3\n  User me\nHost *\n  ServerAliveInterval 7\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts for which `ssh -G` was run."""
    hosts: list[str] = []
    run = ssh_config._run_ssh_g

    async def count(command: ssh_command.SshCommand) -> ssh_config_files.Settings:
        hosts.append(command.host)
        return await run(command)

    monkeypatch.setattr(ssh_config, "_run_ssh_g", count)
    return hosts


def destinations(*commands: str) -> list[Destination]:
    async def all_at_once() -> list[Destination]:
        routes = await asyncio.gather(*(ssh_config.route(ssh_command.parse(command)) for command in commands))
        return [route[-1] for route in routes]

    return asyncio.run(all_at_once())


def one_by_one(*commands: str) -> list[Destination]:
    return [destinations(command)[0] for command in commands]


def configure(home: Path, text: str) -> None:
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh/config").write_text(text)


@pytest.mark.parametrize(
    ("config", "commands", "count"),
    [
        ("", ["ssh root@10.0.0.1", "ssh root@10.0.0.2", "ssh root@Some.Host"], 1),
        ("", ["ssh root@10.0.0.1 -p 40022", "ssh me@10.0.0.2 -p 40023"], 1),
        ("Port 2222\nUser me\n", ["ssh h-1", "ssh h-2", "ssh -p 22 h-3", "ssh -p 23 h-4", "ssh root@h-5"], 3),
        ("", [f"ssh -o IdentityFile=/k/{key} root@10.0.0.{number}" for number, key in enumerate("aba")], 2),
        ("", ["ssh -i /missing/a root@10.0.0.1", "ssh -i /missing/b root@10.0.0.2"], 1),
        (ALIASES, ["ssh pod-1", "ssh pod-2", "ssh other"], 2),
        ("Host pod-1\n  HostName pod-1\nHost pod-*\n  Port 7\n", ["ssh pod-1", "ssh pod-2", "ssh pod-3"], 2),
        ("Host pod-*\n  HostName pod-1\n", ["ssh pod-1", "ssh pod-2", "ssh pod-3"], 2),
        ("Host a* !ab\n  Port 7\n", ["ssh aa", "ssh ab", "ssh ac"], 2),
        ("Include more\n", ["ssh x1", "ssh x2", "ssh y"], 2),
        ("IdentityFile /keys/a\n", ["ssh a", "ssh b", "ssh c"], 3),  # the settings of `a` may contain its name
        ("Match host x\n  Port 7\n", ["ssh x", "ssh y", "ssh z"], 3),
        ("HostName %h.example.com\n", ["ssh x", "ssh y"], 2),
        ("CanonicalizeHostname no\n", ["ssh x", "ssh y"], 2),
        ("Include ${HOME}/.ssh/more\n", ["ssh x", "ssh y"], 2),
    ],
)
def test_each_host_gets_the_settings_that_it_would_get_alone(
    environment: Path, asked: list[str], config: str, commands: list[str], count: int
) -> None:
    configure(environment, config)
    (environment / ".ssh/more").write_text("Host x*\n  Port 7\n")
    together = destinations(*commands)
    assert len(asked) == count
    assert together == one_by_one(*commands)


def test_a_configuration_that_ssh_refuses_is_refused_for_all(environment: Path) -> None:
    configure(environment, "Nonsense yes\n")
    for command in ("ssh a", "ssh b"):
        with pytest.raises(PiError, match="Bad configuration option"):
            destinations(command, "ssh c")


def test_a_changed_configuration_counts_for_the_next_run(environment: Path) -> None:
    configure(environment, "Port 7\n")
    assert destinations("ssh a")[0].port == 7
    configure(environment, "Port 8\n")
    assert destinations("ssh a")[0].port == 8
