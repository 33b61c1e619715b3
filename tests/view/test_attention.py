"""The bell and the user's command at the end of a long wait."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.errors import PiError
from pi_cli.view import attention
from tests.until import until
from tests.view.screen import drawn

RING = """
from pi_cli.view import attention
attention.call("start", "ready", ["dc1"], "q", {seconds})
"""
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]), file=open(os.environ['TO'], 'w'))"


def clock(*times: float) -> Callable[[], float]:
    left = list(times)
    return lambda: left.pop(0)


@pytest.mark.parametrize(("seconds", "rings"), [(59, 0), (61, 1)])
def test_after_a_long_wait_the_terminal_rings(seconds: int, rings: int) -> None:
    assert drawn(RING.format(seconds=seconds), width=80).raw.count("\a") == rings


def test_a_terminal_with_notifications_shows_what_has_ended() -> None:
    assert drawn(RING.format(seconds=90), width=80, TERM_PROGRAM="WezTerm", TMUX="").raw == (
        "\x1b]9;pi: q on dc1 is ready (1m30s)\x07"
    )
    assert drawn(RING.format(seconds=90), width=80, TERM_PROGRAM="WezTerm", TMUX="/tmp/tmux-0").raw == "\a"


def test_the_users_command_gets_what_has_ended_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, told = tmp_path / "tell me.py", tmp_path / "told"
    script.write_text(TELL)
    monkeypatch.setenv("TO", str(told))
    monkeypatch.setenv("PI_NOTIFY", f"python3 '{script}' $(touch x) ;")
    with pytest.raises(PiError), attention.afterwards("start", ["dc1", "dc2"], "q", clock=clock(0, 75)):
        raise PiError("no room")
    until(lambda: told.exists() and told.read_text().endswith("\n"))
    words, environ = json.loads(told.read_text())
    assert words == ["$(touch", "x)", ";", "pi: q on dc1, dc2 has failed (1m15s)"], "no shell reads it"
    assert {name: value for name, value in environ.items() if name.startswith("PI_NOTIFY_")} == {
        "PI_NOTIFY_EVENT": "start",
        "PI_NOTIFY_RESULT": "failed",
        "PI_NOTIFY_POD": "dc1 dc2",
        "PI_NOTIFY_MODEL": "q",
        "PI_NOTIFY_SECONDS": "75",
    }
    assert not {"PI_API_KEY", "HF_TOKEN"} & environ.keys()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["'", "/no/such/program"])
def test_a_command_that_cannot_run_is_a_note(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PI_NOTIFY", command)
    with attention.afterwards("setup", ["dc1"], clock=clock(0, 61)):
        pass
    assert capsys.readouterr().err.startswith("note: PI_NOTIFY could not be run: ")


def test_after_ctrl_c_nothing_rings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PI_NOTIFY", f"touch {tmp_path}/x")
    with pytest.raises(KeyboardInterrupt), attention.afterwards("setup", ["dc1"], clock=clock(0)):
        raise KeyboardInterrupt
    assert list(tmp_path.glob("x*")) == []
