"""`pi pods setup NAME ssh …`: an ssh command without quotes, among the options of pi."""

import shlex
from typing import Any

import pytest
from typer.main import get_command

from pi_cli.commands.pods import app
from tests.conftest import Pi
from tests.every import every

SETUP: Any = get_command(app).commands["setup"]  # type: ignore[attr-defined]


def read(line: str) -> dict[str, Any]:
    """Return the values that `pi pods setup` gets from the words of a command line, without those not given."""
    context = SETUP.make_context("setup", shlex.split(line))
    return {name: value for name, value in context.params.items() if value not in (None, False)}


@every(
    [
        ("dc1 ssh -p 22 root@h", "ssh -p 22 root@h", {}),
        ("dc1 ssh root@h -p 22 -i ~/.ssh/key", "ssh root@h -p 22 -i '~/.ssh/key'", {}),
        ("dc1 root@h -p 22 -i key", "root@h -p 22 -i key", {}),
        ("dc1 -p 22 root@h", "-p 22 root@h", {}),
        ("dc1 root@h", "root@h", {}),
        ("dc1 gpu", "gpu", {}),
        ("dc1 h 22119", "h 22119", {}),
        # short options behind `ssh` are those of ssh
        ("dc1 ssh root@h -v", "ssh root@h -v", {}),
        ("dc1 ssh -v root@h", "ssh -v root@h", {}),
        ("-v dc1 ssh root@h", "ssh root@h", {"verbose": True}),
        ("dc1 -v ssh root@h", "ssh root@h", {"verbose": True}),
        ("dc1 ssh root@h -- -v", "ssh root@h", {"verbose": True}),
        ("dc1 ssh -p 22 root@h -- --cpu -v", "ssh -p 22 root@h", {"cpu": True, "verbose": True}),
        # long ones are those of pi: ssh has none
        ("dc1 ssh root@h --models-path /w", "ssh root@h", {"models_path": "/w"}),
        ("dc1 ssh --models-path=/w root@h --cpu", "ssh root@h", {"models_path": "/w", "cpu": True}),
        ("--cpu dc1 ssh root@h -p 22 --vllm nightly", "ssh root@h -p 22", {"cpu": True, "vllm": "nightly"}),
        ("dc1 ssh root@h -p 22 --mount 'mount -t nfs a:/b /c'", "ssh root@h -p 22", {"mount": "mount -t nfs a:/b /c"}),
        ("dc1 ssh root@h --port 22", "ssh root@h --port 22", {}),
        # in quotes, with options anywhere
        ("dc1 'ssh root@h -v' -v", "ssh root@h -v", {"verbose": True}),
        ("dc1 'ssh root@h' --cpu", "ssh root@h", {"cpu": True}),
        ("dc1 --cpu 'ssh root@h' -v", "ssh root@h", {"cpu": True, "verbose": True}),
        ("dc1 gpu -v", "gpu", {"verbose": True}),
        ("dc1 'ssh root@h' -p 22", "ssh root@h -p 22", {}),
        ("dc1 -- ssh://root@h", "ssh://root@h", {}),
        # words that hold more than one
        ("dc1 ssh -i 'my key' root@h", "ssh -i 'my key' root@h", {}),
        ("dc1 ssh -o 'ProxyCommand=nc %h %p' root@h", "ssh -o 'ProxyCommand=nc %h %p' root@h", {}),
        ("dc1 '$' ssh root@h", "ssh root@h", {}),
    ],
)
def test_what_follows_the_name_is_the_ssh_command(line: str, ssh: str, options: dict[str, Any]) -> None:
    assert read(line) == {"name": "dc1", "ssh": ssh} | options


def test_a_known_pod_needs_no_command() -> None:
    assert read("dc1 --vllm nightly") == {"name": "dc1", "vllm": "nightly"}


def test_a_misspelt_option_of_pi_is_not_taken_for_one_of_ssh(pi: Pi) -> None:
    result = pi("pods", "setup", "dc1", "ssh", "root@h", "--model-path", "/w")
    assert result.code == 2
    assert "--models-path" in result.err


def test_the_help_is_shown_behind_the_command_too(pi: Pi) -> None:
    assert "Usage: pi pods setup" in pi("pods", "setup", "dc1", "ssh", "root@h", "--help").out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["ssh", "root@h", "-p", "22"], "'ssh root@h -p 22'"), (["ssh root@h"], "'ssh root@h'"), (["root@h"], "root@h"),
        (["ssh", "root:hunter2@h"], "'ssh root:***@h'"),
        (["sshpass", "-p", "hunter2", "ssh", "h"], "'sshpass -p *** ssh h'"),
    ],
    ids=["ssh", "quoted", "host", "password", "sshpass"],
)  # fmt: skip
def test_a_command_without_a_name_is_refused_and_not_taken_for_one(
    pi: Pi, monkeypatch: pytest.MonkeyPatch, words: list[str], meant: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 20)
    result = pi("pods", "setup", *words)
    assert result.code == 2
    assert "the name of the pod is missing before its ssh command" in result.err
    assert f"`pi pods setup dc1 {meant}`" in result.err
    assert "hunter2" not in result.out + result.err


def test_a_hint_has_the_name_of_the_pod(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 20)
    result = pi("pods", "setup", "gpu1", "root@h", "22119")
    assert "`pi pods setup gpu1 'root@h -p 22119'`" in result.err
