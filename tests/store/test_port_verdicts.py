"""What is remembered of public ports: private, bounded, gone with the pod, and no more than a convenience."""

import stat
import time
from pathlib import Path

import pytest

from pi_cli.store import paths, port_verdicts, rows
from pi_cli.store.port_verdicts import PortVerdict

NOW = time.time()
KNOWN = PortVerdict("dc1", "1.2.3.4", 8001, "u1", answers=True, at=NOW)


def remember(*verdicts: PortVerdict) -> Path:
    port_verdicts.remember(verdicts, forget=lambda verdict: verdict.uid == "gone")
    return paths.config_dir() / "ports.json"


def test_the_file_is_private_and_keeps_the_newest_of_each_port() -> None:
    newer = PortVerdict("dc1", "1.2.3.4", 8001, "u1", answers=False, at=NOW + 1)
    other = PortVerdict("dc1", "1.2.3.4", 8002, "gone", answers=True, at=NOW)
    remember(KNOWN, other)
    file = remember(newer)
    assert port_verdicts.load() == [newer]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_does_not_grow_without_end() -> None:
    many = [PortVerdict("dc1", "h", 8001, f"u{number}", answers=True, at=NOW) for number in range(rows.MAX_ROWS + 5)]
    remember(*many)
    assert port_verdicts.load() == many[5:]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, null]",
        '{"pod": "dc1"}',
        '[{"pod": "dc1", "host": "h", "port": "8001", "uid": "u", "answers": true, "at": 1}]',
        '[{"pod": "dc1", "host": "h", "port": 70000, "uid": "u", "answers": true, "at": 1}]',
        '[{"pod": "dc1", "host": "h", "port": 8001, "uid": "u", "answers": 1, "at": 1}]',
        '[{"pod": ["dc1"], "host": "h", "port": 8001, "uid": "u", "answers": true, "at": 1}]',
        '[{"pod": "dc1", "host": "h", "port": 8001, "uid": "u", "answers": true, "at": "now"}]',
    ],
)
def test_a_broken_file_is_nothing_remembered(text: str) -> None:
    file = paths.config_dir() / "ports.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert port_verdicts.load() == []
    remember(KNOWN)
    assert port_verdicts.load() == [KNOWN]


def test_it_goes_with_the_pod_and_with_the_model() -> None:
    others = [PortVerdict("dc1", "h", 8002, "u2", answers=True, at=NOW), PortVerdict("dc2", "h", 8001, "u1", True, NOW)]
    remember(KNOWN, *others)
    port_verdicts.forget("dc1", ["u1", None])
    assert port_verdicts.load() == others
    port_verdicts.rename_pod("dc1", "h100")
    assert [each.pod for each in port_verdicts.load()] == ["h100", "dc2"]
    port_verdicts.forget("h100")
    assert port_verdicts.load() == others[1:]


@pytest.mark.parametrize("at", [NOW - port_verdicts.MAX_AGE, NOW + 3600], ids=["old", "from the future"])
def test_what_is_too_old_is_not_known(at: float) -> None:
    assert PortVerdict("dc1", "h", 8001, "u1", answers=True, at=at).age is None
