"""`pi doctor`: what it finds, what it hides, and that it changes nothing."""

from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import KEY, TOKEN, Pi, pods_json
from tests.docs import json_page


def marks(out: str) -> dict[str, str]:
    """Return the mark of each check."""
    lines = [line for line in out.splitlines() if line[0] in "✓✗–"]
    return {line[2:16].strip(): line[0] for line in lines}


def test_a_machine_with_a_key_and_a_token_is_well(pi: Pi) -> None:
    result = pi("doctor")
    assert (result.code, result.err) == (0, "note: all is well\n")
    assert {marks(result.out)[check] for check in ("ssh", "asyncssh", "API key", "Hub token")} == {"✓"}
    assert json_page.problems("pi doctor --json", pi("doctor", "--json").out) == []


def test_what_is_missing_is_said_with_the_command_that_makes_it(pi: Pi) -> None:
    result = pi("doctor", PI_API_KEY="", HF_TOKEN="")
    assert result.code == 1
    assert "make a key with `pi key new`" in result.out
    assert result.err == "note: checks that failed: 2\n"


def test_each_pod_is_asked_and_nothing_is_changed(pi: Pi, pod: EmbeddedPod, environment: Path) -> None:
    state = pods_json()
    before = sorted(path for path in environment.rglob("*") if path.is_file())
    result = pi("doctor", "--json")
    assert json_page.problems("pi doctor --json", result.out) == []
    [asked] = result.json["pods"]
    assert (asked["name"], asked["reached"], asked["setup_by_this_pi"]) == ("dc1", True, None)
    assert pods_json() == state
    assert sorted(path for path in environment.rglob("*") if path.is_file()) == before
    assert pod.home.exists()


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_report_has_no_secret_and_hides_machines_and_people(
    pi: Pi, environment: Path, words: tuple[str, ...]
) -> None:
    (environment / ".pi").mkdir()
    ssh = "ssh -i /home/carol/.ssh/key -p 9 carol@no-such-host.example.com"
    (environment / ".pi" / "pods.json").write_text(f'{{"pods": {{"dc1": {{"ssh": "{ssh}"}}}}, "active": "dc1"}}')
    result = pi("doctor", *words)
    assert result.code == 1
    for identifying in (KEY, TOKEN, "carol", "no-such-host", "example.com", str(environment)):
        assert identifying not in result.out
    assert "HOST1" in result.out
    assert "no-such-host.example.com" in pi("doctor", "--no-redact").out


def test_a_folder_that_others_may_write_to_is_a_failure(pi: Pi, environment: Path) -> None:
    (environment / ".pi").mkdir()
    (environment / ".pi").chmod(0o777)
    result = pi("doctor")
    assert (result.code, marks(result.out)["folder"]) == (1, "✗")
    assert "`chmod go-w ~/.pi`" in result.out
